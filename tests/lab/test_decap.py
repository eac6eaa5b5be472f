# SPDX-License-Identifier: Apache-2.0
"""The decapsulator on a backend, alone: tunnel packets made by scapy, the answers of the backend's kernel."""

import time

import pytest

from sluicelab.balancer import program

PAIRS = [(kind, inner, outer) for kind in ("ipip", "gue", "gre") for inner in (4, 6) for outer in (4, 6)]
SYN_ACK = 0x12


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab(backends=1)
    lab.start_servers()
    lab.open_tunnels()
    return lab


def show(lab):
    return lab.backends[0].namespace.run([program("tools/sluice-decap"), "show", "farm0", "--pin-dir",
                                          lab.backends[0].directory / "bpf"]).stdout


def answered(lab, packets):
    """Send IP packets from the balancer's segment; the ports of the backend's SYN-ACKs that reach the client."""
    from scapy.layers.l2 import Ether
    capture = lab.capture(lab.client.namespace, "eth0", "answers")
    with lab.balancer.namespace.raw_socket("eth0") as raw:
        for packet in packets:
            raw.send(bytes(Ether(src=lab.balancer.namespace.mac("eth0"), dst=lab.router.mac("edge")) / packet))
    time.sleep(0.3)
    asked = {packet["TCP"].sport for packet in packets}  # answers to earlier ones may be repeated
    return sorted({p.dport for p in capture.stop().packets() if p.flags == SYN_ACK} & asked)


def tunnelled(lab, kind, inner, outer, port, source=None, destination=None):
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import GRE
    b = lab.backends[0]
    head = (IP(src=source or lab.balancer.address4, dst=b.farm4, flags="DF") if outer == 4
            else IPv6(src=source or lab.balancer.address6, dst=b.farm6))
    flow = (IP(src="203.0.113.2", dst=destination or lab.vip4(1)) if inner == 4
            else IPv6(src="2001:db8:c::2", dst=destination or lab.vip6(1))) / TCP(sport=port, dport=80, flags="S")
    between = {"ipip": None, "gue": UDP(sport=50000, dport=6080), "gre": GRE()}[kind]
    return head / between / flow if between else head / flow


def test_every_tunnel_is_opened(lab):
    """ipip, gue and gre, every pair of families: the backend's kernel takes the inner SYN and answers the client."""
    ports = range(20001, 20001 + len(PAIRS))
    packets = [tunnelled(lab, *pair, port) for pair, port in zip(PAIRS, ports)]
    assert answered(lab, packets) == list(ports), show(lab)


@pytest.mark.parametrize("kind, inner, outer", PAIRS)
def test_strangers_are_not_opened(lab, kind, inner, outer):
    """A tunnel packet from an address that is not a balancer's, or for what is no VIP, is not opened."""
    stranger = "10.77.9.9" if outer == 4 else "fd77:9::9"
    no_vip = lab.backends[0].farm4 if inner == 4 else lab.backends[0].farm6
    packets = [tunnelled(lab, kind, inner, outer, 21001, source=stranger),
               tunnelled(lab, kind, inner, outer, 21002, destination=no_vip)]
    assert answered(lab, packets) == []
