# SPDX-License-Identifier: Apache-2.0
"""A port that is a DPDK device, as a NIC bound to DPDK would be: here the af_packet vdev on a veth. The kernel
has no other way to the network than the TAP that the dataplane puts beside the port."""

import pathlib
import time

import pytest

from sluicelab import wait_for

HUGEPAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    inside = lab.balancer.namespace
    # The kernel must not see the frames a second time: dropped behind the point where packet sockets get theirs.
    inside.run(["nft", "-f", "-"], stdin='table netdev lab { chain in { type filter hook ingress device "eth0" '
               "priority 0; policy drop; }; }")
    inside.ip(f"address del {lab.balancer.address4}/24 dev eth0\naddress del {lab.balancer.address6}/64 dev eth0")
    lab.balancer.configure([lab.service(f"web{f}", lab.vip(f, 1), 80, forward="gue", family=f, weights=(100, 200, 300))
                            for f in (4, 6)],
                           interfaces=[{"vdev": "net_af_packet0,iface=eth0", "tap": "sluice0"}])
    lab.balancer.start_controlplane()
    start_dataplane(lab)
    lab.balancer.wait_backends()
    return lab


def start_dataplane(lab):
    """Start it, and give its TAP the addresses, as an administrator's network configuration would."""
    lab.balancer.start_dataplane()
    inside = lab.balancer.namespace

    def tap_is_there():
        lab.balancer.dataplane.check_alive()
        return inside.run(["ip", "link", "show", "dev", "sluice0"], check=False).returncode == 0
    wait_for("the TAP of the port", tap_is_there, 15)
    inside.ip(f"""
        link set sluice0 up
        address replace {lab.balancer.address4}/24 dev sluice0
        address replace {lab.balancer.address6}/64 dev sluice0 nodad
        route replace default via 10.77.0.1
        route replace default via fd77::1
        """)
    lab.balancer.wait_published()


def test_services(lab, counts):
    """Requests are answered over IPv4 and IPv6."""
    for family in (4, 6):
        spread = lab.client.http(lab.vip(family, 1), count=counts(300, 2000)).all_succeeded().spread()
        assert set(spread) == {"b1", "b2", "b3"}


def test_kernel_through_tap(lab):
    """ARP, ND and ping of the balancer's kernel work through the TAP, with the port's MAC address."""
    assert lab.balancer.namespace.mac("sluice0") == lab.balancer.namespace.mac("eth0")
    for family, address in ((4, lab.balancer.address4), (6, lab.balancer.address6)):
        lab.router.run(["ip", f"-{family}", "neigh", "flush", "dev", "edge"])
        done = lab.client.namespace.run(["ping", "-n", "-c", "10", "-i", "0.02", "-W", "2", address], check=False)
        assert "10 received" in done.stdout, done.stdout


def test_restart(lab):
    """A new dataplane makes the TAP again, and both the kernel's traffic and the services go on."""
    assert lab.balancer.dataplane.stop() == 0
    start_dataplane(lab)
    lab.balancer.wait_backends()
    test_services(lab, lambda short, long: 100)
    test_kernel_through_tap(lab)


def test_capture_with_hugepages(lab):
    """With hugepages, dpdk-dumpcap records the port's packets while they are forwarded."""
    before = int(HUGEPAGES.read_text())
    HUGEPAGES.write_text(str(max(before, 512)))
    good = lab.balancer.config.read_text()
    try:
        if int(HUGEPAGES.read_text()) < 512:
            pytest.skip("this machine gives no 512 hugepages")
        lab.run.mount_hugetlbfs()
        assert lab.balancer.dataplane.stop() == 0
        lab.balancer.config.write_text(good.replace("hugepages = false", "hugepages = true"))
        start_dataplane(lab)
        lab.balancer.wait_backends()
        file = lab.balancer.directory / "dumpcap.pcapng"
        [instance] = (lab.balancer.runtime / "dpdk").glob("sluice-*")
        dumpcap = lab.run.start("lb1-dumpcap", ["dpdk-dumpcap", f"--file-prefix={instance.name}", "-i", "0", "-w", file,
                                                "-c", "200"],
                                namespace=lab.balancer.namespace,
                                environment={"RUNTIME_DIRECTORY": str(lab.balancer.runtime)})
        time.sleep(1.5)
        lab.client.http(lab.vip(4, 1), count=200).all_succeeded(200)
        if dumpcap.alive():
            dumpcap.stop()
        assert file.exists() and file.stat().st_size > 10_000, dumpcap.quote()
        assert lab.balancer.dataplane.stop() == 0
    finally:
        lab.balancer.config.write_text(good)
        HUGEPAGES.write_text(str(before))
    start_dataplane(lab)
    lab.balancer.wait_backends()
