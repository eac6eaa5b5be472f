# SPDX-License-Identifier: Apache-2.0
"""What `sluicectl plan` says of a change before it is made, and what then happens."""

import collections
import math
import time

import pytest

from sluicelab import wait_for
from sluicelab.client import Traffic
from sluicelab.spread import agreement

BACKENDS = 4
TABLE = 251  # small: the explained flows meet every bucket
EXPLAINED, CONNECTIONS, HELD = 5000, 2000, 200

# What the service has before and after: weights by backend, and other settings.
EVEN = {f"b{n}": 100 for n in range(1, BACKENDS + 1)}
SOME = {name: 100 for name in list(EVEN)[:-1]}
CHANGES = {
    "weight": (EVEN, {**EVEN, "b1": 300}, {}),
    "add": (SOME, EVEN, {}),
    "remove": (EVEN, SOME, {}),
    "drain": (EVEN, {**EVEN, "b2": 0}, {}),
    "table_size": (EVEN, EVEN, {"table_size": 1021}),
    "untracked": (EVEN, SOME, {"tracking": "none"}),
    "several": (SOME, {"b1": 50, "b3": 200, "b4": 100}, {}),
}
ALPHA = 0.001 / len(CHANGES)  # a whole run cries wolf once in a thousand


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab(backends=BACKENDS)
    lab.start_servers()
    lab.open_tunnels()
    lab.changed = set()
    lab.balancer.configure(services(lab))
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def services(lab):
    """One for each change, on a VIP of its own: as before it, or as after it when it has been made."""
    found = []
    for number, (name, (before, after, settings)) in enumerate(CHANGES.items(), 1):
        weights = after if name in lab.changed else before
        settings = {"table_size": TABLE, **({"tracking": "none"} if "tracking" in settings else {}),
                    **(settings if name in lab.changed else {})}
        service = lab.service(name, lab.vip(4, number), 80, forward="ipip", weights=(1,) * BACKENDS, **settings)
        service["backends"] = [{**b, "weight": weights[b["name"]]} for b in service["backends"] if b["name"] in weights]
        found.append(service)
    return found


def explained(lab, vip):
    """What becomes of the first packet of each of many flows."""
    answers = []
    for first in range(0, EXPLAINED, 1000):
        answers += lab.balancer.explain([("tcp", f"203.0.113.{10 + n % 200}", 1024 + n, vip, 80)
                                         for n in range(first, first + 1000)])
    assert all(a["verdict"] == "forward" for a in answers)
    return answers


def shares(lab, service):
    return {b["name"]: b["share"] for b in lab.balancer.ctl("backends", service)}


def hold(lab, vip):
    """Connections that ask every 100 to 300 ms for as long as they live."""
    client = lab.client
    return Traffic(client.run, client.namespace, client._name("hold"), "hold_client.py", {
        "target": vip, "port": 80, "connections": HELD, "timeout": 3, "sources": client.sources4,
        "pause": [0.1, 0.3], "life": [None]})


def lost(held, applied):
    """Connections from before the change that failed since, or that another server has answered: who of how many."""
    servers, begun, broken = collections.defaultdict(set), set(), set()
    for request in held.requests:
        if request.start < applied - 0.5 and not request.error:
            begun.add(request.source)
        if request.error:
            broken.add(request.source)
        else:
            servers[request.source].add(request.backend)
    return {c for c in begun if c in broken or len(servers[c]) > 1}, begun


def agrees(found, number, percent):
    """Whether `found` of `number` are what `percent` predicts of each: within five standard deviations, none of none."""
    p = percent / 100
    return abs(found - number * p) <= 5 * math.sqrt(number * p * (1 - p)) + (0 if p in (0, 1) else 1)


@pytest.mark.parametrize("change", CHANGES)
def test_prediction(lab, measured, change):
    """The buckets that `plan` says move and open are those that do; shares are what it says, and new connections spread
    by them; the part of the held connections that it says is at risk breaks, and none when it says none."""
    vip = lab.vip(4, list(CHANGES).index(change) + 1)
    same_table = "table_size" not in CHANGES[change][2]
    before, shares_before = explained(lab, vip), shares(lab, change)
    open_before = lab.balancer.ctl("status")["windows"]["buckets_open"]
    generation = lab.balancer.ctl("status")["generation"]

    lab.changed.add(change)
    lab.balancer.configure(services(lab))
    plan = lab.balancer.ctl("plan", lab.balancer.config)
    assert lab.balancer.ctl("status")["generation"] == generation, "a plan has changed something"
    assert [s["service"] for s in plan["services"]] == [change]
    told = plan["services"][0]
    for name, share in shares_before.items():
        assert share == pytest.approx({b["name"]: b["share_before"] for b in told["backends"]}[name], abs=1e-9)

    held = hold(lab, vip)
    time.sleep(3)
    applied = time.time()
    lab.balancer.ctl("reload")
    predicted = {b["name"]: b["share_after"] for b in told["backends"]}
    # A backend that is new takes part once its first probe has answered.
    wait_for("all that the plan takes for up are",
             lambda: all((shares(lab, change).get(name, 0) > 0) == (share > 0) for name, share in predicted.items()), 10)
    lab.balancer.wait_published()

    # Buckets.
    after = explained(lab, vip)
    opened = lab.balancer.ctl("status")["windows"]["buckets_open"] - open_before
    differ = sum(a["owner"] != b["owner"] for a, b in zip(before, after))
    kept_or_risked = told["flows_protected_percent"] + told["flows_at_risk_percent"]
    if same_table:
        owners = [{a["bucket"]: a["owner"] for a in answers} for answers in (before, after)]
        assert len(owners[0]) == len(owners[1]) == TABLE, "not every bucket has been met"
        moved = sum(owners[0][bucket] != owners[1][bucket] for bucket in range(TABLE))
        assert moved == told["buckets_moved"]
        assert len({a["bucket"] for a in after if a["bucket_state"] == "open"}) == told["buckets_opened"]
        assert opened == told["buckets_opened"]
    assert agrees(differ, EXPLAINED, told["buckets_moved_percent"])
    assert agrees(differ, EXPLAINED, kept_or_risked)
    assert plan["buckets_moved"] == told["buckets_moved"]
    assert plan["buckets"] == sum(s["table_size"] for s in lab.balancer.settings["services"])
    for what in ("flows_protected_percent", "flows_at_risk_percent"):
        assert plan[what] == pytest.approx(told[what] * told["table_size"] / plan["buckets"], abs=1e-6)

    # Shares, and new connections by them.
    for name, share in shares(lab, change).items():
        assert share == pytest.approx(predicted.get(name, 0), abs=1e-9)
    answers = lab.client.http(vip, 80, CONNECTIONS, concurrency=32).all_succeeded(CONNECTIONS)
    statistic, p = agreement(answers.spread(), predicted)

    # Held connections.
    held = held.finish()
    broken, begun = lost(held, applied)
    measured(f"{change}: {told['buckets_moved']} of {told['table_size']} buckets predicted to move, {told['buckets_opened']} to open; "
             f"{differ} of {EXPLAINED} flows have another owner; {len(answers)} connections, chi-squared {statistic:.2f}, p {p:.3f}; "
             f"{told['flows_protected_percent']:.1f}% predicted kept, {told['flows_at_risk_percent']:.1f}% at risk: "
             f"{len(broken)} of {len(begun)} held connections lost")
    assert p > ALPHA, f"the spread {answers.spread()} does not agree with the predicted shares {predicted}: p = {p:.2g}"
    assert len(begun) > HELD * 0.9
    assert agrees(len(broken), len(begun), told["flows_at_risk_percent"]), sorted(broken)[:10]


def test_nothing_changes(lab):
    """A plan of what runs already names no service and moves nothing."""
    plan = lab.balancer.ctl("plan", lab.balancer.config)
    assert plan["services"] == [] and plan["buckets_moved"] == 0
    assert plan["flows_at_risk_percent"] == plan["flows_protected_percent"] == 0
