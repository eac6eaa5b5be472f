# SPDX-License-Identifier: Apache-2.0
"""Real requests through every way of forwarding."""

import pytest

from sluicelab.spread import agreement
from sluicelab.ways import ALPHA, VIP, WAYS, WEIGHTS, port, services, start_servers


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    start_servers(lab)
    lab.balancer.configure(services(lab))
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def judge(lab, answers, measured):
    spread = answers.spread()
    statistic, p = agreement(spread, {b.name: w for b, w in zip(lab.backends, WEIGHTS)})
    measured(f"{len(answers)} answers, spread {dict(sorted(spread.items()))} for weights {WEIGHTS}, "
             f"chi-squared {statistic:.2f}, p {p:.3f}, slowest {max(r.end - r.start for r in answers.requests):.3f} s")
    assert p > ALPHA, f"the spread {spread} does not agree with the weights {WEIGHTS}: p = {p:.2g}"


@pytest.mark.parametrize("forward, vip, backend", WAYS)
def test_http(lab, counts, measured, forward, vip, backend):
    """Every HTTP request is answered, new connections spread as the weights say, and the answer shows the client's
    own address (it comes straight from the server)."""
    answers = lab.client.http(lab.vip(vip, VIP[forward]), port("tcp", backend), counts(300, 2000), concurrency=32)
    judge(lab, answers.all_succeeded(counts(300, 2000)), measured)


@pytest.mark.parametrize("forward, vip, backend", WAYS)
def test_udp(lab, counts, measured, forward, vip, backend):
    """Every datagram is answered, once, and flows spread as the weights say."""
    answers = lab.client.udp(lab.vip(vip, VIP[forward]), port("udp", backend), counts(300, 2000))
    judge(lab, answers.all_succeeded(counts(300, 2000)), measured)


@pytest.mark.parametrize("forward, vip, backend", WAYS)
def test_wire(lab, forward, vip, backend):
    """What is on the wire to a backend has the outer header that was configured, from the balancer's address."""
    captures = [lab.capture_to_backend(b, forward) for b in lab.backends]
    lab.client.http(lab.vip(vip, VIP[forward]), port("tcp", backend), 30).all_succeeded(30)
    source = lab.balancer.address4 if backend == 4 else lab.balancer.address6
    seen = 0
    for host, capture in zip(lab.backends, captures):
        mac = host.mac(forward)
        for packet in capture.stop().packets():
            if packet.destination != lab.vip(vip, VIP[forward]) or packet.destination_mac != mac:
                continue
            seen += packet.flags == 0x02
            outer = () if forward == "l2" else ((forward, source, host.address(forward, backend)),)
            assert packet.outer == outer, packet
    assert seen >= 30


@pytest.mark.parametrize("forward, vip, backend", WAYS)
def test_upload(lab, forward, vip, backend):
    """Full-size segments towards the server: 300 kB of each of 8 uploads arrive."""
    target = lab.vip(vip, VIP[forward])
    lab.client.http(target, port("tcp", backend), 8, upload=300_000, timeout=10, concurrency=4).all_succeeded(8)
