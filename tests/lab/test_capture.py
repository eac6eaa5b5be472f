# SPDX-License-Identifier: Apache-2.0
"""sluicectl capture: packets at their verdict, from either path, into a file that others read."""

import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import time

import pytest
from scapy.all import IP, TCP, PcapNgReader

from sluicelab.balancer import program
from sluicelab.run import command, wait_for

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

    def __init__(self, lab, *arguments, file=None):
        Capture.made += 1
        self.lab, self.file = lab, file or lab.balancer.directory / f"capture-{Capture.made}.pcapng"
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

    def statistics(self):
        """How many packets each interface has had, by the blocks at the file's end."""
        data, found = self.file.read_bytes(), []
        while data:
            kind, size = struct.unpack_from("=II", data)
            if kind == 5:  # its options begin behind the interface's number and the time
                options = data[20:size - 4]
                while options:
                    code, length = struct.unpack_from("=HH", options)
                    if code == 8:
                        found.append(struct.unpack_from("=Q", options, 4)[0])
                    options = options[4 + (length + 3) // 4 * 4:]
            data = data[size:]
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
    assert (told["packets"], told["lost"], told["refused"], told["ended_by"]) == (len(packets), 0, 0, "client")


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
    size = wait_for("the file has begun", lambda: capture.file.stat().st_size, 5)
    refused = lab.run.start("capture-refused", [
        program("tools/sluicectl"), "--runtime-dir", lab.balancer.runtime, "capture", "-w", capture.file])
    assert refused.popen.wait(10) == 1 and "under way" in refused.quote()
    assert capture.file.stat().st_size >= size  # who is refused does not empty it
    capture.stop()
    wait_for("the capture has ended", lambda: is_over(lab), 5)
    audit = [json.loads(line) for line in (lab.balancer.state / "audit.log").read_text().splitlines()]
    mine = [line for line in audit if line["action"] == "capture"][-2:]
    assert [line["outcome"].split()[0] for line in mine] == ["begins", "ended"], mine
    assert mine[0]["uid"] == 0 and mine[0]["subject"].startswith("10000 packets, 20.000 s")


def test_interrupted(lab):
    """Ctrl-C ends a capture like its time does: the file has its statistics, and an array of JSON its end."""
    capture = Capture(lab, "--duration", "60s", "--path", "dpdk")
    lab.client.http(lab.vip(4, 1), 80, 5).all_succeeded(5)
    assert capture.statistics() == []
    packets = capture.stop()
    assert capture.statistics() == [len(packets)] and len(packets) > 15
    with open(lab.balancer.directory / "interrupted.json", "wb") as out:
        process = lab.run.start("interrupted", [program("tools/sluicectl"), "--runtime-dir", lab.balancer.runtime,
                                                "--json", "capture", "--service", "web"], stdout=out)
    wait_for("the capture has begun", lambda: ask(lab)[1]["active"], 5)
    time.sleep(0.3)
    lab.client.http(lab.vip(4, 1), 80, 5).all_succeeded(5)
    time.sleep(0.2)
    process.signal(signal.SIGINT)
    assert process.popen.wait(10) == 0, process.quote()
    assert len(json.loads((lab.balancer.directory / "interrupted.json").read_text())) > 15
    assert ask(lab)[1]["ended_by"] == "client"
    assert ask(lab, "POST", "/v1/capture/end", {})[0] == 404


def test_file_of_before(lab):
    """A capture that is refused leaves the file as it was, and makes none."""
    kept, none = lab.balancer.directory / "kept.pcapng", lab.balancer.directory / "none.pcapng"
    kept.write_text("what somebody needs")
    for file in kept, none:
        done = lab.balancer.ctl_raw("capture", "-w", file, "--service", "nobody", json_output=False)
        assert done.returncode == 1 and "nobody" in done.stderr
        done = lab.balancer.ctl_raw("capture", "-w", file, "--client", "nobody", json_output=False)
        assert done.returncode == 2 and 'client "nobody"' in done.stderr
    assert kept.read_text() == "what somebody needs" and not none.exists()
    lab.balancer.ctl_raw("capture", "-w", kept, "--duration", "1ms", json_output=False)
    assert kept.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"


def test_reader_rests(lab, counts):
    """A reader that does not read for longer than the API waits for others gets what there was room for, and the end."""
    with open(lab.balancer.directory / "rest.pcapng", "wb") as out:
        reader = subprocess.Popen(["sh", "-c", f"sleep {counts(1, 40)}; exec cat"], stdin=subprocess.PIPE, stdout=out)
    process = lab.run.start("rest", [program("tools/sluicectl"), "--runtime-dir", lab.balancer.runtime, "capture",
                                     "-w", "-", "--count", "3000", "--snaplen", "1000"], stdout=reader.stdin)
    reader.stdin.close()
    wait_for("the capture has begun", lambda: ask(lab)[1]["active"], 5)
    time.sleep(0.3)
    lab.client.http(lab.vip(4, 1), 80, 700).all_succeeded(700)
    assert process.popen.wait(60) == 0, process.quote()
    assert reader.wait(10) == 0
    with PcapNgReader(str(lab.balancer.directory / "rest.pcapng")) as packets:
        assert len(list(packets)) == 3000


def test_disk_full(lab):
    """What has room is a whole file, and the command says that it is not all."""
    small = lab.balancer.directory / "small"
    small.mkdir()
    command(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", small])
    capture = Capture(lab, "--duration", "30s", "--path", "dpdk", file=small / "capture.pcapng")
    lab.client.http(lab.vip(4, 1), 80, 40).all_succeeded(40)
    assert capture.process.popen.wait(10) == 1
    assert "No space left on device" in capture.process.text()
    packets = capture.packets()
    assert f"{len(packets)} packets were captured before" in capture.process.text() and len(packets) > 20


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


# ---- the path in the kernel ----


@pytest.fixture(scope="module")
def alone(make_lab):
    """A balancer that has no dataplane at all, with each kind of frame that leaves."""
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    lab.balancer.configure([lab.service("web", lab.vip(4, 1), 80, forward="ipip", weights=WEIGHTS),
                            lab.service("gue", lab.vip(4, 1), 5300, protocol="udp", forward="gue", weights=WEIGHTS),
                            lab.service("near", lab.vip(4, 3), 80, forward="l2", weights=WEIGHTS),
                            lab.service("six", lab.vip(6, 1), 80, forward="gre", weights=WEIGHTS),
                            lab.service("empty", lab.vip(4, 2), 80, forward="ipip", weights=WEIGHTS)],
                           interfaces=[{"name": "eth0", "path": "xdp"}])
    lab.balancer.start_controlplane()
    lab.balancer.wait_backends()
    for backend in lab.backends:
        lab.balancer.ctl("disable", f"empty/{backend.name}")
    lab.balancer.wait_published()
    return lab


@pytest.mark.parametrize("service, family, vip, protocol", [
    ("web", 4, 1, "tcp"), ("gue", 4, 1, "udp"), ("near", 4, 3, "tcp"), ("six", 6, 1, "tcp")])
def test_kernel_forwarded(alone, measured, service, family, vip, protocol):
    """What the kernel's path forwards, of one service, by each tunnel: all of it, to the right backend and bucket."""
    capture = Capture(alone, "--service", service, "--duration", "30s")
    before = {b["name"]: b["packets"] for b in alone.balancer.ctl("backends", service)}
    if protocol == "tcp":
        alone.client.http(alone.vip(family, vip), 80, 20).all_succeeded(20)
    else:
        alone.client.udp(alone.vip(family, vip), 5300, 50).all_succeeded(50)
    packets = capture.stop()
    after = {b["name"]: b["packets"] for b in alone.balancer.ctl("backends", service)}
    measured(f"{len(packets)} packets, of the first: {comment(packets[0])}")
    seen = dict.fromkeys(after, 0)
    for packet in packets:
        assert comment(packet).startswith(f"forward (forwarded to a backend); service {service}; backend ")
        assert "; path xdp, CPU " in comment(packet)
        seen[comment(packet).split("; backend ")[1].split(";")[0]] += 1
    assert seen == {name: after[name] - before[name] for name in after}
    first = packets[0]
    lowest = first.getlayer(TCP) or first.lastlayer()
    if service == "web":
        inner = first[IP].payload[IP]
        told = alone.balancer.ctl("explain", "tcp", f"{inner.src}:{inner[TCP].sport}", f"{inner.dst}:80")
        assert f"; bucket {told['bucket']};" in comment(first), (told, lowest)


def test_kernel_dropped_and_passed(alone, measured):
    """A drop with its reason, and a pass: as they came in."""
    capture = Capture(alone, "--verdict", "drop,pass", "--client", alone.client.sources4[0])
    alone.client.http(alone.vip(4, 2), 80, 3, timeout=0.5, sources=alone.client.sources4[:1])
    alone.client.namespace.run(["ping", "-n", "-c", "3", "-i", "0.2", "-I", alone.client.sources4[0],
                                alone.vip(4, 1)])
    packets = capture.stop()
    measured("; ".join(sorted({comment(p) for p in packets})))
    dropped = [p for p in packets if comment(p).startswith("drop no_backend (dropped: the service has no living backend)")]
    passed = [p for p in packets if comment(p).startswith("pass protocol (passed: neither TCP nor UDP")]
    assert len(dropped) >= 3 and len(passed) == 3 and len(packets) == len(dropped) + len(passed)
    assert all(p[IP].dst == alone.vip(4, 2) and "; service empty; " in comment(p) for p in dropped)
    assert all(p[IP].dst == alone.vip(4, 1) and p[IP].proto == 1 for p in passed)


def test_kernel_controlplane_killed(alone):
    """When the control plane is killed packets go on; the next one takes away what it has left, and captures."""
    capture = Capture(alone, "--duration", "60s")
    alone.balancer.controlplane.kill()
    assert capture.process.popen.wait(10) == 3
    alone.client.http(alone.vip(4, 1), 80, 10).all_succeeded(10)
    pin = str(alone.balancer.runtime / "bpf" / "capture")
    assert json.loads(command(["bpftool", "-j", "map", "dump", "pinned", pin]).stdout)
    alone.balancer.start_controlplane()
    alone.balancer.wait_published()
    assert not json.loads(command(["bpftool", "-j", "map", "dump", "pinned", pin]).stdout)
    capture = Capture(alone, "--count", "5")
    alone.client.http(alone.vip(4, 1), 80, 10).all_succeeded(10)
    assert len(capture.finish()) == 5


def test_takeover(lab, measured):
    """One capture over a dataplane's death and return: both paths are in it, in the order of time, nothing twice."""
    capture = Capture(lab, "--service", "web", "--duration", "60s", "--count", "100000")
    before = sum(b["packets"] for b in lab.balancer.ctl("backends", "web"))
    lab.client.http(lab.vip(4, 1), 80, 20).all_succeeded(20)
    time.sleep(0.2)
    lab.balancer.dataplane.kill()
    lab.client.http(lab.vip(4, 1), 80, 20).all_succeeded(20)
    read = len(lab.balancer.dataplane.text())  # the next one's log goes on behind it
    lab.balancer.start_dataplane()
    for what in ("receives what", "capture: begins"):
        wait_for(f"the dataplane says \"{what}\"", lambda: what in lab.balancer.dataplane.text()[read:], 20)
    lab.balancer.wait_published()
    lab.client.http(lab.vip(4, 1), 80, 20).all_succeeded(20)
    packets = capture.stop()
    paths = [comment(p).split("; path ")[1].split()[0].strip(",") for p in packets]
    turns = [path for i, path in enumerate(paths) if i == 0 or path != paths[i - 1]]
    after = sum(b["packets"] for b in lab.balancer.ctl("backends", "web"))
    measured(f"{len(packets)} packets of {after - before}, paths in turn: {turns}")
    assert turns == ["dpdk", "xdp", "dpdk"]
    assert len(packets) == after - before
    assert capture.interfaces() == ["eth0, path dpdk", "eth0, path xdp"]
    times = [packet.time for packet in packets]
    assert times == sorted(times)


def test_for_people(lab):
    """Without -w a line a packet, with --json an array."""
    def ask_for(*options):
        capture = lab.run.start("people", [program("tools/sluicectl"), "--runtime-dir", lab.balancer.runtime,
                                           *options], stdout=open(lab.balancer.directory / "people.out", "wb"))
        wait_for("the capture has begun", lambda: ask(lab)[1]["active"], 5)
        time.sleep(0.3)
        lab.client.http(lab.vip(4, 1), 80, 5).all_succeeded(5)
        assert capture.popen.wait(10) == 0, capture.quote()
        return (lab.balancer.directory / "people.out").read_text()
    lines = ask_for("capture", "--service", "web", "--count", "6").splitlines()
    pattern = re.compile(r"\d\d:\d\d:\d\d\.\d{6} dpdk forward web/b\d tcp 203\.0\.113\.\d+:\d+ > 198\.51\.100\.1:80 "
                         r"\[[SFRPA]+\] length \d+ out eth0")
    assert len(lines) == 6 and all(pattern.fullmatch(line) for line in lines), lines
    objects = json.loads(ask_for("--json", "capture", "--service", "web", "--count", "6"))
    assert len(objects) == 6 and {o["verdict"] for o in objects} == {"forward"}
    assert all(o["service"] == "web" and o["dst"] == "198.51.100.1:80" and o["bucket"] is not None for o in objects)
