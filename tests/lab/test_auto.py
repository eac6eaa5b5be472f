# SPDX-License-Identifier: Apache-2.0
"""path = "auto": the kernel's path while there is little traffic, the dataplane's workers while there is much, and no
connection or datagram lost between the two."""

import collections
import os
import pathlib
import time

import pytest

from sluicelab.balancer import endpoint
from sluicelab.run import wait_for

ABOVE, BELOW, AFTER = 1200, 800, 1.0  # packets a second, seconds
HELD, NEW = 20, 10  # connections; a second. About 200 packets a second
LOW, MIDDLE, HIGH = 100, 700, 2500  # datagrams a second
LOST_SYN = 0.9  # a connection that took so long sent its SYN twice
AUTO = {"path": "auto", "dpdk_above": f"{ABOVE}pps", "xdp_below": f"{BELOW}pps", "xdp_after": f"{AFTER:g}s"}


def configure(lab, **interface):
    """Workers that spin: what they use when they are parked, they use by mistake."""
    lab.balancer.configure(
        [lab.service("web", lab.vip(4, 1), 80, forward="ipip"),
         lab.service("pulse", lab.vip(4, 1), 5300, protocol="udp", forward="gue")],
        interfaces=[{"name": "eth0", "hang_after": "50ms", **interface}],
        dataplane={**lab.balancer.base_settings()["dataplane"], "idle": "spin"})


def reload(lab, **interface):
    configure(lab, **interface)
    lab.balancer.ctl("reload")


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    configure(lab, **AUTO)
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


@pytest.fixture
def parked(lab):
    """However the test before ended."""
    if not lab.balancer.controlplane.alive():
        lab.balancer.start_controlplane()
    reload(lab, **AUTO)
    reaches(lab, "parked", 20)
    return lab


def path(lab):
    return lab.balancer.ctl("paths")["interfaces"][0]


def reaches(lab, state, timeout=15):
    wait_for(f"eth0 is {state}", lambda: path(lab)["state"] == state, timeout)
    return path(lab)


def base(lab, pulse=LOW):
    """What there is all the time: held connections, new ones, datagrams."""
    return lab.client.load_start(lab.vip(4, 1), HELD, NEW, pulse, pause_ms=250)


def wave(lab):
    return lab.client.load_start(lab.vip(4, 1), 0, 2 * NEW, HIGH)


def ticks(lab):
    """Of processor time that each thread of the dataplane has used, by name."""
    used = {}
    for stat in pathlib.Path(f"/proc/{lab.balancer.dataplane.pid}/task").glob("*/stat"):
        name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        used[f"{stat.parent.name} {name}"] = sum(int(n) for n in rest.split()[11:13])
    return used


def used_within(lab, seconds):
    """[(thread, ticks)] of those that used any."""
    before = ticks(lab)
    time.sleep(seconds)
    return sorted((name, used - before[name]) for name, used in ticks(lab).items() if used > before.get(name, 0))


def explained(lab):
    return lab.balancer.ctl("explain", "udp", endpoint("203.0.113.2", 4000), endpoint(lab.vip(4, 1), 5300))["path"]


def ends(load):
    load.process.popen.stdin.close()
    return load


def none_lost(measured, what, *loads):
    """Every request on every connection, and every datagram, was answered, by who answered there before."""
    told = [load.finish() for load in loads]
    requests, new, failed, again, sent, lost, moved = 0, 0, [], [], 0, 0, []
    for load in told:
        requests, new = requests + load["held"]["requests"], new + load["new"]["requests"]
        failed += load["held"]["failed"] + load["new"]["failed"]
        again += [entry for entry in load["new"]["slow"] if entry[1] - entry[0] > LOST_SYN]
        sent, lost = sent + len(load["pulse"]["sent"]), lost + load["pulse"]["took"].count(-1)
        moved += load["pulse"]["moved"]
    measured(f"{what}: {requests} requests on {HELD} held connections and {new} on new ones, {len(failed)} broken or moved, "
             f"{len(again)} SYNs sent again; {sent} datagrams, {lost} lost, {len(moved)} moved")
    assert requests and new and not failed and not again, (failed[:3], again[:3])
    assert sent and not lost and not moved, (lost, moved[:3])


def test_square_wave(parked, counts, measured):
    """Traffic that rises and falls: each time polling begins and ends, for the reason that is shown; parked workers use no
    processor time at all; no connection breaks, and no datagram is lost."""
    lab, waves, seconds = parked, counts(3, 20), counts(4, 20)
    low = base(lab)
    time.sleep(1)
    used = used_within(lab, seconds)
    measured(f"parked for {seconds} s under {path(lab)['rate_pps']} packets a second: ticks of {os.sysconf('SC_CLK_TCK')} a "
             f"second by thread: {used or 'none'}")
    assert path(lab)["state"] == "parked" and not used, used
    assert explained(lab) == "xdp"
    before, high = path(lab), []
    for _ in range(waves):
        begin = time.monotonic()
        high.append(wave(lab))
        reaches(lab, "polling")
        woke = time.monotonic() - begin
        time.sleep(1)
        assert explained(lab) == "dpdk" and path(lab)["queues"][0]["path"] == "dpdk", path(lab)
        if len(high) == 1:
            assert used_within(lab, 1), "workers that spin use no processor time"
        ends(high[-1])
        begin = time.monotonic()
        reaches(lab, "parked")
        assert time.monotonic() - begin >= AFTER - 0.3
        measured(f"polling {woke:.2f} s after the first packet, parked {time.monotonic() - begin:.2f} s after the last")
        time.sleep(0.5)
        assert path(lab)["queues"][0]["path"] == "xdp", path(lab)
    after = path(lab)
    told = lab.balancer.ctl_raw("paths", json_output=False).stdout
    none_lost(measured, f"{waves} waves", low, *high)
    assert {way: after["switches"][way] - before["switches"][way] for way in after["switches"]} == \
        {"to_dpdk": waves, "to_xdp": waves}
    for switch in after["history"][-2 * min(waves, 8):]:
        up = switch["to"] == "dpdk"
        assert switch["from"] != switch["to"] and switch["threshold_pps"] == (ABOVE if up else BELOW), switch
        assert switch["rate_pps"] > ABOVE if up else switch["rate_pps"] < BELOW, switch
        assert f"{'above dpdk_above' if up else 'below xdp_below'} = " in switch["reason"], switch
        assert switch["reason"] in told
    assert len(after["history"]) <= 16
    assert not path(lab)["queues"][0]["hangs"], path(lab)


def test_between(parked, measured):
    """A rate between the two thresholds changes nothing, whichever path there is."""
    lab = parked
    middle, seconds = base(lab, MIDDLE), 4 * AFTER
    before, rates = path(lab)["switches"], []
    time.sleep(1)
    for state in ("parked", "polling"):
        if state == "polling":
            high = wave(lab)
            reaches(lab, "polling")
            ends(high)
            time.sleep(0.5)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = path(lab)
            rates.append(now["rate_pps"])
            assert now["state"] == state, now
            time.sleep(0.2)
    after = path(lab)["switches"]
    measured(f"{2 * seconds:g} s at {min(rates)} to {max(rates)} packets a second, dpdk_above {ABOVE}, xdp_below {BELOW}: "
             f"{after['to_dpdk'] - before['to_dpdk'] - 1} switches but the one asked for")
    none_lost(measured, "between", middle, high)
    assert after == {"to_dpdk": before["to_dpdk"] + 1, "to_xdp": before["to_xdp"]}
    assert sum(BELOW <= r <= ABOVE for r in rates) > len(rates) / 2, f"no test of what is between: {sorted(rates)}"


def test_daemons_end(parked, measured):
    """What there is stays when the control plane is killed, and is taken over by the next one without a switch; a dataplane
    that starts is parked until the rate asks for more."""
    lab, high = parked, None
    low = base(lab)
    for state in ("parked", "polling"):
        if state == "polling":
            high = wave(lab)
            reaches(lab, state)
        lab.balancer.controlplane.kill()
        # The control thread looks for a control plane ten times a second.
        used = [(name, n) for name, n in used_within(lab, 2) if "worker" in name]
        assert bool(used) == (state == "polling"), (state, used)
        lab.balancer.start_controlplane()
        now = reaches(lab, state, 5)
        assert not now["history"], now
        time.sleep(2 * AFTER)
        assert path(lab)["state"] == state and not path(lab)["history"], path(lab)
    lab.balancer.dataplane.stop()
    wait_for("the dataplane is missed", lambda: path(lab)["state"] == "no dataplane", 5)
    lab.balancer.start_dataplane()
    now = reaches(lab, "polling", 20)
    assert [s["to"] for s in now["history"]] == ["xdp", "dpdk"], now["history"]
    assert "parked until" in lab.balancer.dataplane.text() and now["history"][-1]["rate_pps"] > ABOVE
    ends(high)
    reaches(lab, "parked")
    none_lost(measured, "control plane killed twice, dataplane restarted", low, high)


def test_reload(parked, measured):
    """A reload changes the path, and the rates, with no packet lost."""
    lab = parked
    low = base(lab)
    for interface, state, why in (
            ({"path": "dpdk"}, "polling", 'path = "dpdk" is configured'),
            (AUTO, "parked", "below xdp_below = 800pps"),
            ({**AUTO, "dpdk_above": "100pps", "xdp_below": "50pps"}, "polling", "above dpdk_above = 100pps"),
            ({"path": "xdp"}, "parked", 'path = "xdp" is configured'),
            ({"path": "dpdk"}, "polling", 'path = "dpdk" is configured'),
            ({"path": "xdp"}, "parked", 'path = "xdp" is configured')):
        reload(lab, **interface)
        now = reaches(lab, state)
        assert why in now["path_reason"] and now["configured"] == interface["path"], now
        time.sleep(0.3)
        assert path(lab)["queues"][0]["path"] == now["path"] == ("dpdk" if state == "polling" else "xdp")
    none_lost(measured, "6 reloads", low)


def counted(lab):
    """{verdict: packets}, and all of them."""
    told = lab.balancer.ctl("counters")
    found = {v["verdict"]: v["packets"] for v in told["verdicts"]}
    assert sum(found.values()) == told["received"]
    return collections.Counter(found)


def passed(lab):
    """What the XDP program has given to the kernel."""
    return path(lab)["passed"]


@pytest.mark.parametrize("which, state", (("dpdk", "polling"), ("xdp", "parked"), ("auto", "parked")))
def test_counted_once(parked, measured, which, state):
    """Whichever path has the interface, each packet has one verdict: what the kernel gets untouched as much as what is
    forwarded, and neither twice."""
    lab, count = parked, 200
    reload(lab, **({**AUTO, "path": which} if which == "auto" else {"path": which}))
    reaches(lab, state)
    passed_before, before = passed(lab), counted(lab)
    lab.client.namespace.run(["ping", "-n", "-q", "-i", "0.005", "-c", count, "-W", 2, lab.balancer.address4])
    closed = lab.client.namespace.run(["bash", "-c", f"for n in {{1..20}}; do : < /dev/tcp/{lab.vip(4, 1)}/81; done"],
                                      check=False)
    assert "refused" in closed.stderr, closed.stderr
    lab.client.udp(lab.vip(4, 1), count=count).all_succeeded(count)
    grown, passed_grown = counted(lab) - before, passed(lab) - passed_before
    measured(f"{which}: {dict(grown)}, and XDP has passed {passed_grown}")
    assert grown["forward"] == count
    assert count <= grown["protocol"] < 1.5 * count
    assert 20 <= grown["no_service"]
    told = sum(grown[verdict] for verdict in ("protocol", "no_service", "not_ip"))
    assert told <= passed_grown <= 1.2 * told + 50, "it was looked at before and after"
