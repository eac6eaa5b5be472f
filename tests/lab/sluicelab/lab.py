# SPDX-License-Identifier: Apache-2.0
"""The laboratory: one machine, laid out as an edge site.

                203.0.113.0/24                      edge: 10.77.0.0/24, fd77::/64
                2001:db8:c::/64                     (one segment, a bridge in the router)
  +--------+                      +----------+                                        +------------+
  |        | eth0          client |          | edge              lb1..lbK        eth0 | balancer   |
  | client |----------------------|  router  |------+---------------------------------| lb1 .. lbK |
  |        | .2 to .9          .1 |          | .1   |                         .11 ... |            |
  +--------+                      +----------+      |                                 +------------+
                                      |             |                                  sluice-controlplane,
    HTTP, UDP and raw            farm | .1          |                                  sluice-dataplane
    frames, captures                  |             |  e1..eN                         +------------+
                                      |             +--------------------------- edge0| backend    |
                                      |                f1..fN                 .101 ...| b1 .. bN   |
                                      +------------------------------------------farm0|            |
                                                                              .101 ...+------------+
                                farm: 10.77.1.0/24, fd77:1::/64                        nginx, UDP echo,
                                (a routed network, a bridge in the router)             every VIP on lo

A request goes client -> router -> balancer (the router's route for the VIPs) and from there
  l2      over the edge segment, with the MAC of the backend's edge0;
  tunnel  to the router again, which routes the outer packet to the backend's farm0, where the
          decapsulator opens it.
The answer goes from the backend straight to the client through the router (direct server return).
VIPs: 198.51.100.1 ... and 2001:db8:100::1 ...; kernel forwarding with no balancer at all: Lab.route_vips_to().
"""

from .backend import Backend
from .balancer import Balancer, program
from .capture import Capture
from .client import Client
from .run import LabError, Run

CLIENT_SOURCES = range(2, 10)
QUIET = ["tx", "off", "tso", "off", "gso", "off", "gro", "off", "txvlan", "off", "rxvlan", "off"]


class Lab:
    """A context manager: everything is removed at its end, also after a failure."""

    def __init__(self, backends=3, balancers=1, vips=8, keep=False, queues=1):
        """queues: of the balancers' interfaces; each has as many to receive and to send."""
        self.run = Run(keep)
        self.vips, self.queues = vips, queues
        try:
            self._lay(backends, balancers)
        except BaseException:
            self.run.remove()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        left = self.run.remove()
        if left and exception[0] is None:
            raise LabError("the lab could not be removed: " + "; ".join(left))

    @staticmethod
    def vip4(number):
        return f"198.51.100.{number}"

    @staticmethod
    def vip6(number):
        return f"2001:db8:100::{number}"

    def vip(self, family, number):
        return self.vip4(number) if family == 4 else self.vip6(number)

    def logs(self, lines=30):
        return self.run.logs(lines)

    # ---- laying it out ----

    def _lay(self, backends, balancers):
        self.router = self.run.namespace("router")
        self.router.sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1,
                           net__ipv4__fib_multipath_hash_policy=1, net__ipv6__fib_multipath_hash_policy=1,
                           net__ipv4__conf__all__send_redirects=0, net__ipv4__conf__default__send_redirects=0,
                           **self._quiet_network())
        self.router.ip("""
            link set lo up
            link add edge type bridge stp_state 0 forward_delay 0 mcast_snooping 0
            link add farm type bridge stp_state 0 forward_delay 0 mcast_snooping 0
            link set edge up
            link set farm up
            address add 10.77.0.1/24 dev edge
            address add fd77::1/64 dev edge nodad
            address add 10.77.1.1/24 dev farm
            address add fd77:1::1/64 dev farm nodad
            """)
        self.client = Client(self.run, self._host("client"), CLIENT_SOURCES)
        self._cable(self.client.namespace, "eth0", "client")
        self.router.ip("""
            address add 203.0.113.1/24 dev client
            address add 2001:db8:c::1/64 dev client nodad
            """)
        self.client.namespace.ip("\n".join(
            [f"address add 203.0.113.{n}/24 dev eth0" for n in CLIENT_SOURCES]
            + [f"address add 2001:db8:c::{n}/64 dev eth0 nodad" for n in CLIENT_SOURCES]
            + ["route add default via 203.0.113.1", "route add default via 2001:db8:c::1"]))

        self.backends = []
        for number in range(1, backends + 1):
            backend = Backend(self.run, self._host(f"b{number}"), number)
            self._cable(backend.namespace, "edge0", f"e{number}", bridge="edge")
            self._cable(backend.namespace, "farm0", f"f{number}", bridge="farm")
            # 1500 minus the largest outer header (IPv6 + UDP or GRE, 48): what every host behind a tunnelling
            # balancer is told, by advmss or a smaller MTU.
            backend.namespace.ip(f"""
                address add {backend.edge4}/24 dev edge0
                address add {backend.edge6}/64 dev edge0 nodad
                address add {backend.farm4}/24 dev farm0
                address add {backend.farm6}/64 dev farm0 nodad
                route add default via 10.77.1.1 advmss 1400
                route add default via fd77:1::1 advmss 1380
                """)
            backend.namespace.sysctl(net__ipv4__conf__all__arp_ignore=1, net__ipv4__conf__all__arp_announce=2)
            backend.namespace.ip("\n".join(
                f"address add {self.vip4(v)}/32 dev lo\naddress add {self.vip6(v)}/128 dev lo nodad"
                for v in range(1, self.vips + 1)))
            self.backends.append(backend)

        self.balancers = []
        for number in range(1, balancers + 1):
            balancer = Balancer(self.run, self._host(f"lb{number}"), number)
            self._cable(balancer.namespace, "eth0", f"lb{number}", bridge="edge", queues=self.queues)
            # A veth takes what XDP sends from its peer only when it has a program of its own.
            self.router.run(["ip", "link", "set", "dev", f"lb{number}", "xdp", "obj", program("bpf/pass.bpf.o"),
                             "sec", "xdp"])
            balancer.namespace.ip(f"""
                address add {balancer.address4}/24 dev eth0
                address add {balancer.address6}/64 dev eth0 nodad
                route add default via 10.77.0.1
                route add default via fd77::1
                """)
            self.balancers.append(balancer)
        self.balancer = self.balancers[0] if self.balancers else None
        for backend in self.backends:
            backend.wait_network()
        if self.balancers:
            self.route_vips_to([(b.address4, b.address6) for b in self.balancers])

    @staticmethod
    def _quiet_network():
        """No duplicate address detection, no router discovery, no reverse path check (answers take another way)."""
        settings = {}
        for scope in ("all", "default"):
            settings |= {
                f"net__ipv4__conf__{scope}__rp_filter": 0,
                f"net__ipv6__conf__{scope}__accept_dad": 0,
                f"net__ipv6__conf__{scope}__dad_transmits": 0,
                f"net__ipv6__conf__{scope}__accept_ra": 0,
                f"net__ipv6__conf__{scope}__autoconf": 0,
            }
        return settings

    def _host(self, role):
        namespace = self.run.namespace(role)
        namespace.sysctl(**self._quiet_network())
        namespace.ip("link set lo up")
        return namespace

    def _cable(self, host, interface, port, bridge=None, queues=1):
        """A veth from the router's `port` to the host's `interface`, without the offloads that assume hardware."""
        many = f"numtxqueues {queues} numrxqueues {queues}"
        self.router.ip(f"""
            link add name {port} {many} type veth peer name {interface} netns {host.name} {many}
            {f"link set {port} master {bridge}" if bridge else ""}
            link set {port} up
            """)
        host.ip(f"link set {interface} up")
        self.router.run(["ethtool", "-K", port, *QUIET])
        host.run(["ethtool", "-K", interface, *QUIET])

    # ---- using it ----

    def route_vips_to(self, gateways, first=1, last=None):
        """Make the router send VIPs first..last (default: all) to these (IPv4, IPv6) next hops, spread over them by
        flow (ECMP) when there are several."""
        script = []
        for number in range(first, (last or self.vips) + 1):
            for vip, family in ((f"{self.vip4(number)}/32", 0), (f"{self.vip6(number)}/128", 1)):
                hops = [g[family] for g in gateways]
                if len(hops) == 1:
                    script.append(f"route replace {vip} via {hops[0]}")
                else:
                    script.append(f"route replace {vip} " + " ".join(f"nexthop via {hop}" for hop in hops))
        self.router.ip("\n".join(script))

    def start_servers(self, udp_ports=(5300,), http_ports=(80,)):
        """nginx and the UDP echo on every backend; returns when all answer."""
        vips = [self.vip(f, n) for f in (4, 6) for n in range(1, self.vips + 1)]
        for backend in self.backends:
            backend.start(vips, udp_ports, http_ports)
        for backend in self.backends:
            backend.wait_ready()

    def open_tunnels(self):
        """Attach the decapsulator to every backend: for all VIPs, from the balancers' addresses only."""
        vips = [self.vip(f, n) for f in (4, 6) for n in range(1, self.vips + 1)]
        arguments = [a for vip in vips for a in ("--vip", vip)]
        for backend in self.backends:
            pins = self.run.mount_bpf(backend.directory / "bpf")
            backend.namespace.run([program("tools/sluice-decap"), "attach", "farm0", *arguments,
                                   "--source", "10.77.0.0/24", "--source", "fd77::/64", "--pin-dir", pins])

    def service(self, name, address, port, protocol="tcp", forward="ipip", family=4, weights=(1, 1, 1),
                health=None, **settings):
        """A service's settings: one backend for each weight, reached over `family`, probed at its nginx."""
        default = {"type": "http", "port": 80, "path": "/ready", "interval": "500ms", "timeout": "400ms", "rise": 2,
                   "fall": 3}
        backends = [{"name": b.name, "address": b.address(forward, family), "weight": weight}
                    for b, weight in zip(self.backends, weights)]
        return {"name": name, "address": address, "port": port, "protocol": protocol, "forward": forward,
                "health": health or default, **settings, "backends": backends}

    def capture(self, namespace, interface, name, expression=""):
        """Start to capture; returns a running Capture (capture.py)."""
        return Capture(self.run, namespace, interface, name, expression)

    def capture_to_backend(self, backend, forward, expression=""):
        """Capture what is on the wire from the router to a backend: outer headers included."""
        port = f"{'e' if forward == 'l2' else 'f'}{backend.number}"
        return self.capture(self.router, port, f"wire-{port}", expression)
