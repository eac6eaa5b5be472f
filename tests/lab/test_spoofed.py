# SPDX-License-Identifier: Apache-2.0
"""What strangers send: floods from random addresses, and packets of connections that are not theirs. The table of
exceptions is the smallest that there is, and a flood is ten times as many flows."""

import collections
import ipaddress
import random
import struct
import time

import pytest

from sluicelab.client import Traffic
from sluicelab.run import wait_for

BACKENDS = 4
EXCEPTIONS = 1024
FLOOD = 10 * EXCEPTIONS
SYN, RST, PSH, ACK = 0x02, 0x04, 0x08, 0x10
KINDS = {"SYN": SYN, "ACK": ACK, "RST": RST}


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab(backends=BACKENDS)
    lab.start_servers()
    lab.open_tunnels()
    configure(lab, (100,) * BACKENDS)
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def configure(lab, weights):
    """A weight of None: that backend is not there."""
    service = lab.service("web", lab.vip(4, 1), 80, weights=weights, window="15min")
    service["backends"] = [b for b in service["backends"] if b["weight"] is not None]
    lab.balancer.configure([service], dataplane={"cores": [0], "idle": "sleep", "hugepages": False,
                                                 "exceptions": EXCEPTIONS})


class Stranger:
    """Sends TCP segments with any source, on the client's wire."""

    def __init__(self, lab, seed):
        self.lab, self.dice = lab, random.Random(seed)
        self.link = bytes.fromhex((lab.router.mac("client") + lab.client.mac()).replace(":", "")) + b"\x08\x00"
        self.target = ipaddress.ip_address(lab.vip(4, 1)).packed
        self.wire = lab.client.frames()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.wire.close()

    def segment(self, source, sport, flags):
        """With random sequence and acknowledgement numbers, and right checksums."""
        tcp = struct.pack("!HHIIBBHHH", sport, 80, self.dice.getrandbits(32),
                          self.dice.getrandbits(32) if flags & ACK else 0, 0x50, flags, 65535, 0, 0)
        tcp = tcp[:16] + struct.pack("!H", checksum(source + self.target + b"\0\x06\0\x14" + tcp)) + tcp[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0x4000, 64, 6, 0, source, self.target)
        return self.link + ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp

    def send(self, frames):
        for at in range(0, len(frames), 64):
            for frame in frames[at:at + 64]:
                self.wire.send(frame)
            time.sleep(0.001)  # or the rings lose most of it

    def flood(self, kind):
        """From random addresses of 10.128.0.0/9 and random ports, until so many have come to the balancer."""
        frames = [self.segment(struct.pack("!I", 0x0A800000 | self.dice.getrandbits(23)),
                               self.dice.randrange(1024, 65536), KINDS[kind]) for _ in range(3 * FLOOD)]
        before = received(self.lab)
        for at in range(0, len(frames), FLOOD // 4):
            self.send(frames[at:at + FLOOD // 4])
            if received(self.lab) - before >= FLOOD:
                return
        raise AssertionError(f"of {len(frames)} packets {received(self.lab) - before} came to the balancer")

    def forge(self, connections, rounds=3):
        """A SYN, a RST and an ACK of every one of these connections, with random sequence numbers."""
        for _ in range(rounds):
            frames = [self.segment(ipaddress.ip_address(address).packed, port, flags)
                      for address, port in connections for flags in (SYN, RST, RST | ACK, ACK, PSH | ACK)]
            self.dice.shuffle(frames)
            self.send(frames)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def received(lab):
    return lab.balancer.ctl("counters")["received"]


def exceptions(lab):
    return lab.balancer.ctl("status")["exceptions"]


def hold(lab, connections):
    """Connections that ask again and again until finish(), for ever."""
    client = lab.client
    return Traffic(client.run, client.namespace, client._name("hold"), "hold_client.py", {
        "target": lab.vip(4, 1), "port": 80, "connections": connections, "timeout": 5, "sources": client.sources4,
        "pause": [0.1, 0.3], "life": [None]})


def established(lab):
    """(address, port) of the client's connections."""
    lines = lab.client.namespace.run(["ss", "-Htn", "state", "established", "dst", lab.vip(4, 1)]).stdout.splitlines()
    ends = [line.split()[2].rpartition(":") for line in lines]
    return [(address, int(port)) for address, _, port in ends]


def wait_established(lab, count):
    wait_for(f"{count} connections are established", lambda: len(established(lab)) >= count, 15)


def explained(lab, connections):
    """Where a segment of each goes, and what the flow's exception says."""
    answers = [lab.balancer.ctl("explain", "tcp", f"{address}:{port}", f"{lab.vip(4, 1)}:80", "--flags", "A")
               for address, port in connections]
    return [e["backend"] for e in answers]


def judge(traffic):
    """Not one request failed, and no connection was answered by two servers. (requests, connections)"""
    answers = traffic.finish().all_succeeded()
    servers = collections.defaultdict(set)
    for request in answers.requests:
        servers[request.source].add(request.backend)
    moved = {name: sorted(found) for name, found in servers.items() if len(found) > 1}
    assert not moved, f"connections that were answered by more than one server: {dict(list(moved.items())[:10])}"
    return len(answers), len(servers)


def test_steady(lab, measured):
    """In steady state no flood and no forged packet of a connection makes an exception, and no connection breaks."""
    held = hold(lab, 200)
    wait_established(lab, 200)
    with Stranger(lab, "steady") as stranger:
        for kind in KINDS:
            stranger.flood(kind)
        stranger.forge(established(lab))
    time.sleep(2.5)  # a sweep has counted
    found = exceptions(lab)
    assert found["entries"] == EXCEPTIONS
    assert found["used"] == found["inserted"] == found["failed"] == 0, found
    requests, connections = judge(held)
    assert connections == 200
    measured(f"{len(KINDS)} floods of {FLOOD}: no exception; {connections} connections with {requests} requests held")


def test_transition(lab, counts, measured):
    """While backends are weighted, drained, added and removed, floods of SYN, ACK and RST and forged segments of
    every known connection break none of those from before the first change nor of those begun during it, and
    move none."""
    before = hold(lab, counts(200, 500))
    wait_established(lab, counts(200, 500))
    old = established(lab)
    changes = [
        ("weight", lambda: reweigh(lab, (100, 300, 50, 100))),
        ("drain", lambda: lab.balancer.ctl("drain", "web/b1")),
        ("weight back", lambda: reweigh(lab, (100, 100, 100, 200))),
        ("remove", lambda: reweigh(lab, (100, 100, 100, None))),
        ("enable", lambda: lab.balancer.ctl("enable", "web/b1")),
        ("add", lambda: reweigh(lab, (100, 50, 100, 300))),
    ]
    during = None
    with Stranger(lab, "transition") as stranger:
        for number, (_, change) in enumerate(changes):
            change()
            lab.balancer.wait_published()
            assert lab.balancer.ctl("status")["windows"]["buckets_open"] > 0
            if number == 0:
                during = hold(lab, 100)
                wait_established(lab, len(old) + 100)
                time.sleep(2.5)  # their second packets, a second later
            connections = established(lab)
            sample = stranger.dice.sample(connections, 20)
            where = explained(lab, sample)
            for kind in KINDS:
                stranger.flood(kind)
                stranger.forge(connections, rounds=1)
            assert explained(lab, sample) == where, "a connection is elsewhere than before the floods"
    found = exceptions(lab)
    # Or it was no flood to the table: it had room for all.
    assert found["failed"] > EXCEPTIONS, found
    old_requests, old_connections = judge(before)
    new_requests, new_connections = judge(during)
    assert (old_connections, new_connections) == (len(old), 100)
    measured(f"{len(changes)} changes with {len(KINDS)} floods of {FLOOD} each: {old_connections} connections from before "
             f"with {old_requests} requests and {new_connections} from in between with {new_requests}, none broken or "
             f"moved; exceptions {found}")


def reweigh(lab, weights):
    configure(lab, weights)
    lab.balancer.ctl("reload")
