# SPDX-License-Identifier: Apache-2.0
"""The client's host: real HTTP and UDP clients, and raw frames."""

import collections
import json
import pathlib
import subprocess
import sys

from .balancer import program
from .run import LabError, wait_for

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


class Load:
    """All kinds of a client's traffic at steady rates (load.c), until finish()."""

    def __init__(self, run, namespace, name, arguments):
        self.output = run.directory / f"{name}.json"
        with open(self.output, "wb") as output:
            self.process = run.start(name, [program("tests/lab/lab-load"), *arguments], namespace=namespace,
                                     stdin=subprocess.PIPE, stdout=output)

    def finish(self):
        """End it; returns what became of it: the document that load.c describes."""
        self.process.popen.stdin.close()
        if self.process.popen.wait(30) != 0:
            raise LabError(f"{self.process.name} failed{self.process.quote()}")
        told = json.loads(self.output.read_text())
        self.output.unlink()  # some 10 MB a minute
        return told


class Stream:
    """Numbered datagrams from its creation to finish()."""

    def __init__(self, run, namespace, name, rate, flows):
        self.output = run.directory / f"{name}.json"
        with open(self.output, "wb") as output:
            self.process = run.start(name, [sys.executable, PROGRAMS / "stream_client.py",
                                            json.dumps({"rate": rate, "flows": flows})],
                                     namespace=namespace, stdin=subprocess.PIPE, stdout=output)
        wait_for(f"{name} sends", lambda: "ready" in self.process.text(), 10)

    def finish(self):
        """End it; returns when each datagram was sent."""
        self.process.popen.stdin.close()
        if self.process.popen.wait(30) != 0:
            raise LabError(f"{self.process.name} failed{self.process.quote()}")
        return json.loads(self.output.read_text())["sent"]


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

    def load_start(self, target, held, new, pulse, pause_ms=100):
        """Load until finish(): `held` connections that ask every pause_ms, `new` ones and `pulse` datagrams a second."""
        sources = [a for source in self.sources(target) for a in ("--source", source)]
        return Load(self.run, self.namespace, self._name("load"), [
            "--target", target, *sources, "--held", held, "--pause-ms", pause_ms, "--new", new, "--pulse", pulse])

    def stream_start(self, rate, flows):
        """Numbered datagrams until finish(), over flows of (source, port, target, port). See programs/stream_client.py."""
        return Stream(self.run, self.namespace, self._name("stream"), rate, flows)

    def frames(self):
        """A raw socket on eth0: send() takes whole Ethernet frames."""
        return self.namespace.raw_socket("eth0")

    def mac(self):
        return self.namespace.mac("eth0")
