# SPDX-License-Identifier: Apache-2.0
"""stream_client.py JSON: numbered datagrams at a steady rate until standard input is closed, by turns over the flows; no
answer is waited for. A datagram holds its number in 8 bytes. Prints {"sent": [seconds since the epoch, ...]}.

{"rate": N a second, "flows": [[SOURCE, PORT, TARGET, PORT], ...]}"""

import json
import select
import socket
import struct
import sys
import time

job = json.loads(sys.argv[1])
flows = []
for source, sport, target, dport in job["flows"]:
    flow = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM)
    flow.bind((source, sport))
    flows.append((flow, (target, dport)))  # not connected: what comes back by ICMP is nobody's error
print("ready", file=sys.stderr, flush=True)
poll = select.poll()
poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
sent = []
begin = time.monotonic()
while not poll.poll(max(0.0, begin + len(sent) / job["rate"] - time.monotonic()) * 1000):
    while begin + len(sent) / job["rate"] <= time.monotonic():
        flow, target = flows[len(sent) % len(flows)]
        sent.append(time.time())
        flow.sendto(struct.pack("!Q", len(sent) - 1), target)
json.dump({"sent": sent}, sys.stdout)
