# SPDX-License-Identifier: Apache-2.0
"""Datagrams in fragments: all of each at one backend, the one that `explain` names for its flow, by whichever path."""

import ipaddress
import itertools
import os
import random
import select
import signal
import socket
import struct
import time

import pytest

from sluicelab.run import wait_for

PORT = 5300
WAYS = [("l2", 4, 4), ("l2", 6, 6), ("ipip", 4, 4), ("ipip", 6, 4), ("ipip", 6, 6), ("gue", 4, 4), ("gue", 6, 6)]
# One VIP for each way of a family.
VIP = {way: 1 + i for i, way in enumerate(WAYS)}
BYTES = 8192
# With the outer headers a fragment fits 1500: IPv6, UDP.
FRAGMENT_BYTES = 1400
# A worker, or we, without a core for 50 ms: what was to be held for as long is lost.
MISHAPS = 0.05
# Identifications: none comes twice, not in another test either (an old first fragment would be remembered).
NUMBERS = itertools.count(1)
TOGETHER = 8  # datagrams whose fragments are shuffled: fewer fragments than a worker holds


def prepare(lab, **settings):
    lab.start_servers(udp_ports=(PORT,))
    lab.open_tunnels()
    lab.balancer.configure(
        [lab.service("{}-{}in{}".format(*way), lab.vip(way[1], VIP[way]), PORT, protocol="udp", forward=way[0],
                     family=way[2], weights=(100, 200, 300)) for way in WAYS], **settings)
    # What the client's kernel sends in fragments fits a tunnel.
    lab.client.namespace.ip(f"""
        route replace default via 203.0.113.1 mtu {FRAGMENT_BYTES}
        route replace default via 2001:db8:c::1 mtu {FRAGMENT_BYTES}
        """)
    return lab


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = prepare(make_lab(queues=2), dataplane={"cores": list(range(min(2, os.cpu_count()))), "idle": "sleep",
                                                 "hugepages": False})
    lab.balancer.start()
    lab.balancer.wait_backends()
    # Only a worker holds what comes too early.
    wait_for("the dataplane has its sockets in",
             lambda: "receives what the XDP program redirects" in lab.balancer.dataplane.text(), 20)
    return lab


@pytest.fixture(scope="module")
def alone(make_lab):
    """A balancer that has no dataplane at all."""
    lab = prepare(make_lab(), interfaces=[{"name": "eth0", "path": "xdp"}])
    lab.balancer.start_controlplane()
    lab.balancer.wait_backends()
    return lab


@pytest.fixture(scope="module")
def both(make_lab):
    """One queue: the paths take turns at all that comes."""
    lab = prepare(make_lab())
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[:len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def fragments(link, source, sport, target, payload, identification):
    """Whole Ethernet frames, in order. link: the two MAC addresses, as they stand in the frame."""
    source, target = ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed
    length = 8 + len(payload)
    pseudo = source + target + (struct.pack("!BBH", 0, 17, length) if len(source) == 4 else struct.pack("!II", length, 17))
    udp = struct.pack("!HHHH", sport, PORT, length, 0) + payload
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    step = (FRAGMENT_BYTES - (20 if len(source) == 4 else 48)) & ~7
    frames = []
    for offset in range(0, length, step):
        part, more = udp[offset:offset + step], offset + step < length
        if len(source) == 4:
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(part), identification & 0xFFFF,
                               (0x2000 if more else 0) | offset // 8, 64, 17, 0, source, target)
            frames.append(link + b"\x08\x00" + head[:10] + struct.pack("!H", checksum(head)) + head[12:] + part)
        else:
            head = struct.pack("!IHBB16s16sBBHI", 6 << 28, 8 + len(part), 44, 64, source, target, 17, 0, offset | more,
                               identification)
            frames.append(link + b"\x86\xdd" + head + part)
    return frames


def macs(destination, source):
    return bytes.fromhex(destination.replace(":", "") + source.replace(":", ""))


class Sockets:
    """UDP sockets of the client, one for each flow, that take the servers' answers."""

    def __init__(self, lab, target, count):
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        sources = lab.client.sources(target)
        self.by_flow, self.poll = {}, select.poll()
        with lab.client.namespace.entered():
            for number in range(count):
                taker = socket.socket(family, socket.SOCK_DGRAM)
                taker.bind((sources[number % len(sources)], 0))
                taker.setblocking(False)
                name = taker.getsockname()[:2]
                self.by_flow[("udp", *name, target, PORT)] = taker
                self.poll.register(taker, select.POLLIN)
        self.by_number = {taker.fileno(): (flow, taker) for flow, taker in self.by_flow.items()}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for taker in self.by_flow.values():
            taker.close()

    def answers(self, expected, timeout):
        """{flow: (server, payload)} of `expected` flows, or of those that answer in time."""
        found, end = {}, time.monotonic() + timeout
        while len(found) < expected and time.monotonic() < end:
            for number, _ in self.poll.poll(50):
                flow, taker = self.by_number[number]
                server, _, payload = taker.recv(65535).partition(b" ")
                found[flow] = (server.decode(), payload)
        return found


def send_all(raw, frames):
    for frame in frames:
        raw.send(frame)


def payload_of(number):
    """That no two datagrams have a part of in common."""
    return random.Random(number).randbytes(BYTES)


def shuffled(dice, datagrams):
    frames = list(itertools.chain(*datagrams))
    dice.shuffle(frames)
    return frames


def in_order(dice, datagrams):
    """Each datagram's own fragments as their sender made them, those of several mixed."""
    turns = shuffled(dice, [[iter(datagram)] * len(datagram) for datagram in datagrams])
    return [next(turn) for turn in turns]


def exchange(lab, target, count, send, link, mix=shuffled):
    """One datagram of each of `count` flows, in fragments that `send` puts on the wire, mixed, until all are answered.
    Returns how many were sent again, after all answers were found right."""
    dice, repeated = random.Random(f"{target}{count}"), 0
    with Sockets(lab, target, count) as sockets:
        flows = list(sockets.by_flow)
        explained = dict(zip(flows, lab.balancer.explain(flows)))
        assert all(e["verdict"] == "forward" and e["backend"] in e["fragments"] for e in explained.values())
        assert len({e["backend"] for e in explained.values()}) == len(lab.backends)
        for at in range(0, count, TOGETHER):
            missing = flows[at:at + TOGETHER]
            for attempt in range(4):
                sent, datagrams = {}, []
                for flow in missing:
                    number = next(NUMBERS)
                    sent[flow] = payload_of(number)
                    datagrams.append(fragments(link, flow[1], flow[2], target, sent[flow], number))
                send(mix(dice, datagrams))
                for flow, (server, payload) in sockets.answers(len(missing), 1).items():
                    assert payload == sent[flow], f"{flow}: the answer of {server} has other bytes"
                    assert server == explained[flow]["backend"], f"{flow} was answered by {server}: {explained[flow]}"
                    missing.remove(flow)
                repeated += len(missing)
                if not missing:
                    break
            assert not missing, f"no answer to {missing} at the fourth attempt"
    return repeated


@pytest.mark.parametrize("way", WAYS, ids="{0[0]}-{0[1]}in{0[2]}".format)
def test_shuffled(lab, counts, measured, way):
    """8 KiB datagrams whose fragments come in any order arrive whole at the backend that explain names."""
    target, count = lab.vip(way[1], VIP[way]), counts(200, 1000)
    link = macs(lab.router.mac("client"), lab.client.mac())
    with lab.client.frames() as raw:
        repeated = exchange(lab, target, count, lambda frames: send_all(raw, frames), link)
    measured(f"{count} of {count} datagrams whole at the backend explained, {repeated} sent again")
    assert repeated <= count * MISHAPS


@pytest.mark.parametrize("way", WAYS[:4], ids="{0[0]}-{0[1]}in{0[2]}".format)
def test_spread_over_queues(lab, counts, measured, way):
    """The same when a datagram's fragments come to two workers by two queues, as RSS may have it."""
    if os.cpu_count() < 2:
        pytest.skip("one CPU: a veth sends on the queue of the sender's CPU")
    target, count = lab.vip(way[1], VIP[way]), counts(80, 400)
    link = macs(lab.balancer.namespace.mac("eth0"), lab.router.mac("edge"))
    cpus = os.sched_getaffinity(0)
    with lab.router.raw_socket("lb1") as raw:
        raw.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS: the queue is the CPU's

        def send(frames):
            try:
                for turn, cpu in enumerate(sorted(cpus)[:2]):
                    os.sched_setaffinity(0, {cpu})
                    for frame in frames[turn::2]:
                        raw.send(frame)
            finally:
                os.sched_setaffinity(0, cpus)
        before = received(lab)
        repeated = exchange(lab, target, count, send, link)
    grown = [after - b for after, b in zip(received(lab), before)]
    measured(f"{count} of {count} datagrams whole at the backend explained, {repeated} sent again; "
             f"packets by worker {grown}")
    assert min(grown) > count, "one of the workers had hardly a packet"
    assert repeated <= count * MISHAPS


def received(lab):
    """Packets by worker."""
    return [worker["received"] for worker in lab.balancer.ctl("counters")["workers"]]


@pytest.mark.parametrize("way", WAYS, ids="{0[0]}-{0[1]}in{0[2]}".format)
def test_real_sockets(lab, counts, measured, way):
    """What a client's kernel sends in fragments is answered, once each, whole, by the backend that explain names."""
    target, count = lab.vip(way[1], VIP[way]), counts(200, 1000)
    answers = lab.client.udp(target, PORT, count, concurrency=8, size=BYTES).all_succeeded(count)
    flows = [("udp", r.source.rpartition(":")[0], int(r.source.rpartition(":")[2]), target, PORT)
             for r in answers.requests]
    wrong = [(flow, e["backend"], r.backend) for flow, e, r in
             zip(flows, lab.balancer.explain(flows), answers.requests) if e["backend"] != r.backend]
    assert not wrong, f"{len(wrong)} flows went elsewhere than explained: {wrong[:3]}"
    measured(f"{count} of {count} datagrams answered, spread {dict(sorted(answers.spread().items()))}")


def test_orphans(lab):
    """Later fragments whose first one never comes are dropped after a moment, each counted once."""
    target = lab.vip(4, VIP[WAYS[0]])  # from an address whose kernel has sent no first one just now
    link = macs(lab.router.mac("client"), lab.client.mac())

    def dropped():
        [packets] = [d["packets"] for d in lab.balancer.ctl("drops")["drops"] if d["reason"] == "fragment"]
        return packets
    before, came = dropped(), sum(received(lab))
    with lab.client.frames() as raw:
        for number in range(200):
            raw.send(fragments(link, "203.0.113.99", 9999, target, payload_of(number), 60000 + number)[1])
    wait_for("the balancer has them", lambda: sum(received(lab)) == came + 200, 5)
    wait_for("all are dropped", lambda: dropped() - before >= 200, 5)
    assert dropped() - before == 200 and sum(received(lab)) == came + 200


# ------------------------------------------------------ the path in the kernel ----

def interface(lab):
    return lab.balancer.ctl("paths")["interfaces"][0]


def fragments_dropped(lab):
    [packets] = [d["packets"] for d in lab.balancer.ctl("drops")["drops"] if d["reason"] == "fragment"]
    return packets


@pytest.mark.parametrize("way", WAYS, ids="{0[0]}-{0[1]}in{0[2]}".format)
def test_xdp_in_order(alone, counts, measured, way):
    """Without a dataplane: 8 KiB datagrams, several at a time, arrive whole at the backend that explain names."""
    target, count = alone.vip(way[1], VIP[way]), counts(200, 1000)
    link = macs(alone.router.mac("client"), alone.client.mac())
    before, dropped = interface(alone), fragments_dropped(alone)
    with alone.client.frames() as raw:
        repeated = exchange(alone, target, count, lambda frames: send_all(raw, frames), link, mix=in_order)
    after, dropped = interface(alone), fragments_dropped(alone) - dropped
    measured(f"{count} of {count} datagrams whole at the backend explained, {repeated} sent again; "
             f"{after['forwarded'] - before['forwarded']} packets by the kernel, {dropped} fragments dropped")
    assert repeated <= count * MISHAPS
    assert after["forwarded"] - before["forwarded"] >= 6 * count
    assert dropped <= 6 * repeated


@pytest.mark.parametrize("way", WAYS, ids="{0[0]}-{0[1]}in{0[2]}".format)
def test_xdp_real_sockets(alone, counts, measured, way):
    """Without a dataplane: what a client's kernel sends in fragments is answered, whole, by whom explain names."""
    test_real_sockets(alone, counts, measured, way)


@pytest.mark.parametrize("family", (4, 6))
def test_xdp_out_of_order(alone, measured, family):
    """A fragment that comes before its first one is dropped there, and counted; those after it are not."""
    way = next(w for w in WAYS if w[0] == "ipip" and w[1] == family)
    target, count = alone.vip(family, VIP[way]), 50
    # Not an address whose sockets have just sent datagrams: one in thousands had a number that comes again here.
    source = "203.0.113.98" if family == 4 else alone.client.sources(alone.vip(6, 1))[0]
    link = macs(alone.router.mac("client"), alone.client.mac())
    before, dropped = interface(alone), fragments_dropped(alone)
    with alone.client.frames() as raw:
        for number in range(count):
            frames = fragments(link, source, 9000 + number, target, payload_of(number), next(NUMBERS))
            send_all(raw, frames[1:3] + frames[:1] + frames[3:])
    sent = count * len(frames)
    wait_for("all have come", lambda: interface(alone)["forwarded"] + fragments_dropped(alone)
             >= before["forwarded"] + dropped + sent, 5)
    after = interface(alone)
    measured(f"{count} datagrams with two of {len(frames)} fragments too early: "
             f"{fragments_dropped(alone) - dropped} fragments dropped")
    assert fragments_dropped(alone) - dropped == 2 * count
    assert after["forwarded"] - before["forwarded"] == sent - 2 * count


class Changeover:
    """From one path to the other, by whole datagrams that tell which has them now."""

    def __init__(self, lab, target):
        self.lab, self.dataplane = lab, lab.balancer.dataplane
        self.taker = Sockets(lab, target, 1)
        [(flow, self.one)] = self.taker.by_flow.items()
        self.target = (flow[3], flow[4])
        self.wait_for_dataplane()

    def wait_for_dataplane(self):
        wait_for("the dataplane has the packets", lambda: self.pokes(lambda q: not q["hung"] and q["path"] == "dpdk"), 15)

    def pokes(self, condition):
        self.one.sendto(b"x", self.target)
        return condition(interface(self.lab)["queues"][0])

    def stop(self):
        self.dataplane.signal(signal.SIGSTOP)
        wait_for("the kernel has the packets", lambda: self.pokes(lambda q: q["hung"] and q["path"] == "xdp"), 5)

    def go_on(self):
        self.dataplane.signal(signal.SIGCONT)
        self.wait_for_dataplane()

    def kill(self):
        self.dataplane.kill()
        wait_for("the kernel has the packets", lambda: self.pokes(lambda q: q["path"] == "xdp"), 5)

    def restart(self):
        if not self.dataplane.alive():
            self.lab.balancer.start_dataplane()
            self.lab.balancer.wait_published()
            self.dataplane = self.lab.balancer.dataplane
            self.wait_for_dataplane()


@pytest.mark.parametrize("way", WAYS[2:4], ids="{0[0]}-{0[1]}in{0[2]}".format)
@pytest.mark.parametrize("begun, then", (("dpdk", "kill"), ("dpdk", "stop"), ("xdp", "go_on")))
def test_changeover(both, measured, way, begun, then):
    """A path goes on with the datagrams whose first fragments the other one had: all arrive whole where explain says."""
    target = both.vip(way[1], VIP[way])
    link = macs(both.router.mac("client"), both.client.mac())
    change = Changeover(both, target)
    told = []
    with both.client.frames() as raw, change.taker, Sockets(both, target, TOGETHER) as sockets:
        explained = dict(zip(sockets.by_flow, both.balancer.explain(list(sockets.by_flow))))
        for attempt in range(5):
            if begun == "xdp":
                change.stop()
            before, received_before = interface(both)["forwarded"], sum(received(both))
            sent, rest = {}, []
            for flow in sockets.by_flow:
                number = next(NUMBERS)
                sent[flow] = payload_of(number)
                first, *later = fragments(link, flow[1], flow[2], target, sent[flow], number)
                raw.send(first)
                rest += later
            began = time.monotonic()
            if begun == "xdp":
                wait_for("XDP has the first ones", lambda: interface(both)["forwarded"] - before >= TOGETHER, 2)
            else:
                wait_for("the worker has the first ones", lambda: sum(received(both)) - received_before >= TOGETHER, 2)
                assert interface(both)["forwarded"] == before
            getattr(change, then)()
            before, received_before = interface(both)["forwarded"], sum(received(both))
            send_all(raw, rest)
            answers = sockets.answers(TOGETHER, 1)
            told.append(time.monotonic() - began)
            by_xdp = interface(both)["forwarded"] - before
            if then == "stop":
                change.go_on()
            change.restart()
            for flow, (server, payload) in answers.items():
                assert payload == sent[flow] and server == explained[flow]["backend"], f"{flow}: {explained[flow]}"
            # Beyond the life of a record they are lost, as they should be.
            if len(answers) == TOGETHER:
                break
    measured(f"{len(answers)} of {TOGETHER} datagrams begun by {begun} were finished after {then}, "
             f"{by_xdp} packets of them by XDP; attempts {[f'{t:.1f} s' for t in told]}")
    assert len(answers) == TOGETHER
    assert by_xdp >= len(rest) if begun == "dpdk" else by_xdp == 0
