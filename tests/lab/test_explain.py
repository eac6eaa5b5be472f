# SPDX-License-Identifier: Apache-2.0
"""`sluicectl explain` tells the truth: it names the backend on whose wire the packet is then seen."""

import ipaddress
import random
import time

import pytest

WAYS = [("l2", 4, 4), ("l2", 6, 6), ("ipip", 4, 4), ("ipip", 6, 4), ("gue", 4, 6), ("gre", 6, 6)]
VIP = {"l2": 1, "ipip": 2, "gue": 3, "gre": 4}


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    lab.balancer.configure([lab.service(f"{forward}-{vip}in{backend}", lab.vip(vip, VIP[forward]), 80,
                                        forward=forward, family=backend, weights=(100, 200, 300))
                            for forward, vip, backend in WAYS])
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def random_flows(count, family, target, seed):
    """Different flows from random addresses and ports of the client's network."""
    dice = random.Random(seed)
    net = ipaddress.ip_network("203.0.113.0/24" if family == 4 else "2001:db8:c::/64")
    flows = set()
    while len(flows) < count:
        offset = dice.randrange(10, 250) if family == 4 else dice.randrange(1 << 16, 1 << 64)
        flows.add((str(net[offset]), dice.randrange(1024, 65536)))
    return [("tcp", source, sport, target, 80) for source, sport in sorted(flows)]


def syn(lab, flow):
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    _, source, sport, target, dport = flow
    network = IPv6(src=source, dst=target) if ":" in source else IP(src=source, dst=target)
    return bytes(Ether(src=lab.client.mac_address, dst=lab.router_mac)
                 / network / TCP(sport=sport, dport=dport, flags="S", seq=1))


@pytest.mark.parametrize("forward, vip, backend", WAYS)
def test_explain_names_the_backend(lab, counts, measured, forward, vip, backend):
    """For random flows, each explained before its SYN is sent, the capture on the backends' wires agrees every time."""
    lab.client.mac_address, lab.router_mac = lab.client.mac(), lab.router.mac("client")
    target = lab.vip(vip, VIP[forward])
    flows = random_flows(counts(100, 1000), vip, target, seed=f"{forward}{vip}{backend}")
    answers = lab.balancer.explain(flows)
    explained = dict(zip(flows, answers))
    assert len(answers) == len(flows)
    assert all(e["verdict"] == "forward" and e["service"] == f"{forward}-{vip}in{backend}" for e in answers), answers[:3]

    captures = {b.name: lab.capture_to_backend(b, forward) for b in lab.backends}
    with lab.client.frames() as raw:
        for number, flow in enumerate(flows):
            raw.send(syn(lab, flow))
            if number % 10 == 9:
                time.sleep(0.005)
    time.sleep(0.5)
    seen = {}
    for host in lab.backends:
        mac = host.mac(forward)
        for p in captures[host.name].stop().packets():
            if p.destination_mac == mac and p.destination == target and p.flags == 0x02:
                seen.setdefault(("tcp", p.source, p.sport, p.destination, p.dport), []).append(host.name)
    missing = [flow for flow in flows if flow not in seen]
    twice = [flow for flow in flows if len(seen.get(flow, [])) > 1]
    assert not missing and not twice, f"{len(missing)} SYNs were not seen, {len(twice)} more than once: {missing[:3]}"
    wrong = [(flow, explained[flow]["backend"], seen[flow]) for flow in flows
             if seen[flow] != [explained[flow]["backend"]]]
    assert not wrong, f"{len(wrong)} of {len(flows)} flows went elsewhere than explained: {wrong[:3]}"
    measured(f"{len(flows)} of {len(flows)} flows at the backend that explain named")


def test_explain_says_why_not(lab):
    """Packets that no service takes are explained as passed to the kernel, not as errors."""
    [answer] = lab.balancer.explain([("tcp", "203.0.113.2", 4000, lab.vip(4, 1), 81)])
    assert answer["verdict"] == "no_service" and answer["reason"], answer
    [answer] = lab.balancer.explain([("udp", "2001:db8:c::2", 4000, lab.balancer.address6, 53)])
    assert answer["verdict"] == "no_service", answer
