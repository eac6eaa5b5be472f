# SPDX-License-Identifier: Apache-2.0
"""hold_client.py JSON: connections that are held open and ask again and again, until standard input is closed.
A connection that fails, or has reached its age, is followed by a new one. Prints {"requests": [[start, end, backend,
error, connection], ...]} (seconds since the epoch; a connection is named ADDRESS:PORT#N and is never named again).

{"target": ADDRESS, "port": N, "connections": N, "timeout": SECONDS, "sources": [ADDRESS, ...],
 "pause": [SECONDS, SECONDS] between two requests, "life": [[SECONDS, SECONDS] or null, ...] by turns: null for ever}"""

import asyncio
import itertools
import json
import random
import sys
import time

job = json.loads(sys.argv[1])
serial = itertools.count(1)
requests = []
stopping = asyncio.Event()
head = f"GET / HTTP/1.1\r\nHost: {job['target']}\r\n\r\n".encode()


async def ask(reader, writer):
    """The name of the backend that answers."""
    writer.write(head)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    await reader.readexactly(int(fields["content-length"]))
    return fields["x-backend"]


async def hold(number, life):
    """One connection from its first packet to its end. False: it failed."""
    source = job["sources"][number % len(job["sources"])]
    name, streams = f"{source}#{next(serial)}", None
    end = time.monotonic() + random.uniform(*life) if life else float("inf")
    while True:
        start, backend, failure = time.time(), None, None
        try:
            async with asyncio.timeout(job["timeout"]):
                if not streams:
                    streams = await asyncio.open_connection(job["target"], job["port"], local_addr=(source, 0))
                    name = "{}:{}".format(*streams[1].get_extra_info("sockname")) + name[name.index("#"):]
                backend = await ask(*streams)
        except (OSError, asyncio.IncompleteReadError, ValueError, KeyError, TimeoutError) as error:
            failure = f"{type(error).__name__}: {error}"
        requests.append([start, time.time(), backend, failure, name])
        if failure or stopping.is_set() or time.monotonic() > end:
            if streams:
                streams[1].transport.abort() if failure else streams[1].close()
            return not failure
        try:
            await asyncio.wait_for(stopping.wait(), random.uniform(*job["pause"]))
        except TimeoutError:
            pass


async def keep(number):
    life = job["life"][number % len(job["life"])]
    await asyncio.sleep(random.uniform(0, 1))  # not all at once
    while not stopping.is_set():
        if not await hold(number, life):
            await asyncio.sleep(0.1)


async def wait_for_end():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    stopping.set()


async def main():
    await asyncio.gather(wait_for_end(), *(keep(n) for n in range(job["connections"])))
    json.dump({"requests": requests}, sys.stdout)


asyncio.run(main())
