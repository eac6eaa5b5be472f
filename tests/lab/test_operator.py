# SPDX-License-Identifier: Apache-2.0
"""Orders of the operator: drain, enable, disable, weight."""

import collections

import pytest

from sluicelab.run import wait_for
from sluicelab.spread import agreement

ALPHA = 0.0001
USED = set()  # addresses and ports of the client that this file's connections have had


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    lab.balancer.configure([lab.service("web", lab.vip(4, 1), 80, forward="gue", family=4, weights=(100, 100, 100))])
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def spread_is(lab, measured, what, *weights):
    """600 connections all succeed, and those from an address and port not used before spread by these weights.

    The kernel soon gives a port again. To the balancer a SYN of a remembered 5-tuple is no new connection: it stays."""
    answers = lab.client.http(lab.vip(4, 1), count=600).all_succeeded(600)
    fresh = [request for request in answers.requests if request.source not in USED]
    USED.update(request.source for request in answers.requests)
    assert len(fresh) > 300, "hardly a connection is new"
    spread = collections.Counter(request.backend for request in fresh)
    _, p = agreement(spread, {b.name: w for b, w in zip(lab.backends, weights)})
    measured(f"{what}: spread {dict(sorted(spread.items()))} for weights {weights}, p {p:.3f}")
    assert p > ALPHA, f"{what}: spread {spread} for weights {weights}"


def test_weight(lab, measured):
    """A weight by hand takes effect at once and is shown; so does taking it to zero."""
    lab.balancer.ctl("weight", "web/b1", 400)
    lab.balancer.wait_published()
    assert {b["name"]: b["weight"] for b in lab.balancer.ctl("backends", "web")} == {"b1": 400, "b2": 100, "b3": 100}
    spread_is(lab, measured, "weight 400", 400, 100, 100)
    lab.balancer.ctl("weight", "web/b1", 0)
    lab.balancer.wait_published()
    spread_is(lab, measured, "weight 0", 0, 100, 100)
    lab.balancer.ctl("weight", "web/b1", 100)
    lab.balancer.wait_published()
    spread_is(lab, measured, "weight 100 again", 100, 100, 100)


def test_weight_of_the_configuration(lab):
    """A weight by hand is told of, stands over a reload, and can be taken back."""
    def b1():
        return next(b for b in lab.balancer.ctl("backends", "web") if b["name"] == "b1")

    assert b1()["ordered_weight"] == 100, "as the test before has left it"
    lab.balancer.ctl("reload")
    assert b1()["ordered_weight"] == 100
    shown = lab.balancer.ctl_raw("backends", "web", json_output=False).stdout
    assert shown.count("weight by an operator, configured 100") == 1
    lab.balancer.ctl("weight", "web/b1", "configured")
    assert (b1()["ordered_weight"], b1()["weight"]) == (None, 100)
    assert "b1" not in (lab.balancer.state / "operator.json").read_text()


def test_drain_and_enable(lab, measured):
    """A drained backend gets no new connection and is shown as draining; enabled again it gets its share."""
    lab.balancer.ctl("drain", "web/b2")
    lab.balancer.wait_published()
    assert lab.balancer.backend_states("web") == {"b1": "up", "b2": "draining", "b3": "up"}
    spread_is(lab, measured, "b2 draining", 100, 0, 100)
    lab.balancer.ctl("enable", "web/b2")
    lab.balancer.wait_backends()
    spread_is(lab, measured, "b2 enabled", 100, 100, 100)


def test_drain_waits(lab):
    """drain --wait is done when nothing is left, and fails when connections have been cut at the deadline."""
    done = lab.balancer.ctl_raw("drain", "web/b2", "--wait", "--timeout", "2s", json_output=False)
    assert done.returncode == 0, done.stderr
    lab.balancer.ctl("enable", "web/b2")
    lab.balancer.wait_backends()
    wrk = lab.run.start("wrk", [*lab.client.namespace.enter, "wrk", "-t1", "-c12", "-d8", f"http://{lab.vip(4, 1)}/"])
    before = {b["name"]: b["packets"] for b in lab.balancer.ctl("backends", "web")}
    wait_for("all have connections", lambda: all(b["packets"] > before[b["name"]] + 20
                                                 for b in lab.balancer.ctl("backends", "web")), 5)
    done = lab.balancer.ctl_raw("drain", "web/b2", "--wait", "--timeout", "2s", json_output=False)
    assert done.returncode == 1 and "still got packets at the deadline" in done.stderr, done.stderr
    wait_for("it is down", lambda: lab.balancer.backend_states("web")["b2"] == "down", 5)
    wrk.popen.wait(20)
    lab.balancer.ctl("enable", "web/b2")
    lab.balancer.wait_backends()


def test_disable(lab, measured):
    """A disabled backend is out at once, with a reason that names the operator."""
    lab.balancer.ctl("disable", "web/b3")
    lab.balancer.wait_published()
    assert lab.balancer.backend_states("web")["b3"] == "disabled"
    spread_is(lab, measured, "b3 disabled", 100, 100, 0)
    lab.balancer.ctl("enable", "web/b3")
    lab.balancer.wait_backends()
    spread_is(lab, measured, "b3 enabled", 100, 100, 100)


def test_orders_survive(lab, measured):
    """Drains and weights outlive a control plane that is killed with -9."""
    lab.balancer.ctl("drain", "web/b2")
    lab.balancer.ctl("weight", "web/b1", 300)
    lab.balancer.controlplane.kill()
    lab.balancer.start_controlplane()
    lab.balancer.wait_published()
    assert lab.balancer.backend_states("web") == {"b1": "up", "b2": "draining", "b3": "up"}
    spread_is(lab, measured, "after kill -9", 300, 0, 100)
    lab.balancer.ctl("enable", "web/b2")
    lab.balancer.ctl("weight", "web/b1", 100)
    lab.balancer.wait_backends()


def test_unknown_names_are_refused(lab):
    """An order for what does not exist fails with a message that names it."""
    for order in (("drain", "web/b9"), ("weight", "nothing/b1", 5), ("weight", "web/b1", 70000)):
        done = lab.balancer.ctl_raw(*order, json_output=False)
        assert done.returncode != 0 and done.stderr.strip(), order
