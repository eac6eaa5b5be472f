# SPDX-License-Identifier: Apache-2.0
"""pulse_client.py JSON: datagrams at a steady rate, each answered or not, until standard input is closed; then answers are
waited for a little longer. Prints {"requests": [[sent, answered, backend, error, source], ...]} (seconds since the epoch).

{"target": ADDRESS, "port": N, "rate": N a second, "flows": N, "timeout": SECONDS, "sources": [ADDRESS, ...]}"""

import json
import select
import socket
import sys
import time

job = json.loads(sys.argv[1])
family = socket.AF_INET6 if ":" in job["target"] else socket.AF_INET
pulses = []  # by number
flows = []
poll = select.poll()
poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
for number in range(job["flows"]):
    flow = socket.socket(family, socket.SOCK_DGRAM)
    flow.bind((job["sources"][number % len(job["sources"])], 0))
    flow.connect((job["target"], job["port"]))
    flow.setblocking(False)
    flows.append((flow, "{}:{}".format(*flow.getsockname()[:2])))
    poll.register(flow, select.POLLIN)
by_descriptor = {flow.fileno(): flow for flow, _ in flows}

begin, end = time.monotonic(), None
while end is None or time.monotonic() < end:
    while end is None and begin + len(pulses) / job["rate"] <= time.monotonic():
        flow, source = flows[len(pulses) % len(flows)]
        pulses.append([time.time(), None, None, "no answer", source])
        flow.send(b"%d" % (len(pulses) - 1))
    left = end - time.monotonic() if end else begin + len(pulses) / job["rate"] - time.monotonic()
    for descriptor, _ in poll.poll(max(0.0, left) * 1000):
        if descriptor == sys.stdin.fileno():
            end = time.monotonic() + job["timeout"]
            poll.unregister(sys.stdin)
            continue
        try:
            while True:
                backend, _, number = by_descriptor[descriptor].recv(100).partition(b" ")
                pulses[int(number)][1:4] = time.time(), backend.decode(), None
        except BlockingIOError:
            pass

json.dump({"requests": [[sent, answered or sent, *rest] for sent, answered, *rest in pulses]}, sys.stdout)
