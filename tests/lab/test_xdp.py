# SPDX-License-Identifier: Apache-2.0
"""The path in the kernel: alone, and under a dataplane that dies and returns."""

import time

import pytest

from sluicelab.balancer import endpoint
from sluicelab.client import Traffic
from sluicelab.run import wait_for
from sluicelab.spread import agreement
from sluicelab.ways import ALPHA, VIP, WAYS, WEIGHTS, port, services, start_servers


@pytest.fixture(scope="module")
def alone(make_lab):
    """A balancer that has no dataplane at all."""
    lab = make_lab()
    start_servers(lab)
    lab.balancer.configure(services(lab), interfaces=[{"name": "eth0", "path": "xdp"}])
    lab.balancer.start_controlplane()
    lab.balancer.wait_backends()
    return lab


def interface(lab):
    return lab.balancer.ctl("paths")["interfaces"][0]


@pytest.mark.parametrize("forward, vip, backend", WAYS)
@pytest.mark.parametrize("protocol", ("tcp", "udp"))
def test_alone(alone, counts, measured, protocol, forward, vip, backend):
    """Without any dataplane every request is answered, and flows spread as the weights say."""
    before, count = interface(alone), counts(300, 2000)
    ask = alone.client.http if protocol == "tcp" else alone.client.udp
    options = {"concurrency": 32} if protocol == "tcp" else {}
    answers = ask(alone.vip(vip, VIP[forward]), port(protocol, backend), count, **options).all_succeeded(count)
    after, spread = interface(alone), answers.spread()
    statistic, p = agreement(spread, {b.name: w for b, w in zip(alone.backends, WEIGHTS)})
    forwarded = after["forwarded"] - before["forwarded"]
    measured(f"{len(answers)} answers, spread {dict(sorted(spread.items()))} for weights {WEIGHTS}, "
             f"chi-squared {statistic:.2f}, p {p:.3f}, {forwarded} packets forwarded by the kernel")
    assert p > ALPHA, f"the spread {spread} does not agree with the weights {WEIGHTS}: p = {p:.2g}"
    assert forwarded >= count
    assert after["redirected"] == after["dropped_no_socket"] == 0
    assert after["dropped"] == before["dropped"]


@pytest.mark.parametrize("forward, vip, backend", WAYS)
def test_alone_upload(alone, forward, vip, backend):
    """Full-size segments towards the server: 300 kB of each of 8 uploads arrive."""
    target = alone.vip(vip, VIP[forward])
    alone.client.http(target, port("tcp", backend), 8, upload=300_000, timeout=10, concurrency=4).all_succeeded(8)


@pytest.mark.parametrize("family", (4, 6))
def test_alone_path_mtu_discovery(alone, measured, family):
    """Servers that do not tell their clients to send less: full-size segments do not fit the tunnel, the kernel's path
    says so by ICMP, and the uploads arrive."""
    for backend in alone.backends:
        backend.namespace.ip("route replace default via 10.77.1.1\nroute replace default via fd77:1::1")
    vip = alone.vip(family, VIP["ipip"])
    told = alone.client.http(vip, port("tcp", family), 4, upload=1_000_000, timeout=10, concurrency=2).all_succeeded(4)
    words = alone.client.namespace.run(["ip", *(["-6"] if family == 6 else []), "route", "get", vip]).stdout.split()
    mtu = int(words[words.index("mtu") + 1]) if "mtu" in words else None
    measured(f"family {family}: {len(told)} uploads of 1 MB, slowest "
             f"{max(r.end - r.start for r in told.requests):.3f} s, path MTU {mtu}")
    for backend in alone.backends:
        backend.namespace.ip("route replace default via 10.77.1.1 advmss 1400\n"
                             "route replace default via fd77:1::1 advmss 1380")
    assert mtu == (1480 if family == 4 else 1460)


def test_alone_icmp_rate(alone, measured):
    """icmp_rate is the kernel's path's, too, from a reload on: with 0 no ping of a VIP with icmp_echo is answered, and
    each is counted; with a rate all are, and far more than that are not."""
    vip, settings = alone.vip(4, VIP["ipip"]), alone.balancer.base_settings()
    names = sorted({service["address"] for service in services(alone)})

    def lost(rate, count, pause):
        alone.balancer.configure(
            services(alone), interfaces=[{"name": "eth0", "path": "xdp"}],
            vips=[{"address": address, "mode": "static", "interface": "lo", "icmp_echo": True} for address in names],
            dataplane={**settings["dataplane"], "icmp_rate": rate})
        alone.balancer.ctl("reload")
        alone.balancer.wait_published()
        before = interface(alone)["dropped"]
        done = alone.client.namespace.run(["ping", "-n", "-q", "-c", count, "-i", pause, "-W", 1, vip], check=False)
        words = done.stdout.split()
        answered = int(words[words.index("transmitted,") + 1])
        assert interface(alone)["dropped"] - before == count - answered
        return count - answered

    try:
        none, all_of_them, few = lost(0, 10, 0.01), lost(1000, 50, 0.01), lost(1, 400, 0.002)
        measured(f"pings lost: {none} of 10 at 0 a second, {all_of_them} of 50 at 1000, {few} of 400 at 1")
        assert (none, all_of_them) == (10, 0)
        assert few >= 150  # 100 at once from each CPU
    finally:
        alone.balancer.configure(services(alone), interfaces=[{"name": "eth0", "path": "xdp"}])
        alone.balancer.ctl("reload")
        alone.balancer.wait_published()


def test_alone_explain(alone):
    """Who asks without a dataplane is told of the path in the kernel, and of a dataplane's when that is asked for."""
    for forward, vip, backend in WAYS:
        flow = ("udp", endpoint("203.0.113.2" if vip == 4 else "2001:db8:c::2", 4000), endpoint(alone.vip(vip, VIP[forward]),
                                                                          port("udp", backend)))
        here = alone.balancer.ctl("explain", *flow)
        there = alone.balancer.ctl("explain", *flow, "--path", "dpdk")
        assert (here["path"], here["verdict"], here["reason"]) == ("xdp", "forward", there["reason"])
        assert here["fragments"] == there["fragments"] + "; one that comes before it is dropped"
        assert there["path"] == "dpdk" and there["fragments"].startswith("later ones follow")


def test_alone_backend_dies(alone, measured):
    """A server that dies gets no new connections once that is known, without a dataplane as with one."""
    victim = alone.backends[2]
    names = [f"{protocol}-{forward}-{vip}in{backend}/{victim.name}"
             for forward, vip, backend in WAYS for protocol in ("tcp",)]
    victim.kill()
    try:
        alone.balancer.wait_backends({name: "down" for name in names})
        answers = alone.client.http(alone.vip(4, VIP["ipip"]), 80, 200, concurrency=16).all_succeeded(200)
        measured(f"spread without {victim.name}: {dict(sorted(answers.spread().items()))}")
        assert victim.name not in answers.spread()
    finally:
        victim.revive()
    alone.balancer.wait_backends()


def test_alone_controlplane_dies(alone, measured):
    """The kernel forwards on without the control plane; one that returns takes over what runs, and no connection
    notices."""
    held = hold(alone, 60)
    time.sleep(2)
    alone.balancer.controlplane.kill()
    time.sleep(3)
    alone.balancer.start_controlplane()
    alone.balancer.wait_backends()
    time.sleep(2)
    answers = held.finish()
    broken, strays = [r for r in answers.requests if r.error], moved(answers)
    measured(f"{len(answers.requests)} requests on held connections, {len(broken)} broken, {len(strays)} moved")
    assert not broken and not strays, (broken[:3], strays)


def hold(lab, connections, vip=VIP["ipip"]):
    """Connections that ask every 100 to 300 ms, for as long as it takes."""
    client = lab.client
    return Traffic(client.run, client.namespace, client._name("hold"), "hold_client.py", {
        "target": lab.vip(4, vip), "port": 80, "connections": connections, "timeout": 5, "sources": client.sources4,
        "pause": [0.1, 0.3], "life": [None]})


def moved(answers):
    """Connections that more than one server has answered."""
    servers = {}
    for request in answers.requests:
        if not request.error:
            servers.setdefault(request.source, set()).add(request.backend)
    return {name: sorted(found) for name, found in servers.items() if len(found) > 1}


def configure(lab, weights):
    lab.balancer.configure([lab.service("web", lab.vip(4, VIP["ipip"]), 80, forward="ipip", weights=weights)])


@pytest.fixture(scope="module")
def both(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    configure(lab, WEIGHTS)
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


@pytest.mark.parametrize("how, weights", [("kill", WEIGHTS), ("stop", WEIGHTS), ("kill", (300, 200, 100)), ("stop", WEIGHTS)])
def test_dataplane_goes_and_returns(both, counts, measured, how, weights):
    """A dataplane that is killed, or stopped, under load: its traffic goes on through the kernel, to the same servers; and
    back when it returns, also while buckets are open because the weights have changed under the connections. Not one
    connection breaks, and not one new connection fails."""
    held, short = hold(both, counts(100, 200)), both.client.http_start(both.vip(4, VIP["ipip"]), rate=counts(50, 200))
    time.sleep(2)
    configure(both, weights)
    both.balancer.ctl("reload")
    both.balancer.wait_published()
    time.sleep(1)
    opened = both.balancer.ctl("status")["windows"]["buckets_open"]
    before = interface(both)
    getattr(both.balancer.dataplane, how)()
    time.sleep(3)
    without = interface(both)
    both.balancer.start_dataplane()
    both.balancer.wait_published()
    wait_for("the dataplane has its packets again", lambda: interface(both)["redirected"] > without["redirected"] + 100, 15)
    time.sleep(1)
    after = interface(both)
    short, held = short.finish(), held.finish()
    broken, strays = [r for r in held.requests if r.error], moved(held)
    slowest = max(r.end - r.start for r in held.requests + short.requests)
    measured(f"{how}, {opened} buckets open: {len(held.requests)} requests on held connections, {len(broken)} broken, {len(strays)} moved; "
             f"{len(short)} new connections, {len(short.failed)} failed; slowest answer {slowest:.3f} s; "
             f"{without['forwarded'] - before['forwarded']} packets through the kernel, "
             f"{after['dropped_no_socket'] - before['dropped_no_socket']} dropped")
    assert not broken and not strays and not short.failed, (broken[:3], strays, short.failed[:3])
    assert without["forwarded"] > before["forwarded"] + 100
    assert opened > 0 or weights == WEIGHTS
    assert after["dropped_no_socket"] == before["dropped_no_socket"]
    assert after["dropped"] == before["dropped"]
