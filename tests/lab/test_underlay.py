# SPDX-License-Identifier: Apache-2.0
"""A way to a backend that carries less than its link says: routers tell, and the tunnels heed it."""

import socket
import struct
import time

import pytest

from sluicelab import wait_for

PATH_MTU = 1400
FORWARDS = {"ipip": 1, "gue": 2, "gre": 3}


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab(backends=2)
    lab.start_servers(http_ports=(80, 81))
    lab.open_tunnels()
    lab.balancer.configure([
        lab.service(f"{forward}{family}", lab.vip(4, number), 80 + (family == 6), forward=forward, family=family,
                    weights=(1,))
        for forward, number in FORWARDS.items() for family in (4, 6)])
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def narrow(lab, family, mtu=PATH_MTU):
    """The router's route to the first backend carries no more than this: for more it sends "too big"."""
    address = lab.backends[0].address("ipip", family)
    bits = 32 if family == 4 else 128
    lab.router.ip(f"route replace {address}/{bits} dev farm mtu lock {mtu}" if family == 4 else
                  f"route replace {address}/{bits} dev farm mtu {mtu}")


def adjacency(lab, forward, family):
    return lab.balancer.ctl("backends", f"{forward}{family}")[0]["adjacency"]


def upload(lab, forward, family, timeout=20):
    return lab.client.http(lab.vip(4, FORWARDS[forward]), 80 + (family == 6), 1, upload=300_000, timeout=timeout,
                           concurrency=1)


@pytest.mark.parametrize("family", (4, 6))
def test_lowered(lab, measured, family):
    """A router that finds an outer packet too big lowers the MTU of every tunnel to that backend: in the adjacency, with
    the router's address as the reason, in the table by which packets go, and in status; no other backend's. The upload
    that met it gets through, for the client is told by Sluice, and so does one by every other tunnel."""
    for forward in FORWARDS:
        assert adjacency(lab, forward, family)["mtu"] == 1500
    others = adjacency(lab, "ipip", 10 - family)["mtu"]
    lowered = lab.balancer.ctl("status")["underlay"]["lowered"]
    narrow(lab, family)
    first = upload(lab, "ipip", family).all_succeeded(1)
    wait_for("the MTU is lowered", lambda: adjacency(lab, "ipip", family)["mtu"] == PATH_MTU, 5)
    for forward in FORWARDS:
        found = adjacency(lab, forward, family)
        assert (found["mtu"], found["link_mtu"]) == (PATH_MTU, 1500)
        assert f"path MTU {PATH_MTU}, not 1500: says " in found["mtu_reason"]
        assert ("10.77.0.1" if family == 4 else "fd77::1") in found["mtu_reason"]
    text = lab.balancer.ctl_raw("backends", f"ipip{family}", json_output=False).stdout
    assert f"path MTU {PATH_MTU}" in text
    assert adjacency(lab, "ipip", 10 - family)["mtu"] == others

    def in_table():
        hop = lab.balancer.explain([("tcp", lab.client.sources4[0], 40000, lab.vip(4, 1), 80 + (family == 6))])[0]
        return hop["next_hop"]["mtu"] == PATH_MTU and "says" in hop["next_hop"]["mtu_reason"]
    wait_for("the table has it", in_table, 5)
    lab.balancer.wait_published()
    status = lab.balancer.ctl("status")["underlay"]
    assert status["lowered"] == lowered + 1
    more = [upload(lab, forward, family).all_succeeded(1) for forward in ("gue", "gre")]
    took = [f"{a.requests[0].end - a.requests[0].start:.2f}" for a in (first, *more)]
    measured(f"uploads of 300 kB took {', '.join(took)} s, the first with the way's MTU unknown; "
             f"messages of routers by outcome: {status['messages']}")


def forged(source, destination, mtu, total=1500, protocol=4):
    """What an attacker sends: "fragmentation needed" about a tunnel's packet that nobody sent."""
    def checksum(data):
        total = sum(struct.unpack(f"!{len(data) // 2}H", data))
        while total >> 16:
            total = (total & 0xffff) + (total >> 16)
        return ~total & 0xffff
    inner = struct.pack("!BBHHHBBH4s4sQ", 0x45, 0, total, 0, 0x4000, 60, protocol, 0, socket.inet_aton(source),
                        socket.inet_aton(destination), 0)
    message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + inner
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def test_forged(lab, counts, measured):
    """Messages that cannot be true change nothing and are counted, a flood of them makes no more than a table a
    second, and requests go on."""
    b1, b2 = (b.address("ipip", 4) for b in lab.backends)
    own, sent, until = lab.balancer.address4, 0, time.monotonic() + counts(4, 30)
    before = lab.balancer.ctl("status")
    known = adjacency(lab, "ipip", 4)["mtu"]
    with lab.client.namespace.entered():
        attacker = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with attacker:
        for message in (forged(own, b1, 100),             # less than any way carries
                        forged(own, b1, 1499, total=900),  # that packet would have got through
                        forged("10.77.0.99", b1, 1300),    # not our source
                        forged(own, b2, 1300),             # no service has this backend
                        forged(own, b1, 1300, protocol=6)):  # no tunnel
            attacker.sendto(message, (own, 0))
        wait_for("all are counted", lambda: lab.balancer.ctl("status")["underlay"]["messages"]["implausible"]
                 >= before["underlay"]["messages"]["implausible"] + 2, 5)
        assert adjacency(lab, "ipip", 4)["mtu"] == known
        requests = lab.client.http_start(lab.vip(4, 1), 80, concurrency=4)
        while time.monotonic() < until:  # each lower than the one before, as long as there are such
            attacker.sendto(forged(own, b1, max(1399 - sent // 5, 576)), (own, 0))
            sent += 1
            time.sleep(0.001)
        requests.finish().all_succeeded()
    after = lab.balancer.ctl("status")
    seconds = after["uptime_seconds"] - before["uptime_seconds"]
    measured(f"{sent} forged messages in {seconds:.1f} s: {after['generation'] - before['generation']} tables, "
             f"{after['underlay']}")
    assert after["generation"] - before["generation"] <= seconds + 2
    assert adjacency(lab, "ipip", 4)["mtu"] >= 596
