# SPDX-License-Identifier: Apache-2.0
"""Three balancers behind the router's ECMP, on two cores: idle = "sleep" lets them live together."""

import time

import pytest

WEIGHTS = (100, 200, 300)


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab(balancers=3)
    lab.start_servers()
    lab.open_tunnels()
    for balancer in lab.balancers:
        balancer.share_key()
        balancer.configure([lab.service(f"web{f}", lab.vip(f, 1), 80, forward="gue", family=4, weights=WEIGHTS)
                            for f in (4, 6)])
        balancer.start()
    for balancer in lab.balancers:
        balancer.wait_backends()
    return lab


def test_all_three_forward(lab, counts, measured):
    """Requests succeed over all three, and each carried some."""
    # On the router's side: a packet socket on the balancer's own interface does not see what an AF_XDP socket sends.
    captures = [lab.capture(lab.router, b.name, f"wire-{b.name}", f"udp dst port 6080 and src host {b.address4}")
                for b in lab.balancers]
    for family in (4, 6):
        lab.client.http(lab.vip(family, 1), count=counts(300, 2000)).all_succeeded()
    carried = [sum(1 for p in c.stop().packets() if p.flags == 0x02) for c in captures]
    measured(f"new connections over lb1, lb2, lb3: {carried}")
    assert all(n > 2 * counts(300, 2000) / 10 for n in carried)


def test_nodes_agree(lab):
    """With the same key and file, every node explains every flow alike."""
    flows = [("tcp", f"203.0.113.{n % 200 + 2}", 10000 + n, lab.vip(4, 1), 80) for n in range(300)]
    answers = [[e["backend"] for e in balancer.explain(flows)] for balancer in lab.balancers]
    assert answers[0] == answers[1] == answers[2]
    assert len(set(answers[0])) == 3


def test_node_leaves_and_returns(lab, measured):
    """A node is taken out of the router's ECMP and dies: connections that it carried go on through the others, to the
    same backends, for every node decides alike. The same when it returns."""
    traffic = [lab.client.http_start(lab.vip(f, 1), rate=100, concurrency=24, keepalive=keepalive)
               for f in (4, 6) for keepalive in (False, True)]
    time.sleep(1)
    lab.route_vips_to([(b.address4, b.address6) for b in lab.balancers[1:]])
    time.sleep(0.2)
    lab.balancers[0].dataplane.kill()
    time.sleep(1)
    lab.balancers[0].start_dataplane()
    lab.balancers[0].wait_published()
    lab.route_vips_to([(b.address4, b.address6) for b in lab.balancers])
    time.sleep(1)
    answers = [t.finish() for t in traffic]
    measured(f"{sum(map(len, answers))} requests, {sum(len(a.failed) for a in answers)} failed")
    for answer in answers:
        answer.all_succeeded()


def test_idle(lab, measured):
    """Three idle dataplanes together leave both cores to others."""
    time.sleep(0.5)
    start = [b.dataplane.cpu_seconds() for b in lab.balancers]
    time.sleep(3)
    used = [(b.dataplane.cpu_seconds() - s) / 3 for b, s in zip(lab.balancers, start)]
    measured("idle: " + ", ".join(f"{u:.1%}" for u in used) + " of a core")
    assert all(u < 0.1 for u in used)
