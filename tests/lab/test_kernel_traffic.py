# SPDX-License-Identifier: Apache-2.0
"""What is not for a service reaches the balancer's kernel, while the dataplane runs on the same interface."""

import json
import sys

import pytest

from sluicelab import wait_for
from sluicelab.client import PROGRAMS


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab(backends=1)
    lab.start_servers()
    lab.balancer.configure([lab.service(f"web{f}", lab.vip(f, 1), 80, forward="l2", family=f, weights=(1,))
                            for f in (4, 6)])
    lab.balancer.start()
    lab.balancer.wait_backends()
    banner = lab.run.start("lb1-banner", [sys.executable, PROGRAMS / "banner.py", "2222"],
                           namespace=lab.balancer.namespace)
    wait_for("the banner server listens", lambda: "ready" in banner.text(), 10)
    return lab


def balancer_address(lab, family):
    return lab.balancer.address4 if family == 4 else lab.balancer.address6


def ping(namespace, target, count=20):
    """Answers received."""
    text = namespace.run(["ping", "-n", "-i", "0.01", "-c", count, "-W", "2", target], check=False).stdout
    return int(text.split(" received")[0].split()[-1])


@pytest.mark.parametrize("family", (4, 6))
def test_ping_balancer(lab, family):
    """The balancer's own address answers every ping, from far and from its own segment."""
    assert ping(lab.client.namespace, balancer_address(lab, family)) == 20
    assert ping(lab.backends[0].namespace, balancer_address(lab, family)) == 20


@pytest.mark.parametrize("family", (4, 6))
def test_ping_vip(lab, family):
    """A VIP answers ping, by the kernel of the balancer."""
    assert ping(lab.client.namespace, lab.vip(family, 1)) == 20


@pytest.mark.parametrize("family", (4, 6))
def test_large_ping(lab, family):
    """Fragments that are for no service reach the kernel: a ping of 4,000 bytes is put together there and answered."""
    done = lab.client.namespace.run(["ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-s", "4000",
                                     balancer_address(lab, family)], check=False)
    assert "3 received" in done.stdout


@pytest.mark.parametrize("family", (4, 6))
def test_tcp_to_balancer(lab, family):
    """An SSH-like server of the balancer's own greets every connection, on its address and on the VIP's."""
    program = ("import socket, sys\n"
               "for target in sys.argv[1:]:\n"
               "    for _ in range(20):\n"
               "        with socket.create_connection((target, 2222), timeout=3) as c:\n"
               "            assert c.recv(64).startswith(b'SSH-2.0'), target\n")
    lab.client.namespace.run([sys.executable, "-c", program, balancer_address(lab, family), lab.vip(family, 1)])


@pytest.mark.parametrize("family", (4, 6))
def test_closed_port_of_vip(lab, family):
    """A port of a VIP without a service is the kernel's: it refuses at once."""
    answers = lab.client.http(lab.vip(family, 1), 81, 5, timeout=3)
    assert len(answers.failed) == 5 and all("ConnectionRefused" in r.error for r in answers.failed), answers.errors()


@pytest.mark.parametrize("family, protocol", ((4, "ARP"), (6, "ND")))
def test_neighbours(lab, family, protocol):
    """ARP and ND get through both ways: with neighbour caches emptied on both sides, router and balancer find each
    other again, and services go on."""
    for _ in range(5):
        lab.router.run(["ip", f"-{family}", "neigh", "flush", "dev", "edge"])
        lab.balancer.namespace.run(["ip", f"-{family}", "neigh", "flush", "dev", "eth0"])
        assert ping(lab.router, balancer_address(lab, family), 3) == 3, protocol
        lab.client.http(lab.vip(family, 1), 80, 10).all_succeeded(10)
    shown = json.loads(lab.router.run(["ip", "-j", f"-{family}", "neigh", "show", "to",
                                       balancer_address(lab, family)]).stdout)
    assert shown and shown[0]["lladdr"] == lab.balancer.namespace.mac("eth0")
