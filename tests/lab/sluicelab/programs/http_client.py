# SPDX-License-Identifier: Apache-2.0
"""http_client.py JSON: HTTP requests, each over a connection of its own (or `keepalive`: each worker over one
connection for all of its requests); tells which backend answered each. No request is ever repeated.
Ends after `count` requests, or, when count is 0, after its standard input is closed.
Prints {"requests": [[start, end, backend, error, source address and port], ...]} (seconds since the epoch).

{"target": ADDRESS, "port": N, "count": N, "concurrency": N, "timeout": SECONDS, "sources": [ADDRESS, ...],
 "path": "/", "rate": REQUESTS A SECOND or 0, "keepalive": BOOL, "upload": BYTES}"""

import asyncio
import json
import sys
import time


class Job:
    def __init__(self, job):
        self.__dict__.update(job)
        self.requests = []
        self.started = 0
        self.stopping = False
        host = f"[{self.target}]" if ":" in self.target else self.target
        self.body = b"x" * self.upload
        self.head = (f"{'POST' if self.upload else 'GET'} {self.path} HTTP/1.1\r\nHost: {host}\r\n"
                     + (f"Content-Length: {self.upload}\r\n" if self.upload else "")
                     + ("" if self.keepalive else "Connection: close\r\n") + "\r\n").encode()
        self.begin = time.monotonic()

    async def next(self):
        """The number of the request that may start now, or None: no more."""
        if self.stopping or (self.count and self.started >= self.count):
            return None
        number = self.started
        self.started += 1
        if self.rate:
            await asyncio.sleep(max(0.0, self.begin + number / self.rate - time.monotonic()))
        return None if self.stopping else number


async def exchange(job, reader, writer):
    """One request over an open connection; the backend's name, or an exception."""
    writer.write(job.head + job.body)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *fields = head.split("\r\n")
    headers = {n.strip().lower(): v.strip() for n, _, v in (f.partition(":") for f in fields if f)}
    await reader.readexactly(int(headers["content-length"]))
    if status.split()[1] != "200":
        raise ValueError(status)
    return headers["x-backend"]


async def worker(job):
    connection = None
    while (number := await job.next()) is not None:
        source = job.sources[number % len(job.sources)]
        start, backend, failure, name = time.time(), None, None, source
        try:
            async with asyncio.timeout(job.timeout):
                if connection is None:
                    connection = await asyncio.open_connection(job.target, job.port, local_addr=(source, 0))
                name = "%s port %d" % connection[1].get_extra_info("sockname")[:2]
                backend = await exchange(job, *connection)
        except (OSError, asyncio.IncompleteReadError, ValueError, KeyError, TimeoutError) as error:
            failure = f"{type(error).__name__}: {error}"
        job.requests.append([start, time.time(), backend, failure, name])
        if connection and (failure or not job.keepalive):
            connection[1].transport.abort() if failure else connection[1].close()
            connection = None
    if connection:
        connection[1].close()


async def wait_for_end(job):
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    job.stopping = True


async def main():
    job = Job(json.loads(sys.argv[1]))
    end = None if job.count else asyncio.create_task(wait_for_end(job))
    await asyncio.gather(*(worker(job) for _ in range(job.concurrency)))
    if end:
        end.cancel()
    json.dump({"requests": job.requests}, sys.stdout)


asyncio.run(main())
