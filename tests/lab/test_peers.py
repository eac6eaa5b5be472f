# SPDX-License-Identifier: Apache-2.0
"""Balancers behind the router's ECMP that tell each other of their exceptions: who leaves the group while a change is
young takes no connection along."""

import collections
import time

import pytest

from sluicelab.client import Traffic
from sluicelab.run import wait_for

BEFORE, AFTER = (100, 200, 300), (300, 100, 100)
PORT = 9441


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab(balancers=3)
    lab.start_servers()
    lab.open_tunnels()
    for balancer in lab.balancers:
        balancer.share_key()
        configure(lab, balancer, BEFORE, BEFORE, with_peers=False)
        balancer.start()
    for balancer in lab.balancers:
        balancer.wait_backends()
    return lab


def configure(lab, balancer, first, second, with_peers):
    """web1 and web2 with these weights."""
    services = [lab.service(f"web{n}", lab.vip(4, n), 80, forward="gue", family=4, weights=weights)
                for n, weights in ((1, first), (2, second))]
    nodes = [f"{b.address4}:{PORT}" for b in lab.balancers]
    balancer.configure(services, **({"peers": {"listen": f"{balancer.address4}:{PORT}", "nodes": nodes}}
                                    if with_peers else {}))


def change(lab, *arguments):
    for balancer in lab.balancers:
        configure(lab, balancer, *arguments)
        balancer.ctl("reload")
    for balancer in lab.balancers:
        balancer.wait_published()


def peers_heard(lab):
    for balancer in lab.balancers:
        peers = balancer.ctl("status")["peers"]
        if not all(node["up"] for node in peers["nodes"]) or len(peers["nodes"]) != 2:
            return False
    return True


def broken_when_one_leaves(lab, number, connections):
    """Connections that begin now, of which 3 s later one balancer is taken out of the ECMP and 3 s later comes back:
    those that fail, and those that are answered by a second server."""
    client = lab.client
    held = Traffic(client.run, client.namespace, client._name("hold"), "hold_client.py", {
        "target": lab.vip(4, number), "port": 80, "connections": connections, "timeout": 3,
        "sources": client.sources4, "pause": [0.1, 0.3], "life": [None]})
    time.sleep(1 + 3)  # they begin within the first
    lab.route_vips_to([(b.address4, b.address6) for b in lab.balancers[1:]])
    time.sleep(3)
    lab.route_vips_to([(b.address4, b.address6) for b in lab.balancers])
    time.sleep(2)
    held = held.finish()
    servers = collections.defaultdict(set)
    for request in held.requests:
        if not request.error:
            servers[request.source].add(request.backend)
    broken = {r.source for r in held.requests if r.error}
    return len(servers), broken, {name for name, found in servers.items() if len(found) > 1}


def test_without_peers(lab, counts, measured):
    """The control: some break, for the balancers that get them in mid-flow go by the owner from before the change."""
    change(lab, AFTER, BEFORE, False)
    begun, broken, strays = broken_when_one_leaves(lab, 1, counts(90, 500))
    measured(f"without peers: of {begun} connections {len(broken)} broke, {len(strays)} met another server")
    assert broken or strays
    assert not any(b.ctl("status")["peers"]["configured"] for b in lab.balancers)


def test_with_peers(lab, counts, measured):
    """Peers switched on by a reload: the same, and none breaks."""
    change(lab, AFTER, BEFORE, True)
    wait_for("all three hear each other", lambda: peers_heard(lab), 10)
    change(lab, AFTER, AFTER, True)
    begun, broken, strays = broken_when_one_leaves(lab, 2, counts(90, 500))
    statuses = [b.ctl("status")["peers"] for b in lab.balancers]
    measured(f"with peers: of {begun} connections {len(broken)} broke, {len(strays)} met another server; told "
             f"{[s['told'] for s in statuses]}, heard {[s['heard'] for s in statuses]}")
    assert not broken and not strays
    for status in statuses:
        assert status["told"] > 0 and status["heard"]["inserted"] > 0 and status["listening"]
        assert not any(status["refused"].values())
        assert all(node["send_failed"] == 0 for node in status["nodes"])


def test_silent_and_back(lab):
    """A control plane that stops is told of as silent, by all others; its return is noticed, and nothing else
    happens."""
    first, *others = lab.balancers
    first.controlplane.kill()

    def silent():
        return all(not node["up"] for b in others for node in b.ctl("status")["peers"]["nodes"]
                   if node["address"] == first.address4)
    wait_for("its peers find it silent", silent, 10)
    assert f"{first.address4} port {PORT} is silent" in others[0].ctl_raw("status", json_output=False).stdout
    first.start_controlplane()
    first.wait_published()
    wait_for("all three hear each other", lambda: peers_heard(lab), 15)
    told = first.ctl("status")["peers"]["heard"]
    assert told["differs"] == 0 and told["unknown"] == 0
