# SPDX-License-Identifier: Apache-2.0
"""What a captured frame carries: its outer headers taken off, down to TCP, UDP or ICMP."""

import collections
import ipaddress
import struct

Packet = collections.namedtuple("Packet", "time destination_mac outer protocol source sport destination dport flags")
Packet.__doc__ = """outer: tuple of (kind, source, destination), outermost first; kind ipip, gue or gre.
Addresses as text; flags: of TCP, else 0; sport and dport 0 where the protocol has none."""

SYN, RST, ACK = 0x02, 0x04, 0x10
GUE_PORT = 6080
NAMES = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp6"}


def decode(time, frame):
    """A Packet, or None for a frame without IP (ARP, say) or one cut short."""
    try:
        return _decode(time, frame)
    except (struct.error, IndexError, ValueError):
        return None


def _decode(time, frame):
    mac = frame[:6].hex(":")
    kind, offset = struct.unpack_from("!H", frame, 12)[0], 14
    if kind == 0x8100:
        kind, offset = struct.unpack_from("!H", frame, 16)[0], 18
    if kind not in (0x0800, 0x86DD):
        return None
    outer = []
    data = frame[offset:]
    while True:
        if data[0] >> 4 == 4:
            protocol, size = data[9], (data[0] & 15) * 4
            source, destination = ipaddress.IPv4Address(data[12:16]), ipaddress.IPv4Address(data[16:20])
        else:
            protocol, size = data[6], 40
            source, destination = ipaddress.IPv6Address(data[8:24]), ipaddress.IPv6Address(data[24:40])
        payload = data[size:]
        if protocol in (4, 41):
            wrapper, data = "ipip", payload
        elif protocol == 47:
            wrapper, data = "gre", payload[4:]
        elif protocol == 17 and struct.unpack_from("!H", payload, 2)[0] == GUE_PORT:
            wrapper, data = "gue", payload[8:]
        else:
            sport, dport = struct.unpack_from("!HH", payload) if protocol in (6, 17) else (0, 0)
            flags = payload[13] if protocol == 6 else 0
            return Packet(time, mac, tuple(outer), NAMES.get(protocol, str(protocol)), str(source), sport,
                          str(destination), dport, flags)
        outer.append((wrapper, str(source), str(destination)))
