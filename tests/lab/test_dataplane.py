# SPDX-License-Identifier: Apache-2.0
"""The dataplane stops, is killed, and starts again, with and without a control plane."""

import ipaddress
import struct
import time

import pytest

from sluicelab import wait_for
from sluicelab.packets import RST

WEIGHTS = (100, 200, 300)


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    lab.balancer.configure([lab.service(f"web{f}", lab.vip(f, 1), 80, forward="ipip", family=4, weights=WEIGHTS)
                            for f in (4, 6)])
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def answers_again(lab, timeout=15):
    """Seconds until the VIPs answer over IPv4 and IPv6."""
    start = time.monotonic()
    while time.monotonic() - start < timeout:
        if not any(lab.client.http(lab.vip(f, 1), count=1, timeout=0.3).failed for f in (4, 6)):
            return time.monotonic() - start
    raise AssertionError(f"no answer within {timeout} s")


@pytest.mark.parametrize("how", ("stop", "kill"))
def test_away(lab, measured, how):
    """While no dataplane runs the kernel's path answers; none is told RST by the balancer's kernel. The next dataplane
    takes over at once."""
    capture = lab.capture(lab.client.namespace, "eth0", "client")
    if how == "stop":
        assert lab.balancer.dataplane.stop() == 0
    else:
        lab.balancer.dataplane.kill()
    for family in (4, 6):
        lab.client.http(lab.vip(family, 1), count=100, concurrency=20).all_succeeded(100)
    resets = [p for p in capture.stop().packets() if p.flags & RST and p.source in (lab.vip(4, 1), lab.vip(6, 1))]
    assert not resets, f"{len(resets)} RST reached the client: {resets[:3]}"
    lab.balancer.start_dataplane()
    lab.balancer.wait_published()
    for family in (4, 6):
        lab.client.http(lab.vip(family, 1), count=100).all_succeeded(100)


def test_last_table(lab, measured):
    """With the control plane dead, a new dataplane forwards by the last table from disk, each flow to the same
    backend as before; the control plane's return disturbs nothing."""
    flows = [("tcp", f"203.0.113.{n % 8 + 2}", 20000 + n, lab.vip(4, 1), 80) for n in range(200)]
    before = [e["backend"] for e in lab.balancer.explain(flows)]
    lab.balancer.controlplane.kill()
    lab.balancer.dataplane.kill()
    lab.balancer.start_dataplane()
    measured(f"answers {answers_again(lab):.2f} s after the start of a dataplane without a control plane")
    traffic = [lab.client.http_start(lab.vip(f, 1), rate=100, keepalive=keepalive)
               for f in (4, 6) for keepalive in (False, True)]
    time.sleep(1)
    lab.balancer.start_controlplane()
    lab.balancer.wait_published()
    time.sleep(1)
    for each in traffic:
        each.finish().all_succeeded()
    assert [e["backend"] for e in lab.balancer.explain(flows)] == before
    lab.balancer.wait_backends()


def test_start_messages(lab):
    """A dataplane that cannot start says why and what to do, and does not hang."""
    config = lab.balancer.directory / "wrong.conf"
    config.write_text(lab.balancer.config.read_text().replace('name = "eth0"', 'name = "eth7"'))
    from sluicelab.balancer import program
    done = lab.balancer.namespace.run([program("dataplane/sluice-dataplane"), "--config", config, "--runtime-dir",
                                       lab.balancer.directory / "other"], check=False, timeout=20)
    assert done.returncode != 0 and "eth7" in done.stderr, done
    done = lab.balancer.namespace.run([program("dataplane/sluice-dataplane"), "--config", "/nowhere/sluice.conf"],
                                      check=False, timeout=20)
    assert done.returncode == 2 and "/nowhere/sluice.conf" in done.stderr, done
    lab.client.http(lab.vip(4, 1), count=50).all_succeeded(50)


def test_idle_sleeps(lab, measured):
    """idle = "sleep": a dataplane without traffic leaves its core alone."""
    time.sleep(0.5)
    start = lab.balancer.dataplane.cpu_seconds()
    time.sleep(3)
    used = (lab.balancer.dataplane.cpu_seconds() - start) / 3
    measured(f"{used:.1%} of a core when idle")
    assert used < 0.1


def test_spin(lab, measured):
    """idle = "spin": the worker polls without pause, and forwards as well."""
    good = lab.balancer.config.read_text()
    assert lab.balancer.dataplane.stop() == 0
    try:
        lab.balancer.config.write_text(good.replace('idle = "sleep"', 'idle = "spin"'))
        lab.balancer.start_dataplane()
        lab.balancer.wait_published()
        start = lab.balancer.dataplane.cpu_seconds()
        time.sleep(2)
        used = (lab.balancer.dataplane.cpu_seconds() - start) / 2
        measured(f"{used:.1%} of a core when idle")
        assert used > 0.2  # it shares the core with whoever else runs
        lab.client.http(lab.vip(4, 1), count=200).all_succeeded(200)
        assert lab.balancer.dataplane.stop() == 0
    finally:
        lab.balancer.config.write_text(good)
    lab.balancer.start_dataplane()
    lab.balancer.wait_published()


def test_missed(lab, measured):
    """What XDP redirects and a socket cannot take, here frames that became longer than its own, has no verdict and is
    counted all the same."""
    def figures():
        port = lab.balancer.ctl("counters")["ports"][0]
        return port["missed_packets"], port["received_packets"]

    def resize(mtu):
        lab.router.ip(f"link set lb1 mtu {mtu}")
        lab.balancer.namespace.ip(f"link set eth0 mtu {mtu}")
    size, count = 2900, 100
    frame = (bytes.fromhex(lab.balancer.namespace.mac("eth0").replace(":", "")) + bytes((2, 0, 0, 0, 0, 9, 8, 0))
             + struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, 6, 0, bytes((203, 0, 113, 2)),
                           ipaddress.ip_address(lab.vip(4, 1)).packed)
             + struct.pack("!HHIIHHHH", 40000, 80, 1, 1, 0x5010, 1000, 0, 0))
    frame += bytes(14 + size - len(frame))
    wait_for("the sockets to have packets",
             lambda: lab.client.http(lab.vip(4, 1), count=1).all_succeeded() and figures()[1], 10)
    before, received = figures()
    resize(3000)
    try:
        with lab.router.raw_socket("lb1") as raw:
            for _ in range(count):
                raw.send(frame)
        wait_for("the sockets' losses", lambda: figures()[0] >= before + count, 5)
    finally:
        resize(1500)
    after, received = figures()[0], figures()[1] - received
    measured(f"{after - before} of {count} frames counted as missed, {received} others received")
    assert after == before + count
    lab.client.http(lab.vip(4, 1), count=50).all_succeeded(50)
