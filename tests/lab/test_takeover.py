# SPDX-License-Identifier: Apache-2.0
"""Takeover: whatever becomes of the dataplane, the kernel's path goes on with the same table, and no connection breaks."""

import bisect
import resource
import shutil
import signal
import statistics
import time

import pytest

from sluicelab.balancer import program
from sluicelab.run import wait_for

HANG_AFTER = 0.050  # Balancer.base_settings()
ANSWERED_WITHIN = 0.150  # a datagram that is not is stranded: lost, or left in a ring
LOST_SYN = 0.9  # a connection that took so long sent its SYN twice
HELD, NEW, PULSES = 200, 1000, 1000  # connections; a second
TABLES = 2 * 16381  # buckets of the two services
WEIGHTS = (100, 200, 300)
UNPLANNED = ("kill -9", "core", "hang")
FAULTS = ("kill", "core", "hang", "stop", "upgrade")
STATES = ("steady", "open", "control plane killed")


def configure(lab, weights):
    """Windows that last for as long as the test does: what is open stays open."""
    lab.balancer.configure(
        [lab.service("web", lab.vip(4, 1), 80, forward="ipip", weights=weights, window="1h"),
         lab.service("pulse", lab.vip(4, 1), 5300, protocol="udp", forward="gue", weights=weights, window="1h")])


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    configure(lab, WEIGHTS)
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


@pytest.fixture(scope="module")
def table(report):
    """{(kind, state): [Takeover]}: their distributions are printed together."""
    found = {}
    yield found
    rows = [("fault", "state", "times", "gap in ms: min", "median", "p99", "max", "stranded: median", "max",
             "client held up: max")]
    for (kind, state), seen in sorted(found.items()):
        gaps, stranded = percentiles([t.gap * 1000 for t in seen]), percentiles([len(t.stranded) for t in seen])
        rows.append((kind, state, str(len(seen)), *(f"{gap:.1f}" for gap in gaps), f"{stranded[1]:g}", str(stranded[3]),
                     f"{max(t.late for t in seen) * 1000:.1f}"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    report(f"the longest time without an answer to {PULSES} datagrams a second, and datagrams stranded (lost, or not answered "
           f"within {ANSWERED_WITHIN * 1000:g} ms), of each takeover\n"
           + "\n".join("  ".join(field.rjust(width) for field, width in zip(row, widths)) for row in rows))


def interface(lab):
    return lab.balancer.ctl("paths")["interfaces"][0]


def queue(lab):
    return interface(lab)["queues"][0]


def buckets_open(lab):
    return lab.balancer.ctl("status")["windows"]["buckets_open"]


class Site:
    """The faults, each from a dataplane that takes packets to one that does again. Returns the planned and unplanned
    moments: [(kind, begin, end)]. mortal: the control plane is killed at the same time, and returns when all is over."""

    def __init__(self, lab, mortal):
        self.lab, self.mortal = lab, mortal
        self.other = lab.balancer.directory / "another-version"
        if not self.other.exists():
            shutil.copy(program("dataplane/sluice-dataplane"), self.other)

    def fault(self, how, number):
        """number: of the round; in odd ones the control plane dies first, in even ones right after the dataplane."""
        self.after = self.lab.balancer.controlplane.kill if self.mortal and number % 2 == 0 else None
        if self.mortal and number % 2:
            self.lab.balancer.controlplane.kill()
        moments = getattr(self, how)()
        if self.mortal:
            begin = time.time()
            self.lab.balancer.start_controlplane()
            self.lab.balancer.wait_backends()
            moments.append(("control plane returns", begin, time.time()))
        return moments

    def _start(self, binary=None):
        begin = time.time()
        self.lab.balancer.start_dataplane(binary=binary)
        wait_for("the dataplane has its sockets in", self._receives, 20)
        time.sleep(0.2)
        return "start", begin, time.time()

    def _receives(self):
        plane = self.lab.balancer.dataplane
        plane.check_alive()
        return "receives what the XDP program redirects" in plane.text()[self.read:]

    def _ends(self, kind, end):
        begin = time.time()
        self.read = len(self.lab.balancer.dataplane.text())
        end()
        if self.after:
            self.after()
        time.sleep(0.2)
        return kind, begin, time.time()

    def kill(self):
        return [self._ends("kill -9", self.lab.balancer.dataplane.kill), self._start()]

    def core(self):
        plane = self.lab.balancer.dataplane
        resource.prlimit(plane.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)

        def crash():
            plane.signal(signal.SIGSEGV)
            assert plane.popen.wait(20) == -signal.SIGSEGV
        told = self._ends("core", crash)
        cores = list(self.lab.balancer.directory.glob("core*"))
        assert cores, "no core was written"
        for core in cores:
            core.unlink()
        return [told, self._start()]

    def hang(self):
        def stop():
            self.lab.balancer.dataplane.signal(signal.SIGSTOP)
            if self.after:
                self.after()
            time.sleep(0.25)
            if not self.mortal:
                assert queue(self.lab)["hung"] and queue(self.lab)["path"] == "xdp", queue(self.lab)
            self.lab.balancer.dataplane.signal(signal.SIGCONT)
            time.sleep(0.1)
        told = self._ends("hang", stop)
        if not self.mortal:
            wait_for("the queue is unmarked", lambda: not queue(self.lab)["hung"], 2)
            wait_for("the dataplane has its packets again", lambda: queue(self.lab)["path"] == "dpdk", 2)
        return [told]

    def stop(self):
        return [self._ends("stop", self.lab.balancer.dataplane.stop), self._start()]

    def upgrade(self):
        begin = time.time()
        self.read = len(self.lab.balancer.dataplane.text())
        self.lab.balancer.dataplane.stop()
        if self.after:
            self.after()
        _, _, end = self._start(self.other)
        return [("upgrade", begin, end)]


class Takeover:
    """What the client saw of one moment."""

    def __init__(self, kind, begin, end, pulse):
        sent, took = pulse["sent"], pulse["took"]
        first, last = bisect.bisect_left(sent, begin - 0.02), bisect.bisect_right(sent, end)
        answers = sorted(sent[n] + took[n] for n in range(first, last) if took[n] >= 0)
        self.gap = max((b - a for a, b in zip(answers, answers[1:])), default=end - begin)
        # After what was planned, late is what the machine is; only what never comes was lost.
        self.stranded = [n for n in range(first, last)
                         if took[n] < 0 or (kind in UNPLANNED and took[n] > ANSWERED_WITHIN)]
        self.lost = [n for n in self.stranded if took[n] < 0]
        # One run of numbers: what was redirected before the way was closed; from then on nothing.
        self.in_one_piece = not self.stranded or self.stranded[-1] - self.stranded[0] + 1 == len(self.stranded)
        self.late = max(pulse["late"][first:last], default=0)  # by how much the machine held up the client itself
        self.length = sent[self.stranded[-1]] - sent[self.stranded[0]] if self.stranded else 0


def percentiles(values):
    ordered = sorted(values)
    return ordered[0], statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], ordered[-1]


def judge(kind, seen):
    """The worst of what is wrong with the takeovers of a kind: sentences."""
    wrong = []
    for number, takeover in enumerate(seen, 1):
        told = (f"{kind} {number} of {len(seen)}: {len(takeover.stranded)} datagrams stranded over {takeover.length * 1000:.1f} ms, "
                f"{len(takeover.lost)} of them lost, client held up by {takeover.late * 1000:.1f} ms")
        if kind not in UNPLANNED and takeover.stranded:
            wrong.append(told)
        if not takeover.in_one_piece:
            wrong.append(told + ", not in one piece")
        if takeover.length > HANG_AFTER + 0.005 + takeover.late:
            wrong.append(told + ", for too long")
    return wrong


def explained_path(lab):
    return lab.balancer.ctl("explain", "tcp", "203.0.113.5:40000", f"{lab.vip(4, 1)}:80")["path"]


def test_hang_is_told(lab):
    """While the dataplane stands still, explain answers by the path that forwards, and paths and status say why it is
    that one; when it goes on, nothing of it is left."""
    load = lab.client.load_start(lab.vip(4, 1), 5, 5, 200)
    try:
        wait_for("the dataplane has the packets", lambda: queue(lab)["path"] == "dpdk", 10)
        assert (explained_path(lab), interface(lab)["state"]) == ("dpdk", "polling")
        assert lab.balancer.ctl("status")["hang"] == {"queues": 1, "hung": 0, "all": False, "text": ""}
        lab.balancer.dataplane.signal(signal.SIGSTOP)
        try:
            wait_for("the queue is marked", lambda: queue(lab)["hung"], 5)
            assert explained_path(lab) == "xdp"
            told = interface(lab)
            assert (told["path"], told["state"], told["since"]) == ("xdp", "hung", None), told
            assert told["path_reason"] == "the dataplane hangs on 1 of 1 queues: XDP forwards until it goes on"
            status = lab.balancer.ctl("status")["hang"]
            assert (status["queues"], status["hung"], status["all"]) == (1, 1, True)
            assert f"\nwarning        {status['text']}\n" in lab.balancer.ctl_raw("status", json_output=False).stdout
        finally:
            lab.balancer.dataplane.signal(signal.SIGCONT)
        wait_for("the dataplane has its packets again", lambda: queue(lab)["path"] == "dpdk", 5)
        assert (explained_path(lab), interface(lab)["state"]) == ("dpdk", "polling")
        assert "hangs" not in lab.balancer.ctl_raw("status", json_output=False).stdout
    finally:
        load.finish()


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("state", STATES)
def test_takeover(lab, counts, measured, table, state, how):
    """Killed, crashed with a core, hung, stopped, started or replaced: in steady state, while at least a tenth of the buckets
    are open, and while the control plane is killed as well: no connection breaks or moves; a hang strands at most the
    datagrams of hang_after and 5 ms, a death no more than that, all of them redirected before its socket was closed, and
    what is planned none."""
    site, times = Site(lab, state == "control plane killed"), counts(3, 50)
    load = lab.client.load_start(lab.vip(4, 1), HELD, NEW, PULSES)
    time.sleep(1)
    if state == "steady":
        assert buckets_open(lab) == 0
    elif buckets_open(lab) == 0:  # they stay open from here on
        configure(lab, WEIGHTS[::-1])
        lab.balancer.ctl("reload")
        lab.balancer.wait_published()
    before, begun = queue(lab), time.time()
    moments = [("nothing", begun - 0.5, begun - 0.05)]  # the noise
    for number in range(times):
        moments += site.fault(how, number)
        time.sleep(0.05)  # what the next one strands is not this one's
    took = time.time() - begun
    after, opened = queue(lab), buckets_open(lab)
    told = load.finish()
    held, new, pulse = told["held"], told["new"], told["pulse"]
    kinds = {}
    for kind, begin, end in moments:
        kinds.setdefault(kind, []).append(Takeover(kind, begin, end, pulse))
    for kind, seen in kinds.items():
        table.setdefault((kind, state), []).extend(seen)
    slowest = max((end - start for start, end, *_ in held["slow"] + new["slow"]), default=0.05)
    again = [entry for entry in new["slow"] if entry[1] - entry[0] > LOST_SYN]
    measured(f"{state}, {how} {times} times in {took:.1f} s, {opened} buckets open: {held['requests']} requests on {HELD} held "
             f"connections, {len(held['failed'])} broken or moved; {new['requests']} new connections, {len(new['failed'])} failed; "
             f"{len(pulse['sent'])} datagrams, {pulse['took'].count(-1)} lost, {len(pulse['moved'])} moved; slowest answer "
             f"{slowest:.3f} s, {len(again)} SYNs sent again, {held['retransmitted'] + new['retransmitted']} segments sent again; "
             f"{after['takeovers'] - before['takeovers']} takeovers, {after['hangs'] - before['hangs']} hangs marked")
    assert not held["failed"] and not new["failed"], (held["failed"][:3], new["failed"][:3])
    assert not pulse["moved"], pulse["moved"][:3]
    assert (opened == 0) if state == "steady" else (opened > 0.1 * TABLES), opened
    # A held connection whose packet was lost does not ask again before it has been answered.
    assert len(pulse["sent"]) > 0.95 * PULSES * took and new["requests"] > 0.95 * NEW * took, "the load was not made"
    assert held["requests"] > 0.75 * HELD * 10 * took, "the load was not made"
    if how in ("stop", "upgrade"):
        assert not again, f"SYNs were lost: {again[:3]}"
    wrong = [sentence for kind, seen in kinds.items() for sentence in judge(kind, seen)]
    assert not wrong, "\n".join(wrong)
