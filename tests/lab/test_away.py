# SPDX-License-Identifier: Apache-2.0
"""The control plane is killed and stays away until everything that it owned has expired."""

import time

import pytest

from sluicelab.run import wait_for

WEIGHTS, OTHER_WEIGHTS = (100, 100, 100, 100), (100, 200, 100, 50)
HELD, NEW, PULSES = 200, 200, 500  # connections; a second
WINDOW = "1s"
TAKEOVER = 0.3  # around a dataplane's death: what was in its rings is lost


def configure(lab, path, weights):
    """Windows, probes and the kernel's neighbours are as short as they can be: an hour of the usual ones is seconds."""
    health = {"type": "http", "port": 80, "path": "/ready", "interval": "200ms", "timeout": "150ms", "rise": 2, "fall": 2}
    lab.balancer.configure(
        [lab.service("web", lab.vip(4, 1), 80, forward="ipip", weights=weights, window=WINDOW, health=health),
         lab.service("pulse", lab.vip(4, 1), 5300, protocol="udp", forward="gue", weights=weights, window=WINDOW, health=health)],
        interfaces=[{"name": "eth0", "path": path, "hang_after": "50ms"}])


@pytest.fixture(params=("xdp", "dpdk"))
def site(make_lab, request):
    lab = make_lab(backends=4)
    lab.start_servers()
    lab.open_tunnels()
    lab.balancer.namespace.sysctl(net__ipv4__neigh__eth0__base_reachable_time_ms=1000, net__ipv4__neigh__eth0__gc_stale_time=1)
    configure(lab, request.param, WEIGHTS)
    lab.balancer.start_controlplane()
    if request.param == "dpdk":
        lab.balancer.start_dataplane()
    lab.balancer.wait_backends()
    return lab, request.param


def windows(lab):
    return lab.balancer.ctl("status")["windows"]


def between(entries, begin, end):
    return [entry for entry in entries if begin <= entry[0] <= end]


def test_away(site, counts, measured):
    """Killed in the middle of a change, and away for so long that its windows, its neighbours and its probes' answers are
    all over: the last table goes on, for old connections and for new ones, and for a dataplane that dies and starts
    meanwhile. A server that dies meanwhile is not found out, since nobody probes: what is hashed to it is refused by
    its host, and nothing else is. When the control plane is back, windows close, that server is found dead, and later living
    again, and not one connection to another server breaks or moves."""
    lab, path = site
    victim = lab.backends[2]
    load = lab.client.load_start(lab.vip(4, 1), HELD, NEW, PULSES)
    time.sleep(1.5)
    configure(lab, path, OTHER_WEIGHTS)
    lab.balancer.ctl("reload")
    opened = windows(lab)["buckets_open"]
    lab.balancer.controlplane.kill()
    away = time.time()
    time.sleep(4)
    lab.balancer.namespace.run(["ip", "neigh", "flush", "all"])
    deaths = []
    if path == "dpdk":
        for end in ("kill", "stop"):
            if end == "kill":
                deaths.append(time.time())
            getattr(lab.balancer.dataplane, end)()
            time.sleep(0.5)
            start_dataplane(lab)
            time.sleep(1)
    time.sleep(counts(2, 60))
    dying = time.time()
    victim.kill()
    died = time.time()
    time.sleep(counts(4, 30))
    back = time.time()
    lab.balancer.start_controlplane()
    lab.balancer.wait_backends({f"web/{victim.name}": "down", f"pulse/{victim.name}": "down"})
    known = time.time()
    wait_for("windows are closed", lambda: windows(lab)["buckets_open"] + windows(lab)["buckets_closing"] == 0, 30)
    closed = time.time()
    time.sleep(1)
    victim.revive()
    lab.balancer.wait_backends()
    revived = time.time()
    time.sleep(2)
    told = load.finish()
    held, new, pulse = told["held"], told["new"], told["pulse"]

    # Whoever was with the dead server, or was given to it: until it was known. What had just begun when it died is reset.
    excused = [e for kind in (held, new) for e in between(kind["failed"], dying - 0.1, known + 0.1)
               if e[3] == victim.name or "refused" in e[4] or (not e[3] and "reset" in e[4] and e[0] < died)]
    broken = [e for kind in (held, new) for e in kind["failed"] if e not in excused]
    refused = between(new["failed"], died, back)
    share = len(refused) / (NEW * (back - died))
    lost = [sent for sent, took in zip(pulse["sent"], pulse["took"]) if took < 0]
    unexcused = [sent for sent in lost if not any(d - 0.02 <= sent <= d + TAKEOVER for d in deaths)]
    # Datagrams leave the server that is found dead, and may return to it when it lives again.
    moved = [e for e in pulse["moved"] if not (e[3] == victim.name and e[0] >= back or e[4] == victim.name and e[0] >= closed)]
    measured(f"{path}: {opened} buckets open when it was killed, away for {back - away:.1f} s; {held['requests']} requests on {HELD} held "
             f"connections and {new['requests']} new ones, {len(broken)} broken or moved; {len(lost)} of {len(pulse['sent'])} datagrams "
             f"lost, {len(unexcused)} of them not with a dataplane; {share:.3f} of the new connections refused while a "
             f"server of a share of {OTHER_WEIGHTS[2] / sum(OTHER_WEIGHTS):.3f} was dead and nobody there to see it; known "
             f"{known - back:.2f} s after the return, windows closed after {closed - back:.2f} s, up again after "
             f"{revived - closed:.2f} s; {len(excused)} connections ended with the server")
    assert opened > 0.1 * 2 * 16381
    assert not broken, broken[:5]
    assert not unexcused, unexcused[:5]
    assert not moved, moved[:5]
    assert abs(share - OTHER_WEIGHTS[2] / sum(OTHER_WEIGHTS)) < 0.1, share
    assert not between(new["failed"], known + 0.1, revived + 60), "refused although its death was known"


def start_dataplane(lab):
    """Nobody there to ask whether it is connected: its log tells."""
    read = len(lab.balancer.dataplane.text())
    lab.balancer.start_dataplane()

    def receives():
        lab.balancer.dataplane.check_alive()
        return "receives what the XDP program redirects" in lab.balancer.dataplane.text()[read:]
    wait_for("the dataplane has its sockets in", receives, 20)
