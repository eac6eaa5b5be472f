# SPDX-License-Identifier: Apache-2.0
"""tcpdump in a namespace, and its file as Packets."""

import signal
import struct

from .packets import decode
from .run import LabError, wait_for


class Capture:
    """Runs from its creation to stop(); then packets() gives what was seen, in order."""

    def __init__(self, run, namespace, interface, name, expression):
        run.captures = getattr(run, "captures", 0) + 1
        self.file = run.directory / f"{name}-{run.captures}.pcap"
        self.process = run.start(
            f"{name}-{run.captures}",
            ["tcpdump", "-Z", "root", "-i", interface, "-n", "-s", "200", "-B", "16384", "-U", "--immediate-mode",
             "-w", self.file, *([expression] if expression else [])],
            namespace=namespace)
        wait_for(f"tcpdump on {interface}", self._listens, 10)

    def _listens(self):
        self.process.check_alive()
        return "listening on" in self.process.text()

    def stop(self):
        """End it. LabError when packets were lost: a proof from an incomplete capture is none. Returns self."""
        self.process.signal(signal.SIGINT)
        self.process.popen.wait(10)
        for line in self.process.text().splitlines():
            if "dropped by kernel" in line and not line.startswith("0 "):
                raise LabError(f"capture {self.file.name} is incomplete: {line}")
        return self

    def frames(self):
        """(seconds since the epoch, bytes) of every frame; also while the capture runs."""
        data = self.file.read_bytes()
        if len(data) < 24:
            return
        order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
        scale = 1e-9 if data[:4] in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d") else 1e-6
        offset = 24
        while offset + 16 <= len(data):
            seconds, part, size, _ = struct.unpack_from(order + "IIII", data, offset)
            yield seconds + part * scale, data[offset + 16:offset + 16 + size]
            offset += 16 + size

    def packets(self):
        return [p for p in (decode(time, frame) for time, frame in self.frames()) if p]
