# SPDX-License-Identifier: Apache-2.0
"""The lab's own instruments: they tell the truth, and nothing stays behind."""

import pathlib
import subprocess
import sys
import textwrap

import pytest

from sluicelab import run
from sluicelab.packets import decode
from sluicelab.spread import agreement, chi_squared_tail

LIBRARY = pathlib.Path(__file__).parent


@pytest.mark.parametrize("degrees, statistic, tail", [
    (1, 3.841, 0.05), (2, 5.991, 0.05), (3, 16.266, 0.001), (4, 18.467, 0.001), (9, 21.666, 0.01), (2, 0.0, 1.0)])
def test_chi_squared_table(degrees, statistic, tail):
    """The tail function gives the values of the printed tables (NIST/SEMATECH e-Handbook, 1.3.6.7.4)."""
    assert chi_squared_tail(statistic, degrees) == pytest.approx(tail, rel=2e-3)


def test_spread_is_judged():
    """A fair spread agrees with its weights; one shifted by 10%, and one to a backend of weight 0, do not."""
    weights = {"b1": 100, "b2": 200, "b3": 300}
    assert agreement({"b1": 330, "b2": 670, "b3": 1000}, weights)[1] > 0.1
    assert agreement({"b1": 530, "b2": 570, "b3": 900}, weights)[1] < 1e-6
    assert agreement({"b1": 1, "b2": 667, "b3": 1000}, {**weights, "b1": 0})[1] == 0.0


def test_packets_are_unwrapped():
    """The capture's decoder agrees with scapy's encoder for every encapsulation."""
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import GRE, Ether
    inner = {4: IP(src="203.0.113.9", dst="198.51.100.1"), 6: IPv6(src="2001:db8:c::9", dst="2001:db8:100::1")}
    outer = {4: IP(src="10.77.0.11", dst="10.77.1.101"), 6: IPv6(src="fd77::11", dst="fd77:1::101")}
    for i in (4, 6):
        ethertype = {"type": 0x86DD if i == 6 else 0x0800}
        flow = inner[i] / TCP(sport=1234, dport=80, flags="S")
        plain = decode(1.0, bytes(Ether(dst="02:00:00:00:00:01", **ethertype) / flow))
        assert (plain.outer, plain.protocol, plain.sport, plain.dport, plain.flags) == ((), "tcp", 1234, 80, 2)
        for o in (4, 6):
            for kind, between in (("ipip", None), ("gre", GRE()), ("gue", UDP(sport=50000, dport=6080))):
                packet = outer[o] / between / flow if between else outer[o] / flow
                seen = decode(1.0, bytes(Ether(dst="02:00:00:00:00:01") / packet))
                assert seen.outer == ((kind, outer[o].src, outer[o].dst),), (i, o, kind)
                assert (seen.source, seen.destination, seen.sport) == (inner[i].src, inner[i].dst, 1234)


def test_kernel_forwarding(make_lab):
    """Without a balancer, with the kernel's own multipath routes, every request is answered and a capture shows it."""
    lab = make_lab(balancers=0)
    lab.start_servers()
    lab.route_vips_to([(b.farm4, b.farm6) for b in lab.backends])
    captures = {b.name: lab.capture_to_backend(b, "ipip", "tcp port 80 or (ip6 and tcp port 80)") for b in lab.backends}
    for family in (4, 6):
        answers = lab.client.http(lab.vip(family, 1), count=300).all_succeeded(300)
        assert set(answers.spread()) == {"b1", "b2", "b3"}
        lab.client.udp(lab.vip(family, 1), count=300).all_succeeded(300)
    syns = {}
    for name, capture in captures.items():
        syns[name] = sum(1 for p in capture.stop().packets() if p.flags == 2)
    assert sum(syns.values()) == 600


def test_nothing_stays_behind():
    """A program that is killed with -9 leaves namespaces and a mount; tests/lab/clean removes them, and only them."""
    program = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(LIBRARY)!r})
        from sluicelab import Lab
        lab = Lab(backends=1)
        lab.start_servers()
        print(lab.run.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    dead = run.RUNS / done.stdout.strip()
    assert dead.name and dead in run.abandoned(), done.stderr
    living = run.Run()
    try:
        assert living.directory not in run.abandoned()
        cleaned = subprocess.run([LIBRARY / "clean"], capture_output=True, text=True, timeout=60, check=False)
        assert cleaned.returncode == 0 and f"{dead.name}: removed" in cleaned.stdout, cleaned
        assert not dead.exists() and living.directory.exists()
        mounts = pathlib.Path("/proc/self/mountinfo").read_text()
        assert dead.name not in mounts
        assert not list(run.NETNS.glob(f"sl-{dead.name}-*"))
    finally:
        assert living.remove() == []
