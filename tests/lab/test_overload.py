# SPDX-License-Identifier: Apache-2.0
"""New connections above a service's limit, or beyond what the node can take, are refused; all others go on."""

import time

import pytest

from sluicelab.run import wait_for

LIMIT = 100  # new connections a second
FLOOD = 6 * LIMIT
HELD, NEW = 20, 20  # connections; a second
FULL = 600  # connections that are remembered, in a table of 1024


def configure(lab, dataplane=None, limit=LIMIT, tracking="all", refuse_with="drop"):
    """Three services, remembered, of three priorities; the one in the middle has a limit."""
    web = {"forward": "ipip", "tracking": tracking}
    balancer = lab.balancer
    balancer.configure(
        [lab.service("low", lab.vip(4, 1), 80, **web, priority="low"),
         lab.service("limited", lab.vip(4, 2), 80, **web, refuse_with=refuse_with,
                     **({"max_new_flows": f"{limit}pps"} if limit else {})),
         lab.service("high", lab.vip(4, 3), 80, **web, priority="high")],
        interfaces=[{"name": "eth0", "hang_after": "50ms", "path": lab.path}],
        dataplane={**balancer.base_settings()["dataplane"], "exceptions": 1024, "shed_above": 100, **(dataplane or {})})


@pytest.fixture(scope="module", params=["dpdk", "xdp"])
def lab(make_lab, request):
    lab = make_lab()
    lab.path = request.param
    lab.start_servers()
    lab.open_tunnels()
    configure(lab)
    lab.balancer.start_controlplane()
    if lab.path == "dpdk":
        lab.balancer.start_dataplane()
    lab.balancer.wait_published()
    lab.balancer.wait_backends()
    return lab


@pytest.fixture(autouse=True)
def rested(lab):
    """However the test before ended."""
    if not lab.balancer.controlplane.alive():
        lab.balancer.start_controlplane()
    configure(lab)
    lab.balancer.ctl("reload")
    wait_for("nothing is refused", lambda: all(s["refused_share"] == 0 for s in services(lab).values()), 30)


def services(lab):
    return {s["name"]: s for s in lab.balancer.ctl("services")}


def load(lab):
    return lab.balancer.ctl("status")["overload"]["load"]


def refused(lab):
    return next(d["packets"] for d in lab.balancer.ctl("drops")["drops"] if d["reason"] == "refused")


def answered(lab):
    return next(v["packets"] for v in lab.balancer.ctl("counters")["verdicts"] if v["verdict"] == "answered_reset")


def admitted(lab):
    """First packets of the limited service that were let in, and those that came."""
    s = services(lab)["limited"]
    return s["new_flows"] - s["drops"], s["new_flows"]


def rates(lab, seconds):
    """New connections of the limited service a second: let in, and all."""
    began, before = time.monotonic(), admitted(lab)
    time.sleep(seconds)
    took, after = time.monotonic() - began, admitted(lab)
    return [(b - a) / took for a, b in zip(before, after)]


def test_capacity(lab, measured):
    """First of all, for what the others close stays in the table. It fills: low priority is refused, high is served, what is established goes on; it ends."""
    configure(lab, limit=0)
    lab.balancer.ctl("reload")
    held = lab.client.load_start(lab.vip(4, 3), FULL, 0, 0, pause_ms=1500)
    wait_for("the table fills", lambda: (load(lab)["exceptions"] or 0) > 0.5, 20)
    assert all(s["refused_share"] == 0 for s in services(lab).values()), "shed_above = 100 is never"

    configure(lab, {"shed_above": 20}, limit=0)
    lab.balancer.ctl("reload")
    wait_for("all of low is refused", lambda: services(lab)["low"]["refused_share"] == 1, 15)
    shares = {name: s["refused_share"] for name, s in services(lab).items()}
    status = lab.balancer.ctl("status")["overload"]
    measured(f"exceptions at {status['load']['exceptions']:.2f}: {shares}")
    assert services(lab)["low"]["refused_cause"] == "exceptions" and status["shedding"]
    assert shares["high"] == 0 and 0 < shares["limited"] < 0.5
    assert len(lab.client.http(lab.vip(4, 1), count=20, timeout=1).failed) == 20
    lab.client.http(lab.vip(4, 3), count=100).all_succeeded(100)

    configure(lab, limit=0)
    lab.balancer.ctl("reload")
    wait_for("nothing is refused", lambda: services(lab)["low"]["refused_share"] == 0, 5)
    lab.client.http(lab.vip(4, 1), count=20).all_succeeded(20)
    told = held.finish()
    assert not told["held"]["failed"], told["held"]["failed"][:5]


def test_ended_connections_refuse_nobody(lab, measured):
    """A table full of connections that have ended, which keep their places for two minutes, is no load: new ones go by
    the table alone."""
    configure(lab, {"shed_above": 75}, limit=0)
    lab.balancer.ctl("reload")
    lab.client.http(lab.vip(4, 3), count=1500).all_succeeded(1500)
    wait_for("they fill the table", lambda: (lab.balancer.ctl("status")["exceptions"]["used"] or 0) > 768, 10)
    wait_for("they are no load", lambda: (load(lab)["exceptions"] or 0) < 0.3, 10)
    wait_for("nobody is refused", lambda: all(s["refused_share"] == 0 for s in services(lab).values()), 10)
    used, found = lab.balancer.ctl("status")["exceptions"]["used"], load(lab)["exceptions"]
    measured(f"{used} of 1024 places, exceptions at {found:.2f}")
    assert used > 768
    lab.client.http(lab.vip(4, 1), count=100).all_succeeded(100)


def test_load(lab, measured):
    """What the paths' work takes is the node's load, too; a full table is no matter to services that steadily need none."""
    flood = lab.client.load_start(lab.vip(4, 3), 50, 100, 0, pause_ms=20)
    configure(lab, {"shed_above": 1}, limit=0, tracking="changes")
    lab.balancer.ctl("reload")
    wait_for("some of low is refused", lambda: services(lab)["low"]["refused_share"] > 0, 20)
    found, low = load(lab), services(lab)["low"]
    measured(f"{found}: {low['reason']}")
    assert (found["worker"] is not None) == (lab.path == "dpdk") and found["softirq"] is not None
    assert low["refused_cause"] in (("worker", "softirq") if lab.path == "dpdk" else ("softirq",))
    configure(lab, limit=0, tracking="changes")
    lab.balancer.ctl("reload")
    wait_for("nothing is refused", lambda: services(lab)["low"]["refused_share"] == 0, 5)
    told = flood.finish()
    for kind in ("held", "new"):
        assert not told[kind]["failed"], (kind, told[kind]["failed"][:5])


def test_limit(lab, measured):
    """A service gets as many new connections as its limit says; those it has, and other services, notice nothing."""
    held = lab.client.load_start(lab.vip(4, 2), HELD, 0, 0)
    time.sleep(1)
    other = lab.client.load_start(lab.vip(4, 3), 5, NEW, 0)
    before = refused(lab)
    flood = lab.client.load_start(lab.vip(4, 2), 0, FLOOD, 0)
    time.sleep(4)
    let_in, all_of_them = rates(lab, 6)
    s = services(lab)["limited"]
    measured(f"{let_in:.0f} of {all_of_them:.0f} first packets a second let in, the limit is {LIMIT}")
    assert all_of_them > 3 * LIMIT, "the flood is none"
    assert 0.5 * LIMIT < let_in < 1.5 * LIMIT
    assert s["refused_cause"] == "limit" and s["refused_share"] > 0.5 and f"{LIMIT}pps" in s["reason"]
    assert refused(lab) > before + 3 * LIMIT

    answers = lab.balancer.explain([("tcp", "203.0.113.77", port, lab.vip(4, 2), 80) for port in range(2000, 2200)])
    told = sum(a["verdict"] == "refused" for a in answers)
    assert 0.5 < told / len(answers) <= 1, f"{told} of 200 flows are said to be refused"
    assert all("max_new_flows" in a["reason"] for a in answers if a["verdict"] == "refused")

    flood.finish()
    wait_for("the limit ends with the flood", lambda: services(lab)["limited"]["refused_share"] == 0, 10)
    lab.client.http(lab.vip(4, 2), count=50, rate=25).all_succeeded(50)
    for load in (held, other):
        told = load.finish()
        for kind in ("held", "new"):
            assert not told[kind]["failed"], (kind, told[kind]["failed"][:5])
    assert services(lab)["high"]["drops"] == 0
    log = lab.balancer.controlplane.text()
    assert "overload: service limited" in log and "above max_new_flows" in log


def test_resets(lab, measured):
    """With refuse_with = "reset" who is refused is told at once, by a connection refused; without it he waits."""
    flood = lab.client.load_start(lab.vip(4, 2), 0, FLOOD, 0)
    wait_for("the limit refuses", lambda: services(lab)["limited"]["refused_share"] > 0.5, 10)
    silent = lab.client.http(lab.vip(4, 2), count=40, concurrency=20, timeout=0.9)
    configure(lab, refuse_with="reset")
    lab.balancer.ctl("reload")
    before = answered(lab)
    told = lab.client.http(lab.vip(4, 2), count=40, concurrency=20, timeout=0.9)
    explained = lab.balancer.explain([("tcp", "203.0.113.77", port, lab.vip(4, 2), 80) for port in range(2000, 2200)])
    s = services(lab)["limited"]
    flood.finish()
    slowest = max((r.end - r.start for r in told.failed), default=0)
    measured(f"of 40 requests {len(silent.failed)} failed in silence, and {len(told.failed)} by a reset, the slowest after "
             f"{slowest * 1000:.1f} ms; resets: {answered(lab) - before}; service: {s['refused_share']:.2f} refused")
    assert 5 < len(silent.failed) and all("Timeout" in f.error for f in silent.failed), silent.failed[:3]
    assert 5 < len(told.failed) and all("ConnectionRefused" in f.error for f in told.failed), told.failed[:3]
    assert answered(lab) - before >= len(told.failed)
    assert s["refuse_with"] == "reset" and s["refused_cause"] == "limit"
    verdicts = {e["verdict"] for e in explained}
    assert "answered_reset" in verdicts and verdicts <= {"answered_reset", "forward"}


def test_control_plane_is_gone(lab, measured):
    """Who refuses has died: some seconds later nobody is refused."""
    flood = lab.client.load_start(lab.vip(4, 2), 0, FLOOD, 0)
    wait_for("the limit refuses", lambda: services(lab)["limited"]["refused_share"] > 0.5, 10)
    lab.balancer.controlplane.kill()
    killed = time.monotonic()
    time.sleep(5)
    answers = lab.client.http(lab.vip(4, 2), count=60, concurrency=30, timeout=0.9)
    measured(f"{len(answers)} requests, {len(answers.failed)} failed, "
             f"{time.monotonic() - killed:.1f} s after the control plane's death")
    flood.finish()
    assert len(answers.failed) <= 2, answers.errors()
