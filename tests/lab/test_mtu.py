# SPDX-License-Identifier: Apache-2.0
"""Packets that do not fit the tunnel, ICMP errors about connections, and pings of VIPs. All links carry 1500 bytes, and
no server tells its clients to send less."""

import collections
import contextlib
import ipaddress
import socket
import struct
import threading
import time

import pytest

UPLOAD = 1_000_000
SILENT, ECHOING = 1, 2  # VIPs without and with icmp_echo


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    for backend in lab.backends:
        backend.namespace.ip("route replace default via 10.77.1.1\nroute replace default via fd77:1::1")  # no advmss
    lab.start_servers()
    lab.open_tunnels()
    configure(lab)
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def configure(lab, weights=(1, 1, 1), rate=1000):
    base = lab.balancer.base_settings()
    vips = [(family, number) for family in (4, 6) for number in (SILENT, ECHOING)]
    return lab.balancer.configure(
        [lab.service(f"{protocol}{family}-{number}", lab.vip(family, number), port, protocol=protocol, weights=weights)
         for family, number in vips for protocol, port in (("tcp", 80), ("udp", 5300))],
        vips=[{"address": lab.vip(family, number), "icmp_echo": number == ECHOING} for family, number in vips],
        dataplane={**base["dataplane"], "icmp_rate": rate})


def restart_dataplane(lab, rate):
    assert lab.balancer.dataplane.stop() == 0
    configure(lab, rate=rate)
    lab.balancer.start_dataplane()
    lab.balancer.wait_published()


def verdicts(lab):
    return collections.Counter({v["verdict"]: v["packets"] for v in lab.balancer.ctl("counters")["verdicts"]})


def forget_path_mtu(lab):
    lab.client.namespace.run(["ip", "route", "flush", "cache"])
    lab.client.namespace.run(["ip", "-6", "route", "flush", "cache"])


def learnt_mtu(lab, address):
    family = ["-6"] if ":" in address else []
    words = lab.client.namespace.run(["ip", *family, "route", "get", address]).stdout.split()
    return int(words[words.index("mtu") + 1]) if "mtu" in words else None


@pytest.mark.parametrize("family", (4, 6))
def test_path_mtu_discovery(lab, measured, family):
    """Uploads in full-size segments through a tunnel over links of the same size hang when the balancer says nothing,
    and succeed when it tells the client what fits."""
    vip = lab.vip(family, SILENT)
    restart_dataplane(lab, rate=0)
    forget_path_mtu(lab)
    before = verdicts(lab)
    hung = lab.client.http(vip, 80, 2, upload=UPLOAD, timeout=4, concurrency=2)
    silent = verdicts(lab) - before
    assert len(hung.failed) == 2, "an upload succeeded without being told: this lab proves nothing"
    assert silent["too_big"] > 0 and silent["answered_too_big"] == 0
    assert learnt_mtu(lab, vip) is None

    restart_dataplane(lab, rate=1000)
    before = verdicts(lab)
    told = lab.client.http(vip, 80, 4, upload=UPLOAD, timeout=10, concurrency=2).all_succeeded(4)
    after = verdicts(lab) - before
    measured(f"family {family}: without answers {hung.errors()} and {silent['too_big']} packets dropped; with them "
             f"{len(told)} uploads of {UPLOAD} bytes, slowest {max(r.end - r.start for r in told.requests):.3f} s, "
             f"{after['answered_too_big']} answers, path MTU {learnt_mtu(lab, vip)}")
    assert after["answered_too_big"] > 0 and after["too_big"] == 0
    assert learnt_mtu(lab, vip) == 1480


@contextlib.contextmanager
def flood(lab, vip):
    """One sender's packets that are too big for the tunnel, some thousand a second for the length of a `with`. Yields a
    list of how many it has sent."""
    payload = bytes(1472)
    datagram = struct.pack("!HHHH", 4000, 5300, 8 + len(payload), 0) + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0x4000, 64, 17, 0)
    header += ipaddress.ip_address("203.0.113.99").packed + ipaddress.ip_address(vip).packed
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    macs = bytes.fromhex((lab.router.mac("client") + lab.client.mac()).replace(":", ""))
    frame, stop, sent = macs + b"\x08\x00" + header + datagram, threading.Event(), [0]

    def send():
        with lab.client.frames() as raw:
            while not stop.wait(0.005):
                for _ in range(20):
                    raw.send(frame)
                sent[0] += 20
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield sent
    finally:
        stop.set()
        sender.join()


def test_flood_of_one_sender(lab, measured):
    """Answers are few, and one sender asks for many more: another finds its path's MTU at once all the same."""
    vip = lab.vip(4, SILENT)
    restart_dataplane(lab, rate=50)
    forget_path_mtu(lab)
    before = verdicts(lab)
    with flood(lab, vip) as sent:
        time.sleep(2)  # its answers are spent, and those of all together would be
        flooded = verdicts(lab) - before
        told = lab.client.http(vip, 80, 2, upload=UPLOAD, timeout=10, concurrency=2).all_succeeded(2)
    slowest = max(r.end - r.start for r in told.requests)
    measured(f"{sent[0]} packets of a flood at 50 answers a second; in its first 2 s {flooded['answered_too_big']} "
             f"answered and {flooded['too_big']} dropped; another's uploads took {slowest:.3f} s at most")
    restart_dataplane(lab, rate=1000)
    assert flooded["too_big"] > 1000 and flooded["answered_too_big"] <= 32 + 50 / 16 * 3 + 2
    assert learnt_mtu(lab, vip) == 1480 and slowest < 2


def test_datagrams_in_fragments(lab, counts, measured):
    """Datagrams larger than a link, without DF, arrive whole at one server each: the client's own fragments are
    fragmented again where the tunnel needs it."""
    forget_path_mtu(lab)
    before = verdicts(lab)
    answers = lab.client.udp(lab.vip(4, SILENT), 5300, counts(100, 1000), concurrency=8, size=3000)
    grown = verdicts(lab) - before
    measured(f"{len(answers)} datagrams of 3000 bytes: {len(answers.failed)} not answered {answers.errors()}; packets "
             f"{dict(grown)}")
    answers.all_succeeded(counts(100, 1000))
    assert grown["fragmented"] >= counts(100, 1000) and grown["fragment"] == 0


# ---- ICMP errors about connections ----


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def error_about(vip, client, port):
    """Host unreachable (administratively prohibited for IPv6), about a segment from the VIP to the client."""
    ports = struct.pack("!HHI", 80, port, 1)
    source, destination = (ipaddress.ip_address(a).packed for a in (vip, client))
    if ":" in vip:
        quote = struct.pack("!IHBB", 6 << 28, 20, 6, 60) + source + destination + ports
        return struct.pack("!BBHI", 1, 1, 0, 0) + quote
    quote = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 60, 6, 0) + source + destination + ports
    message = struct.pack("!BBHI", 3, 1, 0, 0) + quote
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def quoted_ports(frames, family):
    """The client ports that errors in captured tunnel packets speak of."""
    header = 20 if family == 4 else 40
    quote = 14 + 20 + header + 8  # Ethernet, outer IPv4, the error's own headers
    protocol = 14 + 20 + (9 if family == 4 else 6)
    found = collections.Counter()
    for _, frame in frames:
        if len(frame) >= quote + header + 8 and frame[23] == (4 if family == 4 else 41) \
                and frame[protocol] == (1 if family == 4 else 58):
            found[struct.unpack_from("!H", frame, quote + header + 2)[0]] += 1
    return found


def send_errors(lab, family, flows):
    """An error about each (client address, port). Returns by backend the ports whose errors were seen on their way."""
    captures = {b.name: lab.capture_to_backend(b, "ipip") for b in lab.backends}
    vip = lab.vip(family, SILENT)
    with lab.client.namespace.entered():
        kind = (socket.AF_INET, socket.IPPROTO_ICMP) if family == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        router = socket.socket(kind[0], socket.SOCK_RAW, kind[1])
    with router:
        for client, port in flows:
            router.sendto(error_about(vip, client, port), (vip, 0))
    # Behind all of them: when this is answered, they have gone through the balancer.
    lab.client.http(vip, 80, 3).all_succeeded(3)
    return {name: quoted_ports(capture.stop().frames(), family) for name, capture in captures.items()}


@pytest.mark.parametrize("family", (4, 6))
def test_errors_reach_the_backend(lab, counts, measured, family):
    """An ICMP error about a connection goes to the backend that serves it, as `explain` names it, and to no other."""
    client, vip = lab.client.sources(lab.vip(family, SILENT))[0], lab.vip(family, SILENT)
    ports = range(20000, 20000 + counts(60, 600))
    expected = {b.name: collections.Counter() for b in lab.backends}
    for port, e in zip(ports, lab.balancer.explain([("tcp", client, port, vip, 80) for port in ports])):
        expected[e["backend"]][port] += 1
        assert e["icmp_errors"].endswith(f" {e['backend']}")
    seen = send_errors(lab, family, [(client, port) for port in ports])
    measured(f"family {family}: errors about {len(ports)} connections, by backend "
             f"{ {name: sum(found.values()) for name, found in seen.items()} }")
    assert all(expected.values()), "a backend serves none of these connections"
    assert seen == expected


class Connection:
    """A connection that is held, and who serves it."""

    def __init__(self, lab, vip):
        with lab.client.namespace.entered():
            self.socket = socket.create_connection((vip, 80), timeout=5)
        self.client, self.port = self.socket.getsockname()[:2]
        self.backend = self.ask()

    def ask(self):
        self.socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"\n"):
            part = self.socket.recv(4096)
            assert part, "the server closed a connection that it was to keep"
            answer += part
        return answer.split(b"X-Backend: ")[1].split(b"\r\n")[0].decode()


@pytest.mark.parametrize("family", (4, 6))
def test_errors_follow_pinned_connections(lab, measured, family):
    """When its bucket has another owner now, a connection stays, and so do the ICMP errors about it."""
    vip = lab.vip(family, SILENT)
    connections = [Connection(lab, vip) for _ in range(60)]
    try:
        configure(lab, weights=(1, 9, 1))
        lab.balancer.ctl("reload")
        lab.balancer.wait_published()
        assert all(c.ask() == c.backend for c in connections)
        fresh = lab.balancer.explain([("tcp", c.client, c.port, vip, 80) for c in connections])
        moved = [c for c, e in zip(connections, fresh) if "is remembered" in e["reason"]]
        expected = {b.name: collections.Counter() for b in lab.backends}
        for c in connections:
            expected[c.backend][c.port] += 1
        seen = send_errors(lab, family, [(c.client, c.port) for c in connections])
        measured(f"family {family}: errors about {len(connections)} connections, {len(moved)} of them pinned to who "
                 f"served them before")
        assert moved, "no connection's bucket has changed its owner: this proves nothing"
        assert seen == expected
    finally:
        for c in connections:
            c.socket.close()
        configure(lab)
        lab.balancer.ctl("reload")
        lab.balancer.wait_published()


# ---- pings ----


def ping(lab, vip, count, size=56):
    done = lab.client.namespace.run(["ping", "-n", "-c", str(count), "-i", "0.01", "-W", "2", "-s", str(size), vip])
    return done.stdout


@pytest.mark.parametrize("family", (4, 6))
def test_ping(lab, family):
    """Pings of a VIP with icmp_echo are answered by the dataplane, of any size that fits the link; of one without, by
    the kernel."""
    before = verdicts(lab)
    for size in (0, 56, 1400):
        assert " 0% packet loss" in ping(lab, lab.vip(family, ECHOING), 10, size)
    after = verdicts(lab)
    assert after["answered_echo"] - before["answered_echo"] == 30
    assert " 0% packet loss" in ping(lab, lab.vip(family, SILENT), 10)
    assert verdicts(lab)["answered_echo"] == after["answered_echo"]
