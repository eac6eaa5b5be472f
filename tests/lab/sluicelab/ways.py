# SPDX-License-Identifier: Apache-2.0
"""Every way of forwarding, each by a TCP and a UDP service: forward mode, family of the VIP, family of the backends."""

WEIGHTS = (100, 200, 300)
VIP = {"l2": 1, "ipip": 2, "gue": 3, "gre": 4}
WAYS = [("l2", 4, 4), ("l2", 6, 6)] + [(f, v, b) for f in ("ipip", "gue", "gre") for v in (4, 6) for b in (4, 6)]
# Each spread is judged at this level, so that one judgement of each service cries wolf once in a thousand runs.
ALPHA = 0.001 / (2 * len(WAYS))


def port(protocol, backend_family):
    """nginx and the UDP echo listen on two ports each: one service of a VIP has IPv4, the other IPv6 backends."""
    return {"tcp": 80, "udp": 5300}[protocol] + (backend_family == 6)


def start_servers(lab):
    lab.start_servers(udp_ports=(5300, 5301), http_ports=(80, 81))
    lab.open_tunnels()


def services(lab):
    return [lab.service(f"{protocol}-{forward}-{vip}in{backend}", lab.vip(vip, VIP[forward]), port(protocol, backend),
                        protocol=protocol, forward=forward, family=backend, weights=WEIGHTS)
            for forward, vip, backend in WAYS for protocol in ("tcp", "udp")]
