# SPDX-License-Identifier: Apache-2.0
"""sluicectl capture: packets at their verdict, from either path, into a file that others read."""

import http.client
import json
import signal
import socket
import struct
import time

import pytest
from scapy.all import IP, TCP, PcapNgReader

from sluicelab.balancer import program
from sluicelab.run import wait_for

WEIGHTS = (100, 200, 300)


def configure(lab, **settings):
    lab.balancer.configure([lab.service("web", lab.vip(4, 1), 80, forward="ipip", weights=WEIGHTS),
                            lab.service("empty", lab.vip(4, 2), 80, forward="ipip", weights=WEIGHTS)], **settings)


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    configure(lab)
    lab.balancer.start()
    lab.balancer.wait_backends()
    for backend in lab.backends:
        lab.balancer.ctl("disable", f"empty/{backend.name}")
    return lab


def ask(lab, method="GET", path="/v1/capture", body=None):
    """One request to the API: (status, document)."""
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(lab.balancer.runtime / "api.sock"))
    connection.request(method, path, json.dumps(body) if body is not None else None)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


class Capture:
    """sluicectl capture in the background, from when it has begun."""
    made = 0

    def __init__(self, lab, *arguments):
        Capture.made += 1
        self.lab, self.file = lab, lab.balancer.directory / f"capture-{Capture.made}.pcapng"
        before = ask(lab)[1]["number"]
        self.process = lab.run.start(f"capture-{Capture.made}", [
            program("tools/sluicectl"), "--runtime-dir", lab.balancer.runtime, "capture", "-w", self.file, *arguments])
        wait_for("the capture has begun", lambda: ask(lab)[1]["number"] > before, 5)
        time.sleep(0.3)  # who forwards has its memory

    def finish(self, timeout=15):
        """Wait for its end; returns the packets."""
        assert self.process.popen.wait(timeout) == 0, self.process.quote()
        return self.packets()

    def stop(self):
        time.sleep(0.2)
        self.process.signal(signal.SIGINT)
        return self.finish()

    def interfaces(self):
        """Their descriptions (scapy 2.5 does not tell)."""
        data, found = self.file.read_bytes(), []
        while data:
            kind, size = struct.unpack_from("=II", data)
            assert size % 4 == 0 and data[size - 4:size] == data[4:8]
            body, data = data[8:size - 4], data[size:]
            options = body[8:] if kind == 1 else b""
            while options:
                code, length = struct.unpack_from("=HH", options)
                if code == 3:
                    found.append(options[4:4 + length].decode())
                options = options[4 + (length + 3) // 4 * 4:]
        return found

    def packets(self):
        with PcapNgReader(str(self.file)) as reader:
            return list(reader)


def comment(packet):
    return (packet.comment or b"").decode()


def is_over(lab):
    return not ask(lab)[1]["active"]


def test_forwarded(lab, measured):
    """Every packet of some requests is in the file, with its outer header, and says who got it and why."""
    capture = Capture(lab, "--service", "web", "--path", "dpdk", "--duration", "20s")
    before = {b["name"]: b["packets"] for b in lab.balancer.ctl("backends", "web")}
    lab.client.http(lab.vip(4, 1), 80, 20).all_succeeded(20)
    packets = capture.stop()
    after = {b["name"]: b["packets"] for b in lab.balancer.ctl("backends", "web")}
    measured(f"{len(packets)} packets, of the first: {comment(packets[0])}")
    assert capture.interfaces() == ["eth0, path dpdk"]
    assert len(packets) == sum(after.values()) - sum(before.values()) > 60
    seen = dict.fromkeys(after, 0)
    addresses = {b["name"]: b["address"] for b in lab.balancer.ctl("backends", "web")}
    for packet in packets:
        assert comment(packet).startswith("forward (forwarded to a backend); service web; backend ")
        assert "; bucket " in comment(packet) and "; path dpdk, worker 0 of " in comment(packet)
        backend = comment(packet).split("; backend ")[1].split(";")[0]
        seen[backend] += 1
        outer, inner = packet[IP], packet[IP].payload
        assert outer.dst == addresses[backend] and outer.proto == 4
        assert inner[IP].dst == lab.vip(4, 1) and inner[TCP].dport == 80
        assert abs(float(packet.time) - time.time()) < 60
    assert seen == {name: after[name] - before[name] for name in after}
    times = [packet.time for packet in packets]
    assert times == sorted(times)
    wait_for("the capture has ended", lambda: is_over(lab), 5)
    told = ask(lab)[1]
    assert (told["packets"], told["lost"], told["refused"], told["ended_by"]) == (len(packets), 0, 0, "reader")


def test_dropped(lab, measured):
    """A drop says its reason; forwarded packets beside it are not in the way."""
    capture = Capture(lab, "--verdict", "drop", "--path", "dpdk")
    lab.client.http(lab.vip(4, 1), 80, 10).all_succeeded(10)
    lab.client.http(lab.vip(4, 2), 80, 3, timeout=0.5)
    packets = capture.stop()
    measured(f"{len(packets)} packets, of the first: {comment(packets[0])}")
    assert len(packets) >= 3
    for packet in packets:
        assert comment(packet).startswith("drop no_backend (dropped: the service has no living backend); "
                                          "service empty; path dpdk")
        assert packet[IP].dst == lab.vip(4, 2) and packet[TCP].dport == 80


def test_bounds(lab):
    """--count, --snaplen, --client and --sample hold."""
    capture = Capture(lab, "--count", "7", "--snaplen", "60", "--path", "dpdk")
    lab.client.http(lab.vip(4, 1), 80, 10).all_succeeded(10)
    packets = capture.finish()
    assert len(packets) == 7 and max(len(bytes(p)) for p in packets) == 60
    assert ask(lab)[1]["ended_by"] == "count"
    one = lab.client.sources4[3]
    capture = Capture(lab, "--client", one, "--path", "dpdk")
    lab.client.http(lab.vip(4, 1), 80, 40).all_succeeded(40)
    packets = capture.stop()
    assert packets and {p[IP].payload[IP].src for p in packets} == {one}
    capture = Capture(lab, "--sample", "1/10", "--path", "dpdk", "--service", "web")
    before = sum(b["packets"] for b in lab.balancer.ctl("backends", "web"))
    lab.client.http(lab.vip(4, 1), 80, 40).all_succeeded(40)
    packets = capture.stop()
    assert len(packets) == (sum(b["packets"] for b in lab.balancer.ctl("backends", "web")) - before) // 10
    capture = Capture(lab, "--duration", "500ms")
    capture.finish()
    assert ask(lab)[1]["ended_by"] == "duration"


def test_refusals(lab):
    """One at a time, and what cannot be is refused with the remedy."""
    assert ask(lab, "POST", body={"service": "nobody"})[0] == 404
    status, document = ask(lab, "POST", body={"verdict": "dropped"})
    assert status == 400 and document["field"] == "verdict" and "no_backend" in document["remedy"]
    capture = Capture(lab, "--duration", "20s")
    status, document = ask(lab, "POST", body={})
    assert status == 409 and "under way, of uid 0" in document["error"]
    capture.stop()
    wait_for("the capture has ended", lambda: is_over(lab), 5)
    audit = [json.loads(line) for line in (lab.balancer.state / "audit.log").read_text().splitlines()]
    mine = [line for line in audit if line["action"] == "capture"][-2:]
    assert [line["outcome"].split()[0] for line in mine] == ["begins", "ended"], mine
    assert mine[0]["uid"] == 0 and mine[0]["subject"].startswith("10000 packets, 20.000 s")


def test_client_killed(lab):
    """A client that is killed ends its capture, and the file is one nevertheless."""
    capture = Capture(lab, "--duration", "60s", "--path", "dpdk")
    lab.client.http(lab.vip(4, 1), 80, 5).all_succeeded(5)
    time.sleep(0.3)
    capture.process.kill()
    wait_for("the capture has ended", lambda: is_over(lab), 5)
    assert len(capture.packets()) > 15
    wait_for("the dataplane copies no more",
             lambda: lab.balancer.dataplane.text().splitlines()[-1].endswith("capture: ends"), 3)
