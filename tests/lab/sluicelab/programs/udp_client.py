# SPDX-License-Identifier: Apache-2.0
"""udp_client.py JSON: sends one datagram from each of `count` source ports and waits for its answer, no retries.
Prints {"requests": [[start, end, backend, error, source], ...]} (seconds since the epoch).

{"target": ADDRESS, "port": N, "count": N, "concurrency": N, "timeout": SECONDS, "sources": [ADDRESS, ...],
 "bytes": N of each datagram, at least}"""

import json
import selectors
import socket
import sys
import time


def main():
    job = json.loads(sys.argv[1])
    family = socket.AF_INET6 if ":" in job["target"] else socket.AF_INET
    selector = selectors.DefaultSelector()
    requests, sent = [], 0
    waiting = {}

    def send(number):
        source = job["sources"][number % len(job["sources"])]
        client = socket.socket(family, socket.SOCK_DGRAM)
        client.bind((source, 0))
        client.connect((job["target"], job["port"]))
        client.setblocking(False)
        payload = b"%d " % number * max(1, job["bytes"] // len(b"%d " % number))
        waiting[client] = (time.time(), payload, "{}:{}".format(*client.getsockname()))
        selector.register(client, selectors.EVENT_READ)
        client.send(payload)

    def finish(client, backend, error):
        start, _, source = waiting.pop(client)
        requests.append([start, time.time(), backend, error, source])
        selector.unregister(client)
        client.close()

    while sent < job["count"] or waiting:
        while sent < job["count"] and len(waiting) < job["concurrency"]:
            send(sent)
            sent += 1
        for key, _ in selector.select(0.05):
            client = key.fileobj
            try:
                backend, _, payload = client.recv(65535).partition(b" ")
            except OSError as error:
                finish(client, None, str(error))
                continue
            good = payload == waiting[client][1]
            finish(client, backend.decode(), None if good else f"answered {payload[:100]!r}")
        now = time.time()
        for client in [c for c, (start, _, _) in waiting.items() if now - start > job["timeout"]]:
            finish(client, None, "no answer")
    json.dump({"requests": requests}, sys.stdout)


main()
