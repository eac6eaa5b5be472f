# SPDX-License-Identifier: Apache-2.0
"""Servers die, hang, and come back."""

import socket
import time

import pytest

from sluicelab.spread import agreement

INTERVAL, TIMEOUT, FALL, RISE = 0.1, 0.1, 3, 2
BOUND = FALL * INTERVAL + TIMEOUT + 0.05
WEIGHTS = (100, 200, 300)
ALPHA = 0.0001


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    health = {"type": "http", "path": "/ready", "interval": "100ms", "timeout": "100ms", "rise": RISE, "fall": FALL}
    lab.balancer.configure([lab.service(f"web{f}", lab.vip(f, 1), 80, forward="ipip", family=4, weights=WEIGHTS,
                                        health=health) for f in (4, 6)])
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def last_syn(capture, vips):
    """When the last SYN for one of these VIPs was on the wire; None: there was none."""
    times = [p.time for p in capture.packets() if p.flags == 0x02 and p.destination in vips]
    return max(times, default=None)


def break_and_mend(lab, measured, fault, repair):
    victim = lab.backends[2]
    vips = [lab.vip(4, 1), lab.vip(6, 1)]
    capture = lab.capture_to_backend(victim, "ipip")
    traffic = [lab.client.http_start(vip, rate=150, concurrency=200, timeout=8) for vip in vips]
    time.sleep(1)
    broken = time.time()
    fault(victim)
    lab.balancer.wait_backends({"web4/b3": "down", "web6/b3": "down"}, 5)
    time.sleep(1.5)
    last = last_syn(capture, vips)
    answers = [t.finish() for t in traffic]
    capture.stop()
    assert last is not None and last > broken - 0.5, "the victim had no traffic before the fault"
    measured(f"last new connection {(last - broken) * 1000:.0f} ms after the fault (bound {BOUND * 1000:.0f} ms)")
    assert last - broken <= BOUND, f"a SYN was sent to it {(last - broken) * 1000:.0f} ms after the fault"
    for answer in answers:
        late = [r for r in answer.failed if r.start > broken + BOUND]
        assert not late, f"{len(late)} requests failed after the bound: {answer.errors()}"
        early = [r for r in answer.failed if r.end < broken]
        assert not early, f"requests failed before the fault: {early[:3]}"

    repair(victim)
    lab.balancer.wait_backends(timeout=5)
    for vip in vips:
        spread = lab.client.http(vip, count=600).all_succeeded(600).spread()
        statistic, p = agreement(spread, {b.name: w for b, w in zip(lab.backends, WEIGHTS)})
        assert p > ALPHA, f"after its return the spread is {spread}"
        measured(f"after its return: spread {dict(sorted(spread.items()))}, p {p:.3f}")


def test_killed_backend(lab, measured):
    """A server killed with -9 gets no new connection after fall x interval + timeout + 50 ms; started again it gets
    its share."""
    break_and_mend(lab, measured, lambda b: b.kill(), lambda b: b.revive())


def test_hung_backend(lab, measured):
    """A server that hangs while its kernel still accepts connections is found by the probe's timeout, in the same time."""
    break_and_mend(lab, measured, lambda b: b.hang(), lambda b: b.unhang())


def request_from(lab, source, port, timeout):
    """One GET from this address and port; the first bytes of the answer, or what went wrong."""
    with lab.client.namespace.entered():
        connection = socket.socket()
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.settimeout(timeout)
        try:
            connection.bind((source, port))
            connection.connect((lab.vip(4, 1), 80))
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(12)
        except OSError as error:
            return f"{type(error).__name__}: {error}"


def test_port_used_again(lab):
    """A server that comes back to life with connections whose clients have gone answers a SYN from the same address
    and port with an ACK of the old one; the client's RST must reach it, or no connection from there ever succeeds."""
    victim, source = lab.backends[2], lab.client.sources4[0]
    flows = [("tcp", source, port, lab.vip(4, 1), 80) for port in range(20001, 20041)]
    ports = [flow[2] for flow, answer in zip(flows, lab.balancer.explain(flows)) if answer["backend"] == "b3"]
    assert len(ports) > 5
    victim.hang()
    assert request_from(lab, source, ports[0], 0.2) == "TimeoutError: timed out"
    for port in ports[1:]:
        request_from(lab, source, port, 0.01)
    lab.balancer.wait_backends({"web4/b3": "down", "web6/b3": "down"}, 5)
    victim.unhang()
    lab.balancer.wait_backends(timeout=5)
    answers = {port: request_from(lab, source, port, 5) for port in ports}
    assert set(answers.values()) == {b"HTTP/1.1 200"}, answers


def test_unready_backend(lab, measured):
    """A server that answers its health check with 503 while it still serves leaves the table in the same time."""
    break_and_mend(lab, measured, lambda b: b.set_ready(False), lambda b: b.set_ready(True))


def test_reason_is_told(lab):
    """`sluicectl backends` says why a backend is down."""
    victim = lab.backends[0]
    victim.kill()
    try:
        backends = lab.balancer.wait_backends({"web4/b1": "down", "web6/b1": "down"}, 5)
        reasons = [b["reason"] for b in backends if b["name"] == "b1"]
        assert all("refused" in reason.lower() for reason in reasons), reasons
    finally:
        victim.revive()
    lab.balancer.wait_backends(timeout=5)


def test_all_backends_down(lab):
    """With every server dead, clients see an error and no crash follows; the first one back gets everything."""
    for backend in lab.backends:
        backend.kill()
    lab.balancer.wait_backends({f"web{f}/b{n}": "down" for f in (4, 6) for n in (1, 2, 3)}, 5)
    assert lab.client.http(lab.vip(4, 1), count=5, timeout=1).spread() == {}
    lab.backends[1].revive()
    lab.balancer.wait_backends({"web4/b2": "up", "web6/b2": "up"}, 5)
    assert set(lab.client.http(lab.vip(4, 1), count=50).all_succeeded(50).spread()) == {"b2"}
    for backend in (lab.backends[0], lab.backends[2]):
        backend.revive()
    lab.balancer.wait_backends(timeout=5)
