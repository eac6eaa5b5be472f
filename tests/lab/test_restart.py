# SPDX-License-Identifier: Apache-2.0
"""What of a configuration takes effect when a daemon is restarted: said before, shown until then, and no obstacle to any
other change meanwhile."""

import pytest

from sluicelab.client import Traffic
from sluicelab.run import wait_for

HELD = 60


@pytest.fixture()
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    configure(lab)
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def configure(lab, interfaces=None, algorithm="maglev", **dataplane):
    base = lab.balancer.base_settings()
    web = lab.service("web", lab.vip(4, 1), 80, forward="ipip", family=4, weights=(100, 100, 100), algorithm=algorithm)
    lab.balancer.configure([web], interfaces=interfaces or base["interfaces"],
                           dataplane={**base["dataplane"], **dataplane})


def reload(lab):
    """Its warnings."""
    done = lab.balancer.ctl_raw("reload", json_output=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def pending(lab):
    return [p["change"] for p in lab.balancer.ctl("status")["restart_pending"]]


def restart_dataplane(lab):
    lab.balancer.dataplane.stop()
    lab.balancer.start_dataplane()


def answers(lab, count=200):
    lab.client.http(lab.vip(4, 1), count=count).all_succeeded(count)


def test_cores(lab):
    """A setting that waits is warned of at each reload and shown until the restart, or until it is taken back."""
    cores = lab.balancer.base_settings()["dataplane"]["cores"]
    configure(lab, cores=[900])
    for _ in range(2):
        told = reload(lab)
        assert f"dataplane.cores: {cores[0]} -> 900: takes effect when sluice-dataplane is restarted" in told, told
        assert "there is no core 900" in told, told
    assert pending(lab) == [f"dataplane.cores: {cores[0]} -> 900"]
    shown = lab.balancer.ctl_raw("status", json_output=False).stdout
    assert f"pending        dataplane.cores: {cores[0]} -> 900: takes effect when" in shown, shown
    configure(lab)
    assert "takes effect" not in reload(lab)
    assert pending(lab) == []
    configure(lab, idle="spin")
    reload(lab)
    restart_dataplane(lab)
    wait_for("nothing waits", lambda: pending(lab) == [], 10)


def test_interfaces_in_another_order(lab):
    """An interface that is new and comes first changes nothing for the dataplane that runs, nor for one that starts."""
    first = {"name": "later0", "path": "xdp"}
    configure(lab, interfaces=[first, *lab.balancer.base_settings()["interfaces"]])
    told = reload(lab)
    assert "interfaces: later0: there is no such interface now" in told, told
    lab.balancer.wait_published()
    before = lab.balancer.ctl("counters")["ports"]
    answers(lab)
    after = {i["interface"]: i["received_packets"] for i in lab.balancer.ctl("counters")["ports"]}
    grown = {i["interface"]: after[i["interface"]] - i["received_packets"] for i in before}
    assert grown["eth0"] >= 1000 and grown["later0"] == 0, grown
    restart_dataplane(lab)
    lab.balancer.wait_published()
    answers(lab)
    configure(lab)
    reload(lab)
    lab.balancer.wait_published()
    answers(lab)


def test_dataplane_without_a_port(lab):
    """path = "xdp" and a dataplane that is restarted: it has nothing to do, and refuses nothing."""
    configure(lab, interfaces=[{"name": "eth0", "path": "xdp"}])
    reload(lab)
    restart_dataplane(lab)
    lab.balancer.wait_published()
    lab.balancer.ctl("weight", "web/b1", 0)
    lab.balancer.wait_published()
    answers(lab)
    assert {b["name"]: b["weight"] for b in lab.balancer.ctl("backends")}["b1"] == 0
    configure(lab)
    assert "interfaces: eth0: path: xdp -> dpdk: takes effect when sluice-dataplane is restarted" in reload(lab)
    answers(lab)
    restart_dataplane(lab)
    lab.balancer.wait_published()
    answers(lab)


def test_larger_table_of_exceptions(lab, measured):
    """The table of remembered flows grows when the control plane starts while no dataplane runs, and what is remembered
    goes along: connections that all depend on it go on."""
    configure(lab, algorithm="round_robin", exceptions=1024)
    reload(lab)
    restart(lab)
    assert lab.balancer.ctl("status")["exceptions"]["entries"] == 1024
    client = lab.client
    held = Traffic(client.run, client.namespace, client._name("hold"), "hold_client.py", {
        "target": lab.vip(4, 1), "port": 80, "connections": HELD, "timeout": 3, "sources": client.sources4,
        "pause": [0.1, 0.3], "life": [None]})
    wait_for("the flows are remembered", lambda: (lab.balancer.ctl("status")["exceptions"]["used"] or 0) >= HELD, 20)
    configure(lab, algorithm="round_robin", exceptions=65536)
    assert "takes effect when sluice-controlplane is started while no" in reload(lab)
    lab.balancer.controlplane.kill()
    lab.balancer.start_controlplane()
    assert lab.balancer.ctl("status")["exceptions"]["entries"] == 1024, "a dataplane runs"
    restart(lab)
    assert lab.balancer.ctl("status")["exceptions"]["entries"] == 65536
    wait_for("the flows are counted", lambda: (lab.balancer.ctl("status")["exceptions"]["used"] or 0) >= HELD, 20)
    found = held.finish()
    broken, servers = [r for r in found.requests if r.error], {}
    for request in found.requests:
        servers.setdefault(request.source, set()).add(request.backend)
    moved = [source for source, names in servers.items() if len(names) > 1]
    measured(f"1024 -> 65536 entries: {len(found.requests)} requests on {HELD} connections, {len(broken)} broken, {len(moved)} moved")
    assert not broken and not moved, (broken[:3], moved[:3])


def restart(lab):
    """Both daemons, from nothing."""
    lab.balancer.dataplane.stop()
    lab.balancer.controlplane.stop()
    lab.balancer.start()
    lab.balancer.wait_backends()
