# SPDX-License-Identifier: Apache-2.0
"""The client's host: real HTTP and UDP clients, and raw frames."""

import collections
import json
import pathlib
import subprocess
import sys

from .run import LabError

PROGRAMS = pathlib.Path(__file__).parent / "programs"

Request = collections.namedtuple("Request", "start end backend error source")


class Answers:
    """What became of a number of requests."""

    def __init__(self, requests):
        self.requests = [Request(*r) for r in requests]

    def __len__(self):
        return len(self.requests)

    @property
    def failed(self):
        return [r for r in self.requests if r.error]

    def spread(self):
        """How many each backend answered."""
        return collections.Counter(r.backend for r in self.requests if not r.error)

    def slower_than(self, seconds):
        """Requests that took so long: above 1 s a SYN was sent again, so a packet was lost."""
        return [r for r in self.requests if not r.error and r.end - r.start > seconds]

    def moved(self):
        """Connections that more than one server has answered: {source: [servers]}."""
        servers = {}
        for request in self.requests:
            if not request.error:
                servers.setdefault(request.source, set()).add(request.backend)
        return {name: sorted(found) for name, found in servers.items() if len(found) > 1}

    def errors(self):
        return dict(collections.Counter(r.error for r in self.failed))

    def all_succeeded(self, count=None):
        """Assert it, with the errors in the message; returns self."""
        assert not self.failed, f"{len(self.failed)} of {len(self)} requests failed: {self.errors()}"
        assert count is None or len(self) == count, f"{len(self)} answers to {count} requests"
        assert self.requests, "no request was made"
        return self


class Traffic:
    """Requests that go on in the background until finish()."""

    def __init__(self, run, namespace, name, program, job):
        self.output = run.directory / f"{name}.json"
        self.limit = job["timeout"]
        with open(self.output, "wb") as output:
            self.process = run.start(name, [sys.executable, PROGRAMS / program, json.dumps(job)],
                                     namespace=namespace, stdin=subprocess.PIPE, stdout=output)

    def finish(self):
        """Let the running requests end; returns the Answers."""
        self.process.popen.stdin.close()
        return self.wait(self.limit + 60)

    def wait(self, timeout):
        try:
            status = self.process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise LabError(f"{self.process.name} did not end within {timeout:g} s") from None
        if status != 0:
            raise LabError(f"{self.process.name} failed with {status}{self.process.quote()}")
        return Answers(json.loads(self.output.read_text())["requests"])


class Client:
    def __init__(self, run, namespace, sources):
        self.run, self.namespace = run, namespace
        self.sources4 = [f"203.0.113.{n}" for n in sources]
        self.sources6 = [f"2001:db8:c::{n}" for n in sources]
        self._number = 0

    def sources(self, target):
        return self.sources6 if ":" in target else self.sources4

    def _name(self, kind):
        self._number += 1
        return f"client-{kind}-{self._number}"

    def http_start(self, target, port=80, count=0, concurrency=16, timeout=5, path="/", rate=0, keepalive=False,
                   upload=0, sources=None):
        """Start requests: `count` of them, or until finish(). See programs/http_client.py."""
        job = {"target": target, "port": port, "count": count, "concurrency": concurrency, "timeout": timeout,
               "sources": sources or self.sources(target), "path": path, "rate": rate, "keepalive": keepalive,
               "upload": upload}
        return Traffic(self.run, self.namespace, self._name("http"), "http_client.py", job)

    def http(self, target, port=80, count=100, **options):
        """Make `count` requests and return their Answers."""
        traffic = self.http_start(target, port, count, **options)
        return traffic.wait(30 + count * 0.01 + count * traffic.limit / options.get("concurrency", 16))

    def udp(self, target, port=5300, count=100, concurrency=32, timeout=2, sources=None, size=0):
        """Send `count` datagrams of `size` bytes, each from a port of its own (Request.source), and wait for answers."""
        job = {"target": target, "port": port, "count": count, "concurrency": concurrency, "timeout": timeout,
               "sources": sources or self.sources(target), "bytes": size}
        traffic = Traffic(self.run, self.namespace, self._name("udp"), "udp_client.py", job)
        return traffic.wait(30 + count * timeout / concurrency)

    def hold_start(self, target, connections, port=80):
        """Hold connections that ask every 100 to 300 ms until finish(). See programs/hold_client.py."""
        return Traffic(self.run, self.namespace, self._name("hold"), "hold_client.py", {
            "target": target, "port": port, "connections": connections, "timeout": 5, "sources": self.sources(target),
            "pause": [0.1, 0.3], "life": [None]})

    def pulse_start(self, target, rate, port=5300, flows=16):
        """Send datagrams at a steady rate until finish(). See programs/pulse_client.py."""
        return Traffic(self.run, self.namespace, self._name("pulse"), "pulse_client.py", {
            "target": target, "port": port, "rate": rate, "flows": flows, "timeout": 1,
            "sources": self.sources(target)})

    def frames(self):
        """A raw socket on eth0: send() takes whole Ethernet frames."""
        return self.namespace.raw_socket("eth0")

    def mac(self):
        return self.namespace.mac("eth0")
