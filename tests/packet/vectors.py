#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The packet vectors: what goes in, what must come out, and why.

A row is one sentence, a frame, a verdict and, when the packet is forwarded, the
frame that must leave, built by scapy and by the small models below from the
RFCs, never by Sluice's code. Printed as lines that run_vectors.c reads:

    port MAC MTU
    service NUMBER ADDRESS PROTOCOL FIRST LAST AFFINITY SLOTS
    backend SERVICE SLOT MODE SOURCE DESTINATION MAC VLAN MTU SPREADBITS STATE
    echo ADDRESS
    vector VERDICT BACKEND INPUT-HEX OUTPUT-HEX[,OUTPUT-HEX ...]|- SENTENCE

The lookup table of every service is bucket i -> slot i mod SLOTS with M = 251.
Rows run in order, and a first fragment is remembered for the later ones of its datagram that come after it.
"""
import ipaddress
import logging
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, IPOption_NOP  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded, ICMPv6Unknown,
    IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN)
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402
from scapy.utils import checksum  # noqa: E402

BALANCER, ROUTER = "02:00:00:00:00:01", "02:00:00:00:00:02"
KEY = bytes(range(16))
M = 251
V4_SOURCE, V6_SOURCE = "10.9.9.9", "2001:db8:9::9"

# ------------------------------------------------------------------ models ----


def siphash13(key, message):
    mask = 2**64 - 1
    rotl = lambda x, n: ((x << n) | (x >> (64 - n))) & mask
    k0, k1 = (int.from_bytes(key[i:i + 8], "little") for i in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def sip_round():
        v[0] = (v[0] + v[1]) & mask
        v[1] = rotl(v[1], 13) ^ v[0]
        v[0] = rotl(v[0], 32)
        v[2] = (v[2] + v[3]) & mask
        v[3] = rotl(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & mask
        v[3] = rotl(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & mask
        v[1] = rotl(v[1], 17) ^ v[2]
        v[2] = rotl(v[2], 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message)])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i:i + 8], "little")
        v[3] ^= word
        sip_round()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        sip_round()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def flow_hash(source, destination, source_port, destination_port, protocol, affinity="flow"):
    source, destination = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    rest = destination + source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big") + bytes([protocol])
    return siphash13(KEY, source + (rest if affinity == "flow" else bytes(len(rest))))


def datagram_hash(packet):
    """The name of a fragment's datagram: its flow with the identification, as it stands in the packet, for the ports;
    in IPv6 the fragment header's number for the protocol."""
    if IP in packet:
        return flow_hash(packet[IP].src, packet[IP].dst, packet[IP].id, 0, packet[IP].proto)
    number = packet[IPv6ExtHdrFragment].id
    return flow_hash(packet[IPv6].src, packet[IPv6].dst, number >> 16, number & 0xFFFF, 44)


def walk_bucket(bucket, k):
    """The k-th bucket asked when a bucket's owner is dead: forwarding.h states this as its interface."""
    mask = 2**64 - 1
    mixed = (bucket * 0x9E3779B97F4A7C15 + k * 0xD6E8FEB86659FD93) & mask
    mixed ^= mixed >> 29
    return ((mixed * 0xBF58476D1CE4E5B9 & mask) >> 32) * M >> 32


# ------------------------------------------------------------------- table ----


class Backend:
    def __init__(self, destination, mode="ipip", source=None, vlan=0, mtu=1500, spread_bits=0, state="up"):
        self.destination, self.mode, self.vlan, self.mtu = destination, mode, vlan, mtu
        self.spread_bits, self.state = spread_bits, state
        self.source = source or (V4_SOURCE if "." in destination else V6_SOURCE)
        digest = siphash13(bytes(16), destination.encode()).to_bytes(8, "big")
        self.mac = "06:" + ":".join("%02x" % byte for byte in digest[:5])


class Service:
    def __init__(self, address, protocol, ports, backends, affinity="flow", lookup=True):
        self.address, self.protocol, self.backends = address, protocol, backends
        self.ports = ports if isinstance(ports, tuple) else (ports, ports)
        self.affinity, self.lookup = affinity, lookup


PROTOCOLS = {"tcp": 6, "udp": 17}
SERVICES = [
    Service("198.51.100.1", "tcp", 80, [Backend("10.0.0.1")]),
    Service("198.51.100.2", "tcp", 80, [Backend("2001:db8:b::1")]),
    Service("198.51.100.3", "udp", 53, [Backend("10.0.0.3", "gue")]),
    Service("198.51.100.4", "tcp", 80, [Backend("2001:db8:b::4", "gue", vlan=300)]),
    Service("198.51.100.5", "tcp", 80, [Backend("10.0.0.5", "gre")]),
    Service("198.51.100.6", "tcp", 80, [Backend("2001:db8:b::6", "gre")]),
    Service("198.51.100.7", "tcp", 80, [Backend("10.0.0.7", "l2")]),
    Service("198.51.100.8", "tcp", 80, [Backend("10.0.0.8", "l2", vlan=100)]),
    Service("2001:db8:5::1", "tcp", 80, [Backend("10.0.1.1")]),
    Service("2001:db8:5::2", "tcp", 80, [Backend("2001:db8:b:1::2")]),
    Service("2001:db8:5::3", "udp", 443, [Backend("10.0.1.3", "gue")]),
    Service("2001:db8:5::4", "tcp", 80, [Backend("2001:db8:b:1::4", "gue")]),
    Service("2001:db8:5::5", "tcp", 80, [Backend("10.0.1.5", "gre")]),
    Service("2001:db8:5::6", "tcp", 80, [Backend("2001:db8:b:1::6", "gre")]),
    Service("2001:db8:5::7", "tcp", 80, [Backend("2001:db8:b:1::7", "l2")]),
    Service("198.51.100.20", "tcp", 80, [Backend("10.0.2.%d" % i) for i in range(1, 4)]),
    Service("198.51.100.21", "tcp", 80,
            [Backend("10.0.3.1"), Backend("10.0.3.2", state="down"), Backend("10.0.3.3", state="draining")]),
    Service("198.51.100.22", "tcp", 80, [Backend("10.0.4.1", state="down"), Backend("10.0.4.2", state="down")]),
    Service("198.51.100.23", "tcp", 80, [Backend("10.0.5.1")], lookup=False),
    Service("198.51.100.24", "tcp", (1000, 1999), [Backend("10.0.6.1")]),
    Service("198.51.100.24", "tcp", 1500, [Backend("10.0.6.2")]),
    Service("198.51.100.24", "udp", (1, 65535), [Backend("10.0.6.3")]),
    Service("198.51.100.25", "tcp", 80, [Backend("10.0.7.1", mtu=576)]),
    Service("198.51.100.26", "tcp", 80, [Backend("10.0.8.1", source="10.127.0.0", spread_bits=16)]),
    Service("198.51.100.27", "tcp", 80, [Backend("10.0.9.%d" % i) for i in range(1, 6)], affinity="client"),
    Service("2001:db8:5::8", "tcp", 80, [Backend("2001:db8:b:2::%d" % i, spread_bits=8,
                                                 source="2001:db8:9::100") for i in range(1, 4)]),
    Service("2001:db8:5::9", "tcp", 80, [Backend("2001:db8:b:3::1", "gue", mtu=1400)]),
    Service("198.51.100.28", "udp", 53, [Backend("2001:db8:b:3::2", mtu=1280)]),
    Service("198.51.100.29", "udp", 53, [Backend("10.0.10.1", "l2", vlan=5, mtu=576)]),
    Service("198.51.100.30", "udp", 53, [Backend("10.0.10.2", mtu=87)]),
    Service("198.51.100.31", "udp", 53, [Backend("10.0.10.3", mtu=47)]),
    Service("198.51.100.32", "udp", 53, [Backend("10.0.10.4", mtu=88)]),
    Service("2001:db8:5::a", "tcp", 80, [Backend("2001:db8:b:3::3", mtu=1319)]),
    Service("2001:db8:5::b", "tcp", 80, [Backend("2001:db8:b:3::4", "l2", mtu=1280)]),
    Service("198.51.100.33", "tcp", 80, [Backend("10.0.10.%d" % i, "gue", mtu=576) for i in range(5, 10)], affinity="client"),
    Service("2001:db8:5::c", "tcp", 80, [Backend("2001:db8:b:4::%d" % i) for i in range(1, 6)], affinity="client"),
]
ECHOES = ["198.51.100.1", "2001:db8:5::1"]


def choose(service, packet_hash):
    """(slot, bucket) of the backend, or None: cur of the bucket, else the first living one of the walk."""
    bucket = (packet_hash >> 32) * M >> 32
    owner = lambda b: service.backends[b % len(service.backends)]
    if owner(bucket).state != "down":
        return bucket % len(service.backends)
    for k in range(1, 33):
        other = walk_bucket(bucket, k)
        if owner(other).state != "down":
            return other % len(service.backends)
    return None


def forwarded(frame, service_number, source_port, destination_port, client=None, is_later=False):
    """What must leave for `frame`, and the slot of the backend that it leaves for. client: whose flow it is about;
    is_later: it is a later fragment, of a datagram with these ports."""
    service = SERVICES[service_number]
    layer = IP if "." in service.address else IPv6
    inner = frame[layer]
    flow = client or inner.src, inner.dst, source_port, destination_port, PROTOCOLS[service.protocol]
    slot = choose(service, flow_hash(*flow, service.affinity))
    backend = service.backends[slot]
    # Whatever the affinity: a client's connections take all paths of the underlay.
    entropy = (datagram_hash(frame) if is_later else flow_hash(*flow)) & 0xFFFFFFFF
    inner_bytes = bytes(inner)
    length = inner.len if layer is IP else inner.plen + 40 if inner.plen is not None else None
    tos = inner.tos if layer is IP else inner.tc
    if backend.mode != "l2" and length is not None:
        inner_bytes = inner_bytes[:length]
    if layer is IP and len(inner_bytes) > inner_mtu(backend) and backend.mode != "l2":
        pieces = fragments(inner_bytes, inner_mtu(backend))
        return [encapsulated(piece, tos, backend, entropy, layer) for piece in pieces], slot
    if backend.mode == "l2":
        # All that followed the link header, padding too.
        link = 14 + (4 * sum(isinstance(frame.getlayer(i), (Dot1Q, Dot1AD)) for i in range(4)))
        pieces = [bytes(frame)[link:]]
        if len(inner_bytes) > backend.mtu:
            pieces = fragments(inner_bytes, backend.mtu)
        return [encapsulated(piece, tos, backend, entropy, layer) for piece in pieces], slot
    return [encapsulated(inner_bytes, tos, backend, entropy, layer)], slot


OVERHEAD = {"l2": (0, 0), "ipip": (20, 40), "gue": (28, 48), "gre": (24, 44)}


def inner_mtu(backend):
    return backend.mtu - OVERHEAD[backend.mode]["." not in backend.destination]


def fragments(packet, mtu):
    """An IPv4 packet's fragments (RFC 791), of which the later ones have only the options with the copied bit."""
    header = packet[0] % 16 * 4
    payload, word = packet[header:], int.from_bytes(packet[6:8], "big")
    step = (mtu - header) // 8 * 8
    pieces = []
    for start in range(0, len(payload), step):
        piece = bytearray(packet[:header]) + payload[start:start + step]
        if start:
            at = 20
            while at < header and piece[at] != 0:
                length = 1 if piece[at] == 1 else piece[at + 1]
                if piece[at] < 128:
                    piece[at:at + length] = b"\1" * length
                at += length
        more = 0x2000 if start + step < len(payload) else word & 0x2000
        piece[2:4] = len(piece).to_bytes(2, "big")
        piece[6:8] = (word & 0xC000 | more | (word & 0x1FFF) + start // 8).to_bytes(2, "big")
        piece[10:12] = b"\0\0"
        piece[10:12] = checksum(bytes(piece[:header])).to_bytes(2, "big")
        pieces.append(bytes(piece))
    return pieces


def encapsulated(inner_bytes, tos, backend, entropy, layer):
    """The frame that carries an IP packet of `layer` and TOS to the backend."""
    source = backend.source
    if backend.spread_bits:
        low = int.from_bytes((entropy & int.from_bytes(((1 << backend.spread_bits) - 1).to_bytes(4, "big"), "little"))
                             .to_bytes(4, "little"), "big")
        source = str(ipaddress.ip_address(int(ipaddress.ip_address(source)) | low))
    out = Ether(dst=backend.mac, src=BALANCER, type=0)
    if backend.vlan:
        out = Ether(dst=backend.mac, src=BALANCER, type=0x8100) / Dot1Q(vlan=backend.vlan, type=0)
    inner_type = 0x0800 if layer is IP else 0x86DD
    inner_protocol = 4 if layer is IP else 41
    if backend.mode == "l2":
        out.lastlayer().type = inner_type
        return bytes(out) + inner_bytes
    v4 = "." in backend.destination
    out.lastlayer().type = 0x0800 if v4 else 0x86DD
    protocol = {"ipip": inner_protocol, "gue": 17, "gre": 47}[backend.mode]
    if v4:
        out /= IP(src=source, dst=backend.destination, ttl=64, id=0, flags="DF", tos=tos, proto=protocol)
    else:
        out /= IPv6(src=source, dst=backend.destination, hlim=64, tc=tos, fl=entropy & 0xFFFFF, nh=protocol)
    if backend.mode == "gue":
        out /= UDP(sport=0xC000 | entropy & 0x3FFF, dport=6080, chksum=0, len=8 + len(inner_bytes))
    if backend.mode == "gre":
        out /= GRE(proto=inner_type)
    return bytes(out / Raw(inner_bytes))


def answered_too_big(frame, mtu):
    """What Sluice tells the sender of a packet that does not fit."""
    link = bytes(frame)[6:12] + bytes(frame)[:6]
    if IP in frame:
        ip = frame[IP]
        return link + bytes(frame)[12:len(frame) - len(ip)] + bytes(
            IP(src=ip.dst, dst=ip.src, tos=0xC0, id=0, flags="DF", ttl=64) / ICMP(
                type=3, code=4, nexthopmtu=mtu) / Raw(bytes(ip)[:576 - 28]))
    ip = frame[IPv6]
    return link + bytes(frame)[12:len(frame) - len(ip)] + bytes(
        IPv6(src=ip.dst, dst=ip.src, hlim=64) / ICMPv6PacketTooBig(mtu=mtu) / Raw(bytes(ip)[:1280 - 48]))


# -------------------------------------------------------------------- rows ----

ROWS = []


def row(sentence, frame, verdict, service=None, ports=None, client=None, is_later=False, answer=None):
    """With a service number the packet is forwarded for it (or dropped on its account: give the verdict)."""
    frame = frame if isinstance(frame, bytes) else Ether(bytes(frame))
    output, backend = "-", "-"
    if verdict in ("forward", "fragmented"):
        ports = ports or (frame.sport, frame.dport)
        frames, slot = forwarded(frame, service, *ports, client, is_later)
        output, backend = ",".join(data.hex() for data in frames), "%d/%d" % (service, slot)
    if answer:
        output = answer.hex()
    ROWS.append((verdict, backend, bytes(frame).hex(), output, sentence))


def link():
    return Ether(src=ROUTER, dst=BALANCER)


def v4(destination, **fields):
    return link() / IP(src="192.0.2.77", dst=destination, **fields)


def v6(destination, **fields):
    return link() / IPv6(src="2001:db8:77::1", dst=destination, **fields)


def icmp_errors():
    """An error comes from anyone on the way and quotes what the backend sent: from the VIP to the client."""
    def reply(service, **fields):
        address = SERVICES[service].address
        if "." in address:
            return IP(src=address, dst="192.0.2.77", **fields)
        return IPv6(src=address, dst="2001:db8:77::1", **fields)

    def error(service, icmp, quote, *length, **fields):
        quote = Raw(bytes(quote)[:length[0] if length else None])
        if "." in SERVICES[service].address:
            return link() / IP(src="203.0.113.200", dst=SERVICES[service].address, **fields) / icmp / quote
        return link() / IPv6(src="2001:db8:99::1", dst=SERVICES[service].address, **fields) / icmp / quote

    def about(sentence, service, icmp, quote, *length, ports=(40000, 80), **fields):
        client = "192.0.2.77" if "." in SERVICES[service].address else "2001:db8:77::1"
        row(sentence, error(service, icmp, quote, *length, **fields), "forward", service, ports, client)

    def passes(sentence, service, icmp, quote, *length, **fields):
        row(sentence, error(service, icmp, quote, *length, **fields), "protocol")

    tcp = TCP(sport=80, dport=40000, flags="A", seq=7, ack=9)
    for port in range(40000, 40006):
        about("an ICMP error goes where flow %d of three backends goes" % port, 15, ICMP(type=3, code=1),
              reply(15) / TCP(sport=80, dport=port) / Raw(b"x" * 100), 28, ports=(port, 80))
        about("an ICMP error of flow %d, one of three backends is down" % port, 16, ICMP(type=3, code=3),
              reply(16) / TCP(sport=80, dport=port), 28, ports=(port, 80))
        about("an ICMPv6 error goes where flow %d of three backends goes" % port, 25, ICMPv6DestUnreach(code=1),
              reply(25) / TCP(sport=80, dport=port) / Raw(b"x" * 1100), ports=(port, 80))
    about("an ICMP error with affinity client", 24, ICMP(type=3, code=1), reply(24) / tcp, 28)
    about("an ICMP error with affinity client, to a backend by gue", 34, ICMP(type=3, code=1), reply(34) / tcp, 28)
    about("fragmentation needed, to a backend by gue", 2, ICMP(type=3, code=4, nexthopmtu=1400),
          reply(2) / UDP(sport=53, dport=5353) / Raw(b"x" * 520), ports=(5353, 53))
    about("time exceeded", 6, ICMP(type=11, code=0), reply(6) / tcp, 28)
    about("parameter problem", 0, ICMP(type=12, ptr=3), reply(0) / tcp, 28)
    about("an ICMP error with IPv4 options, about a packet with IPv4 options", 0, ICMP(type=3, code=1),
          reply(0, options=[IPOption_NOP()] * 8) / tcp, 36, options=[IPOption_NOP()] * 4)
    about("an ICMP error about a first fragment", 2, ICMP(type=11, code=1),
          reply(2, flags="MF", id=4) / UDP(sport=53, dport=5353, len=3000) / Raw(b"x" * 80), ports=(5353, 53))
    about("an ICMP error keeps its DSCP and ECN", 0, ICMP(type=3, code=1), reply(0) / tcp, 28, tos=0xC2)
    about("packet too big", 9, ICMPv6PacketTooBig(mtu=1280), reply(9) / tcp / Raw(b"x" * 1100))
    about("ICMPv6 time exceeded", 8, ICMPv6TimeExceeded(), reply(8) / tcp, 48)
    about("ICMPv6 parameter problem", 10, ICMPv6ParamProblem(), reply(10) / UDP(sport=443, dport=999), 48,
          ports=(999, 443))
    hop = IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])
    dest = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
    about("an ICMPv6 error about a packet with extension headers", 9, ICMPv6DestUnreach(code=1),
          reply(9) / hop / dest / IPv6ExtHdrFragment(offset=0, m=1, id=5) / tcp, 40 + 8 + 16 + 8 + 8)
    row("an ICMPv6 error behind extension headers of its own",
        link() / IPv6(src="2001:db8:99::1", dst=SERVICES[9].address) / hop / ICMPv6DestUnreach(code=1) / Raw(
            bytes(reply(9) / tcp)), "forward", 9, (40000, 80), "2001:db8:77::1")
    row("a tagged ICMP error", Ether(src=ROUTER, dst=BALANCER) / Dot1Q(vlan=7) / IP(
        src="203.0.113.200", dst=SERVICES[0].address) / ICMP(type=3, code=1) / Raw(bytes(reply(0) / tcp)[:28]),
        "forward", 0, (40000, 80), "192.0.2.77")
    row("no living backend for the flow of an ICMP error",
        error(17, ICMP(type=3, code=1), reply(17) / tcp, 28), "no_backend")

    passes("an ICMP error about a later fragment passes: it has no ports", 2, ICMP(type=11, code=1),
           reply(2, frag=4, id=4, proto=17) / Raw(b"x" * 80))
    passes("an ICMPv6 error about a later fragment passes", 10, ICMPv6TimeExceeded(code=1),
           reply(10) / IPv6ExtHdrFragment(offset=4, m=0, id=5, nh=17) / Raw(b"x" * 80))
    passes("an ICMP error that quotes 7 bytes of TCP passes", 0, ICMP(type=3, code=1), reply(0) / tcp, 27)
    passes("an ICMPv6 error that quotes 7 bytes of TCP passes", 9, ICMPv6DestUnreach(code=1), reply(9) / tcp, 47)
    passes("an ICMP error about no service's port passes", 0, ICMP(type=3, code=1),
           reply(0) / TCP(sport=22, dport=40000), 28)
    passes("an ICMP error about UDP at a TCP service's port passes", 0, ICMP(type=3, code=1),
           reply(0) / UDP(sport=80, dport=40000), 28)
    passes("an ICMP error about a ping passes", 0, ICMP(type=3, code=1), reply(0) / ICMP(type=0), 28)
    passes("an ICMP error whose quoted source is not where it went passes", 0, ICMP(type=3, code=1),
           reply(3) / tcp, 28)
    passes("a source quench passes", 0, ICMP(type=4), reply(0) / tcp, 28)
    passes("an ICMP redirect passes", 0, ICMP(type=5, code=1), reply(0) / tcp, 28)
    passes("an ICMPv6 error of unknown type passes", 9, ICMPv6Unknown(type=100), reply(9) / tcp)
    passes("ICMPv6 over IPv4 passes", 0, Raw(bytes(ICMP(type=3, code=1))), reply(0) / tcp, 28, proto=58)
    passes("ICMP over IPv6 passes", 9, Raw(bytes(ICMP(type=3, code=1))), reply(9) / tcp, nh=1)
    passes("an ICMP error in fragments passes", 0, ICMP(type=3, code=1), reply(0) / tcp, 28, flags="MF")
    passes("an ICMP error whose quote has version 6 passes", 0, ICMP(type=3, code=1),
           reply(0, version=6) / tcp, 28)
    passes("an ICMP error whose quote has a header of 16 bytes passes", 0, ICMP(type=3, code=1),
           reply(0, ihl=4) / tcp, 28)
    passes("an ICMP error whose quote has a header beyond it passes", 0, ICMP(type=3, code=1),
           reply(0, ihl=15) / tcp, 60)
    padded = error(0, ICMP(type=3, code=1), reply(0) / tcp, 24)
    row("Ethernet padding is no part of a quote", Ether(bytes(padded) + bytes([0, 80, 0x9C, 0x40] * 4)), "protocol")


def too_big():
    ack = TCP(sport=1, dport=80, flags="A")

    def answered(sentence, frame, mtu):
        frame = Ether(bytes(frame))
        row(sentence, frame, "answered_too_big", answer=answered_too_big(frame, mtu))

    def text(n):
        return Raw(bytes(i * 7 % 251 for i in range(n)))

    answered("one byte more than fits, not to be fragmented: the sender is told",
             v4("198.51.100.25", flags="DF", tos=0xB9) / ack / text(576 - 20 - 39), 556)
    answered("what is quoted ends at 576 bytes", v4("198.51.100.25", flags="DF") / ack / text(1400), 556)
    answered("a short packet is quoted whole, to its odd last byte",
             v4("198.51.100.32", flags="DF") / UDP(sport=1, dport=53) / text(61), 68)
    answered("too big with IPv4 options",
             v4("198.51.100.25", flags="DF", options=[IPOption_NOP()] * 8) / ack / text(600), 556)
    answered("too big in a tagged frame", Ether(src=ROUTER, dst=BALANCER) / Dot1Q(vlan=7, prio=3) / IP(
        src="192.0.2.77", dst="198.51.100.25", flags="DF") / ack / text(600), 556)
    answered("too big with two tags", Ether(src=ROUTER, dst=BALANCER) / Dot1AD(vlan=9) / Dot1Q(vlan=7) / IP(
        src="192.0.2.77", dst="198.51.100.25", flags="DF") / ack / text(600), 556)
    answered("too big for l2", v4("198.51.100.29", flags="DF") / UDP(sport=1, dport=53) / text(549), 576)
    answered("a first fragment that is too big and not to be fragmented",
             v4("198.51.100.25", flags="DF+MF") / ack / text(600), 556)
    answered("too big over IPv6", v6("2001:db8:5::9") / ack / text(1352 - 59), 1352)
    answered("too big over IPv6 in a tagged frame", Ether(src=ROUTER, dst=BALANCER) / Dot1Q(vlan=7) / IPv6(
        src="2001:db8:77::1", dst="2001:db8:5::9") / ack / text(1400), 1352)
    answered("too big over IPv6 with extension headers", v6("2001:db8:5::9") / IPv6ExtHdrHopByHop(
        options=[PadN(optdata=b"\0" * 4)]) / ack / text(1353 - 68), 1352)
    answered("too big for l2 over IPv6", v6("2001:db8:5::b") / ack / text(1301 - 60), 1280)
    row("no IPv6 link may be so narrow: nobody would heed the answer",
        v6("2001:db8:5::a") / ack / text(1300), "too_big")
    row("no IPv4 link may be so narrow",
        v4("198.51.100.30", flags="DF") / UDP(sport=1, dport=53) / text(100), "too_big")
    row("too big from a multicast address",
        Ether(src=ROUTER, dst=BALANCER) / IP(src="224.0.0.9", dst="198.51.100.25", flags="DF") / ack / text(600),
        "too_big")
    for source in "255.255.255.255", "0.0.0.0", "127.0.0.1", "240.0.0.1":
        row("too big from %s" % source, Ether(src=ROUTER, dst=BALANCER) / IP(
            src=source, dst="198.51.100.25", flags="DF") / ack / text(600), "too_big")
    for source in "::", "::1", "::ffff:192.0.2.77", "ff02::1":
        row("too big from %s" % source, Ether(src=ROUTER, dst=BALANCER) / IPv6(
            src=source, dst="2001:db8:5::9") / ack / text(1400), "too_big")
    row("too big in a broadcast frame", Ether(src=ROUTER, dst="ff:ff:ff:ff:ff:ff") / IP(
        src="192.0.2.77", dst="198.51.100.25", flags="DF") / ack / text(600), "too_big")
    row("an ICMP error that is too big is not answered", v4("198.51.100.25", flags="DF") / ICMP(type=3, code=1) / Raw(
        bytes(IP(src="198.51.100.25", dst="192.0.2.77") / TCP(sport=80, dport=1) / text(600))), "too_big")
    row("an ICMPv6 error that is too big is not answered", v6("2001:db8:5::9") / ICMPv6DestUnreach(code=1) / Raw(
        bytes(IPv6(src="2001:db8:5::9", dst="2001:db8:77::1") / TCP(sport=80, dport=1) / text(1400))), "too_big")

    def split(sentence, frame, service, ports=(1, 53), **fields):
        row(sentence, frame, "fragmented", service, ports, **fields)

    data = UDP(sport=1, dport=53)
    split("one byte more than fits: two fragments", v4("198.51.100.25", id=77, tos=0xB9) / ack / text(576 - 20 - 39),
          22, (1, 80))
    split("fragments to a backend by IPv6", v4("198.51.100.28", id=78) / data / text(1400), 27)
    split("three fragments by l2", v4("198.51.100.29", id=79) / data / text(1400), 28)
    split("fragments of a tagged frame", Ether(src=ROUTER, dst=BALANCER) / Dot1Q(vlan=7) / IP(
        src="192.0.2.77", dst="198.51.100.28", id=80) / data / text(1400), 27)
    split("a first fragment in fragments: all say that more come",
          v4("198.51.100.28", id=81, flags="MF") / UDP(sport=1, dport=53, len=4000) / text(1400), 27)
    row("a first fragment that fits, of a datagram whose others do not",
        v4("198.51.100.28", id=85, flags="MF") / UDP(sport=1, dport=53, len=4000) / text(80), "forward", 27, (1, 53))
    row("a later fragment in fragments: their places are those in the datagram",
        v4("198.51.100.28", id=85, flags="MF", frag=11, proto=17) / text(1400), "fragmented", 27, (1, 53),
        is_later=True)
    row("the last fragment in fragments: the last piece ends the datagram",
        v4("198.51.100.28", id=85, frag=186, proto=17) / text(1399), "fragmented", 27, (1, 53), is_later=True)
    row("a later fragment whose pieces would lie beyond the longest datagram",
        v4("198.51.100.28", id=85, frag=0x1FFF, proto=17) / text(1400), "ip_malformed")
    row("a later fragment that is too big and not to be fragmented is not answered",
        v4("198.51.100.28", id=85, flags="DF", frag=186, proto=17) / text(1399), "too_big")
    split("fragments of a packet with options: the first has all, the others those to be copied",
          v4("198.51.100.28", id=82, options=[IPOption(b"\x07\x0b\x04" + b"\0" * 8), IPOption_NOP(), IPOption(
              b"\x94\x04\0\0"), IPOption(b"\x44\x08\x05\0\0\0\0\0")]) / data / text(1400), 27)
    split("fragments by gue with affinity client", v4("198.51.100.33", id=86) / ack / text(1400), 34,
          (1, 80))
    split("as many fragments as may be", v4("198.51.100.30", id=83) / data / text(16 * 40 - 8), 29)
    row("one more is one too many", v4("198.51.100.30", id=83) / data / text(16 * 40 - 7), "too_big")
    row("no payload fits beside the header", v4("198.51.100.31", id=83) / data / text(100), "too_big")
    split("an ICMP error in fragments", v4("198.51.100.25", id=84) / ICMP(type=3, code=1) / Raw(
        bytes(IP(src="198.51.100.25", dst="192.0.2.77") / TCP(sport=80, dport=1) / text(600))), 22, (1, 80))


def echoes():
    def answered(sentence, frame):
        frame = Ether(bytes(frame))
        answer = Ether(bytes(frame))
        answer.src, answer.dst = frame.dst, frame.src
        ip = answer[IP] if IP in answer else answer[IPv6]
        ip.src, ip.dst = ip.dst, ip.src
        if IP in answer:
            ip.ttl, ip.chksum, answer[ICMP].type, answer[ICMP].chksum = 64, None, 0, None
            answer = bytes(answer)
        else:
            ip.hlim, answer[ICMPv6EchoRequest].type, answer[ICMPv6EchoRequest].cksum = 64, 129, None
            answer = bytes(answer)
        row(sentence, frame, "answered_echo", answer=answer)

    ping, ping6 = ICMP(id=7, seq=9) / Raw(b"some words"), ICMPv6EchoRequest(id=7, seq=9, data=b"some words")
    answered("ping of a VIP with icmp_echo", v4("198.51.100.1", id=99, tos=0xB9) / ping)
    answered("ping with DF", v4("198.51.100.1", flags="DF") / ping)
    answered("an empty ping", v4("198.51.100.1") / ICMP())
    answered("a tagged ping", Ether(src=ROUTER, dst=BALANCER) / Dot1Q(vlan=7) / IP(
        src="192.0.2.77", dst="198.51.100.1") / ping)
    answered("a large ping of odd length", v4("198.51.100.1") / ICMP(id=7) / Raw(b"\xff" * 1401))
    answered("IPv6 ping of a VIP with icmp_echo", v6("2001:db8:5::1", tc=0xB9, fl=5) / ping6)
    answered("an IPv6 ping with two tags", Ether(src=ROUTER, dst=BALANCER) / Dot1AD(vlan=9) / Dot1Q(vlan=7) / IPv6(
        src="2001:db8:77::1", dst="2001:db8:5::1") / ping6)
    row("ping of a VIP without icmp_echo passes", v4("198.51.100.2") / ping, "protocol")
    row("IPv6 ping of a VIP without icmp_echo passes", v6("2001:db8:5::2") / ping6, "protocol")
    row("ping of no VIP passes", v4("203.0.113.9") / ping, "protocol")
    row("an echo reply to a VIP passes", v4("198.51.100.1") / ICMP(type=0) / Raw(b"x"), "protocol")
    row("ping with a code passes", v4("198.51.100.1") / ICMP(code=1) / Raw(b"x"), "protocol")
    row("ping with IP options passes", v4("198.51.100.1", options=[IPOption_NOP()] * 4) / ping, "protocol")
    row("ping behind extension headers passes", v6("2001:db8:5::1") / IPv6ExtHdrHopByHop(
        options=[PadN(optdata=b"\0" * 4)]) / ping6, "protocol")
    row("ping in fragments passes", v4("198.51.100.1", flags="MF") / ping, "protocol")
    row("ping of 7 bytes passes", v4("198.51.100.1", proto=1) / Raw(b"\x08\0\xf7\xff\0\0\0"), "protocol")
    row("ping from a multicast address passes", Ether(src=ROUTER, dst=BALANCER) / IP(
        src="239.1.1.1", dst="198.51.100.1") / ping, "protocol")
    row("ping in a broadcast frame passes", Ether(src=ROUTER, dst="ff:ff:ff:ff:ff:ff") / IP(
        src="192.0.2.77", dst="198.51.100.1") / ping, "protocol")


def vectors():
    syn = TCP(sport=40000, dport=80, flags="S", seq=1)
    data = TCP(sport=40000, dport=80, flags="PA", seq=2, ack=9) / Raw(b"GET / HTTP/1.0\r\n\r\n")
    names = {0: "ipip, IPv4 in IPv4", 1: "ipip, IPv4 in IPv6", 3: "gue, IPv4 in IPv6, out with a VLAN tag",
             4: "gre, IPv4 in IPv4", 5: "gre, IPv4 in IPv6", 6: "l2", 7: "l2, out with a VLAN tag"}
    for number, name in names.items():
        row("a SYN by %s" % name, v4(SERVICES[number].address) / syn, "forward", number)
        row("data by %s" % name, v4(SERVICES[number].address, tos=0xB9) / data, "forward", number)
    for number, name in {8: "ipip, IPv6 in IPv4", 9: "ipip, IPv6 in IPv6", 11: "gue, IPv6 in IPv6",
                         12: "gre, IPv6 in IPv4", 13: "gre, IPv6 in IPv6", 14: "l2 with IPv6"}.items():
        row("a SYN by %s" % name, v6(SERVICES[number].address) / syn, "forward", number)
        row("data by %s" % name, v6(SERVICES[number].address, tc=0xB9, fl=0x12345) / data, "forward", number)
    row("UDP by gue, IPv4 in IPv4", v4("198.51.100.3") / UDP(sport=5353, dport=53) / Raw(b"query"), "forward", 2)
    row("UDP by gue, IPv6 in IPv4", v6("2001:db8:5::3") / UDP(sport=999, dport=443) / Raw(b"quic"), "forward", 10)
    row("UDP with checksum 0 is forwarded as it is",
        v4("198.51.100.3") / UDP(sport=5353, dport=53, chksum=0) / Raw(b"query"), "forward", 2)
    row("an empty UDP datagram", v4("198.51.100.3") / UDP(sport=1, dport=53), "forward", 2)

    for port in range(40000, 40012):
        row("flow %d of three backends" % port, v4("198.51.100.20") / TCP(sport=port, dport=80, flags="S"),
            "forward", 15)
    for port in range(40000, 40012):
        row("flow %d, one of three backends is down, one drains" % port,
            v4("198.51.100.21") / TCP(sport=port, dport=80, flags="A"), "forward", 16)
    for port in range(40000, 40004):
        row("affinity client: source port %d makes no difference" % port,
            v4("198.51.100.27") / TCP(sport=port, dport=80, flags="A"), "forward", 24)
        row("affinity client: source port %d has an outer source port of its own" % port,
            v4("198.51.100.33") / TCP(sport=port, dport=80, flags="A"), "forward", 34)
        row("affinity client: source port %d has a flow label of its own" % port,
            v6("2001:db8:5::c") / TCP(sport=port, dport=80, flags="A"), "forward", 35)
    for port in range(40000, 40006):
        row("IPv6 outer source spread over 8 bits, flow %d" % port,
            v6("2001:db8:5::8") / TCP(sport=port, dport=80, flags="A"), "forward", 25)
        row("IPv4 outer source spread over a /16, flow %d" % port,
            v4("198.51.100.26") / TCP(sport=port, dport=80, flags="A"), "forward", 23)
    row("every backend is down", v4("198.51.100.22") / syn, "no_backend")
    row("no backend is eligible: the service has no lookup table", v4("198.51.100.23") / syn, "no_backend")

    row("a port in a range", v4("198.51.100.24") / TCP(sport=1, dport=1000), "forward", 19)
    row("the last port of a range", v4("198.51.100.24") / TCP(sport=1, dport=1999), "forward", 19)
    row("an exact port goes before the range around it", v4("198.51.100.24") / TCP(sport=1, dport=1500), "forward", 20)
    row("a port beyond the range passes", v4("198.51.100.24") / TCP(sport=1, dport=2000), "no_service")
    row("a port below the range passes", v4("198.51.100.24") / TCP(sport=1, dport=999), "no_service")
    row("any UDP port", v4("198.51.100.24") / UDP(sport=1, dport=65535), "forward", 21)
    row("port 0 is not any port", v4("198.51.100.24") / UDP(sport=1, dport=0), "no_service")
    row("TCP port 0 to a VIP passes", v4("198.51.100.24") / TCP(sport=1, dport=0), "no_service")

    row("one VLAN tag is taken off", Ether(src=ROUTER, dst=BALANCER) / Dot1Q(vlan=7) / IP(
        src="192.0.2.77", dst="198.51.100.1") / syn, "forward", 0)
    row("two VLAN tags are taken off", Ether(src=ROUTER, dst=BALANCER) / Dot1AD(vlan=9) / Dot1Q(vlan=7) / IP(
        src="192.0.2.77", dst="198.51.100.1") / syn, "forward", 0)
    row("a received tag is replaced by the adjacency's", Ether(src=ROUTER, dst=BALANCER) / Dot1Q(vlan=7) / IP(
        src="192.0.2.77", dst="198.51.100.8") / syn, "forward", 7)
    row("l2 takes a received tag off", Ether(src=ROUTER, dst=BALANCER) / Dot1Q(vlan=7) / IP(
        src="192.0.2.77", dst="198.51.100.7") / syn, "forward", 6)
    row("three VLAN tags pass", Ether(src=ROUTER, dst=BALANCER) / Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / IP(
        src="192.0.2.77", dst="198.51.100.1") / syn, "not_ip")

    padded = Ether(bytes(v4("198.51.100.1") / syn) + b"\xaa" * 6)
    row("Ethernet padding is not tunnelled", padded, "forward", 0, (40000, 80))
    row("l2 leaves the padding", Ether(bytes(v4("198.51.100.7") / syn) + b"\xaa" * 6), "forward", 6, (40000, 80))
    row("IPv4 options stay in the inner packet",
        v4("198.51.100.1", options=[IPOption_NOP()] * 4) / data, "forward", 0)
    row("a SYN with TCP options", v4("198.51.100.1") / TCP(
        sport=40000, dport=80, flags="S", options=[("MSS", 1460), ("WScale", 7)]), "forward", 0)
    row("a RST follows its flow", v4("198.51.100.1") / TCP(sport=40000, dport=80, flags="R"), "forward", 0)

    hop = IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])
    dest = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
    row("IPv6 hop-by-hop options before TCP", v6("2001:db8:5::2") / hop / data, "forward", 9, (40000, 80))
    row("three IPv6 extension headers before TCP",
        v6("2001:db8:5::2") / hop / dest / IPv6ExtHdrRouting(type=4, segleft=0, addresses=[]) / data,
        "forward", 9, (40000, 80))
    eight = v6("2001:db8:5::2") / hop
    for _ in range(7):
        eight = eight / dest
    row("eight IPv6 extension headers", eight / data, "forward", 9, (40000, 80))
    row("nine IPv6 extension headers to a VIP", eight / dest / data, "extensions")
    nine = v6("2001:db8:66::1") / hop
    for _ in range(8):
        nine = nine / dest
    row("nine IPv6 extension headers to another address pass", nine / data, "no_service")
    row("an atomic IPv6 fragment is whole", v6("2001:db8:5::2") / IPv6ExtHdrFragment(offset=0, m=0, id=5) / data,
        "forward", 9, (40000, 80))
    row("a first IPv6 fragment has ports", v6("2001:db8:5::2") / IPv6ExtHdrFragment(offset=0, m=1, id=5) / data,
        "forward", 9, (40000, 80))
    row("a later IPv6 fragment to a VIP, its first one unknown",
        v6("2001:db8:5::2") / IPv6ExtHdrFragment(offset=10, m=0, id=6, nh=6) / Raw(b"x" * 64), "fragment")
    row("a later IPv6 fragment to a VIP with destination options next, its first one unknown",
        v6("2001:db8:5::2") / IPv6ExtHdrFragment(offset=10, m=0, id=6, nh=60) / Raw(b"x" * 64), "fragment")
    row("a later IPv6 fragment of ICMP passes",
        v6("2001:db8:5::2") / IPv6ExtHdrFragment(offset=10, m=0, id=6, nh=58) / Raw(b"x" * 64), "protocol")
    row("a later IPv6 fragment to another address passes",
        v6("2001:db8:66::1") / IPv6ExtHdrFragment(offset=10, m=0, id=5, nh=6) / Raw(b"x" * 64), "no_service")
    row("a first IPv4 fragment has ports", v4("198.51.100.3", flags="MF", id=3) / UDP(
        sport=5353, dport=53, len=2008) / Raw(b"x" * 64), "forward", 2)
    row("a later IPv4 fragment to a VIP, its first one unknown",
        v4("198.51.100.3", frag=9, id=4, proto=17) / Raw(b"x" * 64), "fragment")
    row("a first fragment without its whole TCP header", v4("198.51.100.20", flags="MF", id=40, proto=6) / Raw(
        bytes(TCP(sport=40000, dport=80, flags="S"))[:16]), "tcp_malformed")
    row("and nothing may follow that", v4("198.51.100.20", frag=2, id=40, proto=6) / Raw(b"x" * 64), "fragment")
    for number, name in {0: "ipip", 2: "gue", 3: "gue, IPv4 in IPv6, out with a VLAN tag", 6: "l2",
                         15: "three backends", 16: "three backends, one of them down", 23: "a spread source",
                         24: "affinity client", 34: "gue, affinity client"}.items():
        service = SERVICES[number]
        port, ip = service.ports[0], dict(id=0x1200 + number, proto=PROTOCOLS[service.protocol])
        l4 = (UDP(sport=40001, dport=port, len=2008) if service.protocol == "udp" else
              TCP(sport=40001, dport=port, flags="A")) / Raw(b"1" * 44)
        row("a first IPv4 fragment by %s" % name, v4(service.address, flags="MF", **ip) / l4, "forward", number)
        for offset, flags in (8, "MF"), (16, "MF"), (24, 0):
            row("its fragment at %d" % (8 * offset), v4(service.address, flags=flags, frag=offset, tos=0xB9, **ip) / Raw(
                b"2" * 64), "forward", number, (40001, port), is_later=True)
        ip["id"] += 0x100
        row("but not one of another datagram", v4(service.address, frag=8, **ip) / Raw(b"2" * 64), "fragment")
    for number, name in {8: "ipip, IPv6 in IPv4", 9: "ipip", 10: "gue", 13: "gre", 14: "l2", 25: "a spread source"}.items():
        service = SERVICES[number]
        port, next_header = service.ports[0], PROTOCOLS[service.protocol]
        l4 = (UDP(sport=40001, dport=port, len=2008) if service.protocol == "udp" else
              TCP(sport=40001, dport=port, flags="A")) / Raw(b"1" * 44)
        head = lambda **fields: v6(service.address) / IPv6ExtHdrFragment(id=0x12345600 + number, **fields)
        row("a first IPv6 fragment by %s" % name, head(m=1) / l4, "forward", number, (40001, port))
        row("its next one", head(offset=8, m=1, nh=next_header) / Raw(b"2" * 64), "forward", number, (40001, port),
            is_later=True)
        row("its last one, whose next header says something else (RFC 8200, 4.5)",
            head(offset=16, nh=60) / Raw(b"2" * 61), "forward", number, (40001, port), is_later=True)
        row("but not one of another datagram", v6(service.address) / IPv6ExtHdrFragment(
            id=0x12345700 + number, offset=8, nh=next_header) / Raw(b"2" * 64), "fragment")
    row("a later IPv4 fragment to another address passes",
        v4("203.0.113.3", frag=9, id=3, proto=17) / Raw(b"x" * 64), "no_service")
    row("a later IPv4 fragment of ICMP passes", v4("198.51.100.3", frag=9, id=3, proto=1) / Raw(b"x" * 64), "protocol")

    row("the largest packet that fits", v4("198.51.100.25") / TCP(sport=1, dport=80, flags="A") / Raw(
        b"x" * (576 - 20 - 40)), "forward", 22)

    row("ARP passes", Ether(src=ROUTER, dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="198.51.100.1"), "not_ip")
    row("SSH to a VIP passes", v4("198.51.100.1") / TCP(sport=40000, dport=22, flags="S"), "no_service")
    row("UDP at a TCP service's port passes", v4("198.51.100.1") / UDP(sport=40000, dport=80), "no_service")
    row("another address passes", v4("203.0.113.9") / syn, "no_service")
    row("another IPv6 address passes", v6("2001:db8:66::1") / syn, "no_service")

    raw = lambda packet, **at: bytes(bytearray(b if i not in at["at"] else at["at"][i]
                                               for i, b in enumerate(bytes(packet))))
    whole = v4("198.51.100.1") / data
    row("IPv4 with version 5", raw(whole, at={14: 0x55}), "ip_malformed")
    row("IPv4 with a header of 16 bytes", raw(whole, at={14: 0x44}), "ip_malformed")
    row("IPv4 with a total length below its header", raw(whole, at={16: 0, 17: 19}), "ip_malformed")
    row("IPv4 with a total length beyond the frame", raw(whole, at={16: 5, 17: 0}), "truncated")
    row("IPv4 with options beyond the total length", raw(v4("198.51.100.1", len=20) / syn, at={14: 0x4F}),
        "ip_malformed")
    row("a fragment that ends with the longest datagram", v4("198.51.100.3", frag=8181, id=41, proto=17) / Raw(
        b"x" * 67), "fragment")
    row("a fragment that ends one byte beyond it", v4("198.51.100.3", frag=8181, id=41, proto=17) / Raw(
        b"x" * 68), "ip_malformed")
    row("IPv6 with version 4", raw(v6("2001:db8:5::1") / syn, at={14: 0x40}), "ip_malformed")
    row("IPv6 with a payload beyond the frame", raw(v6("2001:db8:5::1") / syn, at={18: 9}), "truncated")
    row("TCP to a VIP with a header of 16 bytes", raw(whole, at={46: 0x40}), "tcp_malformed")
    row("TCP to a VIP with a header beyond the packet", raw(v4("198.51.100.1") / syn, at={46: 0xF0}), "tcp_malformed")
    row("malformed TCP to another address passes", raw(v4("203.0.113.9") / syn, at={46: 0xF0}), "no_service")
    row("TCP to a VIP, cut inside its header by the total length, with padding behind",
        Ether(bytes(v4("198.51.100.1", len=30) / syn)), "tcp_malformed")
    row("UDP to a VIP with length 7", v4("198.51.100.3") / UDP(sport=1, dport=53, len=7) / Raw(b"q"), "udp_malformed")
    row("UDP to a VIP with length beyond the packet", v4("198.51.100.3") / UDP(sport=1, dport=53, len=99) / Raw(b"q"),
        "udp_malformed")
    row("malformed UDP to another address passes", v4("203.0.113.3") / UDP(sport=1, dport=53, len=7) / Raw(b"q"),
        "no_service")
    row("a frame of 13 bytes", bytes(whole)[:13], "truncated")
    row("an empty frame", b"", "truncated")
    row("a frame that ends in its VLAN tag", bytes(Ether(src=ROUTER, dst=BALANCER, type=0x8100))[:14] + b"\0\1",
        "truncated")


def main():
    vectors()
    icmp_errors()
    too_big()
    echoes()
    print("port", BALANCER, 1500)
    for address in ECHOES:
        print("echo", address)
    for number, service in enumerate(SERVICES):
        print("service", number, service.address, service.protocol, *service.ports, service.affinity,
              len(service.backends) if service.lookup else -len(service.backends))
        for slot, b in enumerate(service.backends):
            print("backend", number, slot, b.mode, b.source, b.destination, b.mac, b.vlan, b.mtu, b.spread_bits, b.state)
    for verdict, backend, frame, output, sentence in ROWS:
        print("vector", verdict, backend, frame or "-", output, sentence)


if __name__ == "__main__":
    sys.exit(main())
