# SPDX-License-Identifier: Apache-2.0
"""A thousand services, and changes of one of them, checked packet by packet: from when is a change seen, and does any
packet go astray meanwhile."""

import bisect
import collections
import statistics
import struct
import time

import pytest


SERVICES, VIPS = 1000, 8
FULL_LOAD = 3.0
VISIBLE_WITHIN = 0.020
RATE = 5000  # datagrams a second, half of them to the service that changes
CHANGED_PORT, PORTS = 9998, range(10000, 10000 + (SERVICES - 2) // VIPS + 1)
# The backends of the service that changes by turns: weights change, one is replaced. No other service has any of them.
VARIANTS = ({"b1": 100, "b2": 200, "b3": 300}, {"b1": 300, "b2": 200, "b3": 100}, {"b2": 100, "b3": 100}, {"b1": 100, "b2": 100})
OTHERS = ("b4", "b5", "b6")
ORDERS = (100, 300, 50)  # weights of b1, by an operator's order


def services(lab, variant, count=SERVICES):
    """The first one is the one that changes, the second one, without traffic, has all backends, so that how they are reached
    stays known. All have lookup tables of their own."""
    def service(name, vip, port, weights):
        made = lab.service(name, lab.vip(4, vip), port, protocol="udp", forward="ipip", health={"type": "none"},
                           udp_new="cur", window="10min", weights=(1,) * 6)
        made["backends"] = [{**b, "weight": weights[b["name"]]} for b in made["backends"] if b["name"] in weights]
        return made
    others = [service(f"other-{n}", 1 + n % VIPS, PORTS[n // VIPS],
                      dict(zip(OTHERS, (100 + n % 10, 200 + n // 10 % 10, 300 + n // 100)))) for n in range(count - 2)]
    return [service("changed", 1, CHANGED_PORT, VARIANTS[variant]),
            service("all", 1, CHANGED_PORT + 1, {b.name: 100 for b in lab.backends})] + others


def flows_of(lab):
    """By turns one of the service that changes and one of another: 250 of each."""
    flows = []
    for n in range(250):
        source = lab.client.sources4[n % 8]
        flows.append((source, 20000 + n, lab.vip(4, 1), CHANGED_PORT))
        other = n * 3 % (SERVICES - 2)
        flows.append((source, 30000 + n, lab.vip(4, 1 + other % VIPS), PORTS[other // VIPS]))
    return flows


@pytest.fixture(scope="module", params=("xdp", "dpdk"))
def site(make_lab, request):
    """A lab whose only traffic is datagrams to backends that do not open their tunnels: the wire is what is looked at."""
    lab = make_lab(backends=6, vips=VIPS)
    configure(lab, request.param, 0, 2)  # so that all backends are known
    lab.balancer.start_controlplane()
    if request.param == "dpdk":
        lab.balancer.start_dataplane()
    lab.balancer.wait_backends()
    return lab, request.param


def configure(lab, path, variant, count=SERVICES):
    lab.balancer.configure(services(lab, variant, count), interfaces=[{"name": "eth0", "path": path, "hang_after": "50ms"}])
    return lab.balancer.config.read_text()


class Change:
    def __init__(self, variant, asked, answered):
        self.variant, self.asked, self.answered = variant, asked, answered


def reload(lab, variant, text):
    lab.balancer.config.write_text(text)
    asked = time.time()
    lab.balancer.post("/v1/reload")
    return Change(variant, asked, time.time())


def order(lab, variant):
    asked = time.time()
    lab.balancer.post("/v1/weight", {"service": "changed", "backend": "b1", "weight": ORDERS[variant]})
    return Change(variant, asked, time.time())


def owners(lab, flows):
    return [told["backend"] for told in lab.balancer.explain([("udp", *flow) for flow in flows])]


def seen(lab, capture):
    """{number: [(when, backend)]} of the datagrams on the wire to the backends."""
    names = {bytes(map(int, b.farm4.split("."))): b.name for b in lab.backends}
    found = collections.defaultdict(list)
    for when, frame in capture.frames():
        # Ethernet, outer IPv4, inner IPv4, UDP, number
        if frame[12:14] == b"\x08\x00" and frame[23] == 4 and frame[43] == 17:
            found[struct.unpack_from("!Q", frame, 62)[0]].append((when, names[frame[30:34]]))
    return found


def test_full_load(site, measured):
    """A thousand services, each with a lookup table of its own, are read, compiled and in force in less than 3 s."""
    lab, path = site
    change = reload(lab, 0, configure(lab, path, 0))
    took = change.answered - change.asked
    told = lab.balancer.ctl("services")
    digests = len({service["digest"] for service in told})
    measured(f"{path}: {len(told)} services with {digests} different lookup tables in force {took:.3f} s after they were asked for")
    assert len(told) == SERVICES and digests > 0.95 * SERVICES
    assert took < FULL_LOAD


@pytest.mark.parametrize("how", ("reload", "order"))
def test_change_is_seen(site, counts, measured, how):
    """While one of a thousand services gets other weights and other backends again and again, by reloads and by orders, under
    5,000 numbered datagrams a second to it and to others: from 20 ms after the answer at the latest each one goes by the new
    table, before the question by the old one, in between by one of both; none of another service is touched, none is lost
    or sent twice."""
    lab, path = site
    changes, flows = counts(24, 200), flows_of(lab)
    texts = [configure(lab, path, variant) for variant in range(len(VARIANTS))]
    reload(lab, 0, texts[0])

    def make(variant):
        return reload(lab, variant, texts[variant]) if how == "reload" else order(lab, variant)
    variants, expected = len(VARIANTS if how == "reload" else ORDERS), []
    for variant in range(variants):
        make(variant)
        lab.balancer.wait_published()
        expected.append(owners(lab, flows))
    assert len(set(map(tuple, expected))) == variants
    assert len({tuple(told[1::2]) for told in expected}) == 1 and set(expected[0][1::2]) <= set(OTHERS)
    capture = lab.capture(lab.router, "farm", "farm", "ip proto 4")
    history = [Change(variants - 1, 0, 0)]
    stream = lab.client.stream_start(RATE, flows)
    time.sleep(0.5)
    for number in range(changes):
        history.append(make(number % variants))
        time.sleep(0.1)
    time.sleep(0.3)
    sent = stream.finish()
    time.sleep(0.5)
    found = seen(lab, capture.stop())

    wrong, lost, repeated = [], [], []
    answered = [change.answered + VISIBLE_WITHIN for change in history[1:]]
    asked = [change.asked for change in history]
    last_old, first_new = [float("-inf")] * len(history), [float("inf")] * len(history)
    for number, when in enumerate(sent):
        places = found.get(number, [])
        if len(places) != 1:
            (repeated if places else lost).append(number)
            continue
        (arrived, backend), flow = places[0], number % len(flows)
        # Changes that may have been the last one at a moment between its departure and its arrival.
        oldest, newest = bisect.bisect_left(answered, when), bisect.bisect_right(asked, arrived) - 1
        allowed = {expected[history[k].variant][flow] for k in range(oldest, newest + 1)}
        if backend not in allowed:
            wrong.append((number, flows[flow], round(when - history[oldest].answered, 4), backend, sorted(allowed)))
        near = bisect.bisect_right(asked, when) - 1  # the change that was asked for before it left
        if near > 0:
            old, new = (expected[history[k].variant][flow] for k in (near - 1, near))
            if old != new and backend == old:
                last_old[near] = max(last_old[near], when - history[near].asked)
            elif old != new and backend == new:
                first_new[near] = min(first_new[near], arrived - history[near].asked)
    took = [change.answered - change.asked for change in history[1:]]
    def tell(values):
        values = sorted(value * 1000 for value in values if abs(value) < float("inf"))
        late = sum(value > VISIBLE_WITHIN * 1000 for value in values)
        return (f"{values[0]:.1f}/{statistics.median(values):.1f}/{values[len(values) * 95 // 100]:.1f}/{values[-1]:.1f} ms "
                f"({late} of {len(values)} over {VISIBLE_WITHIN * 1000:.0f})")
    late = [old + change.asked - change.answered for old, change in zip(last_old[1:], history[1:])]
    measured(f"{path}: {changes} changes by {how} under {len(sent)} datagrams ({len(sent) / (sent[-1] - sent[0]):.0f} a second): {len(lost)} lost, "
             f"{len(repeated)} repeated, {len(wrong)} astray; min/median/p95/max from the question to the answer {tell(took)}, to the "
             f"first datagram by the new table {tell(first_new[1:])}, to the last one by the old table {tell(last_old[1:])}; "
             f"from the answer to that one {tell(late)}")
    assert len(sent) > 0.9 * RATE * (sent[-1] - sent[0]), "the stream was not made"
    assert not lost and not repeated and not wrong, (len(lost), lost[:5], repeated[:5], len(wrong), wrong[:5])
    # A sender that had to wait for its core may have sent nothing between the question and the change.
    assert sum(new < float("inf") and old > float("-inf") for new, old in zip(first_new[1:], last_old[1:])) > changes / 2
