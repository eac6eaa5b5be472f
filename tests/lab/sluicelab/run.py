# SPDX-License-Identifier: Apache-2.0
"""One use of the lab: everything it made on this machine, and how to remove it.

A run owns a directory /run/sluice-lab/ID. In it stand, before each thing is made, the means to
remove it: `owner` (who runs it), `pids` (what was started). Namespaces are called sl-ID-ROLE, and what
the run mounts it mounts below its directory. So a run can be removed by its owner, by atexit, or,
when the owner was killed, by `tests/lab/clean`: all three call remove().
"""

import atexit
import contextlib
import ctypes
import errno
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

RUNS = pathlib.Path("/run/sluice-lab")
NETNS = pathlib.Path("/run/netns")
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns: " + os.strerror(ctypes.get_errno()))


class LabError(Exception):
    """The lab itself failed, or something in it did not happen in time. The message says what."""


class ProcessEnded(LabError):
    """A process is gone that something waits for: no use in waiting longer."""


def wait_for(what, condition, timeout, interval=0.02):
    """Call condition() until it gives something true, and return that. LabError after `timeout` seconds, or at once
    when the condition raises ProcessEnded; any other error of its is told when the time is over."""
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
        except ProcessEnded:
            raise
        except (LabError, OSError, ValueError) as error:
            last = error
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout:g} s" + (f" ({last})" if last else ""))
        time.sleep(interval)


def _start_time(pid):
    """When a process started, in clock ticks since boot: with the pid it names one process for good."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


class Process:
    """One process of the lab: ended by its own pid, its output in files that failures quote."""

    def __init__(self, run, name, argv, namespace=None, stdin=subprocess.DEVNULL, stdout=None, environment=None):
        self.name = name
        self.log = run.directory / f"{name}.log"
        self.argv = [str(a) for a in argv]
        command = (namespace.enter if namespace else []) + self.argv
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout if stdout is not None else log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                preexec_fn=None if run.keep else self._die_with_parent,
                start_new_session=True,
            )
        self.pid = self.popen.pid
        run.remember_process(self.pid, name)

    @staticmethod
    def _die_with_parent():
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def alive(self):
        return self.popen.poll() is None

    def check_alive(self):
        if not self.alive():
            raise ProcessEnded(f"{self.name} has ended with status {self.popen.returncode}{self.quote()}")

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def kill(self):
        """SIGKILL, as a crash would: no clean-up of its own. Returns when the process is gone."""
        self.signal(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self, timeout=10):
        """SIGTERM and wait; returns the exit status. LabError when it had to be killed."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"{self.name} did not stop within {timeout} s of SIGTERM{self.quote()}") from None

    def text(self):
        return self.log.read_text(errors="replace")

    def quote(self, lines=40):
        """The end of its log, for a failure message."""
        tail = self.text().splitlines()[-lines:]
        return f"\n--- {self.name} (pid {self.pid}), end of {self.log} ---\n" + "\n".join(tail)

    def rss_kib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise LabError(f"{self.name} has no VmRSS: it has ended")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Namespace:
    """A network namespace. Entered by nsenter --net, not `ip netns exec`: the latter makes a mount namespace
    of its own, in which pins in bpffs would be lost when the command ends."""

    def __init__(self, run, role):
        self.role = role
        self.name = f"sl-{run.id}-{role}"
        self.path = NETNS / self.name
        self.enter = ["nsenter", f"--net={self.path}", "--"]
        command(["ip", "netns", "add", self.name])

    def run(self, argv, timeout=20, check=True, stdin=None):
        """Run a command inside and return it completed, output as text. LabError when it fails (check)."""
        return command(self.enter + [str(a) for a in argv], timeout, check, stdin)

    def ip(self, script):
        """Lines for `ip -batch`; empty ones are left out."""
        lines = [line.strip() for line in script.splitlines() if line.strip()]
        command(["ip", "-n", self.name, "-batch", "-"], stdin="\n".join(lines) + "\n")

    @contextlib.contextmanager
    def entered(self):
        """This thread is inside for the length of a `with`: sockets made there belong to the namespace for good."""
        with open("/proc/self/ns/net", "rb") as home, open(self.path, "rb") as inside:
            _setns(inside.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def raw_socket(self, interface):
        """A packet socket on an interface inside: send() takes whole Ethernet frames."""
        with self.entered():
            raw = FrameSocket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        raw.bind((interface, 0))
        return raw

    def mac(self, interface):
        shown = json.loads(self.run(["ip", "-j", "link", "show", "dev", interface]).stdout)
        return shown[0]["address"]

    def sysctl(self, **settings):
        """sysctl(net__ipv4__ip_forward=1): dots are written as double underscores."""
        pairs = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
        self.run(["sysctl", "-q", "-w", *pairs])


class FrameSocket(socket.socket):
    """A packet socket that waits for room where the peer's ring is full: the veths of newer kernels say so (ENOBUFS)."""

    def send(self, frame, *flags):
        until = time.monotonic() + 2
        while True:
            try:
                return super().send(frame, *flags)
            except OSError as error:
                if error.errno != errno.ENOBUFS or time.monotonic() > until:
                    raise
            time.sleep(0.001)


def command(argv, timeout=20, check=True, stdin=None):
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout,
                              stdin=None if stdin is not None else subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise LabError(f"{error.filename} is not installed: run tools/setup") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout} s") from None
    if check and done.returncode != 0:
        text = (done.stderr + done.stdout).strip()
        raise LabError(f"`{' '.join(argv)}` failed with {done.returncode}: {text}"
                       + (f"\ninput was:\n{stdin}" if stdin else ""))
    return done


class Run:
    """With keep, processes outlive this program and only remove() (tests/lab/clean --kept) ends the run."""

    def __init__(self, keep=False):
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces: run it as root (sudo)")
        self.keep = keep
        self.id = f"{os.getpid()}-{secrets.token_hex(2)}"
        self.directory = RUNS / self.id
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o755)
        owner = "kept" if keep else f"{os.getpid()} {_start_time(os.getpid())}"
        (self.directory / "owner").write_text(owner + "\n")
        self.processes = []
        self.removed = False
        if not keep:
            atexit.register(self.remove)

    def namespace(self, role):
        return Namespace(self, role)

    def start(self, name, argv, **options):
        process = Process(self, name, argv, **options)
        self.processes.append(process)
        return process

    def mount_bpf(self, directory):
        """A bpffs, mounted from outside of any namespace so that pins outlive every process of the lab."""
        directory.mkdir(parents=True)
        command(["mount", "-t", "bpf", "bpf", directory])
        return directory

    def mount_hugetlbfs(self):
        """DPDK looks for a mounted hugetlbfs; make one of our own when the machine has none."""
        with open("/proc/mounts", encoding="utf-8") as file:
            if any(line.split()[2] == "hugetlbfs" for line in file):
                return
        directory = self.directory / "hugetlbfs"
        directory.mkdir()
        command(["mount", "-t", "hugetlbfs", "hugetlbfs", directory])

    def remember_process(self, pid, name):
        with open(self.directory / "pids", "a", encoding="ascii") as file:
            file.write(f"{pid} {_start_time(pid)} {name}\n")

    def logs(self, lines=30):
        """The end of every log of this run, for the report of a failure."""
        parts = []
        for log in sorted(self.directory.rglob("*.log")):
            text = log.read_text(errors="replace").splitlines()
            if text:
                parts.append(f"--- {log.relative_to(self.directory)} ---\n" + "\n".join(text[-lines:]))
        return "\n".join(parts)

    def remove(self):
        """End and remove everything this run made. Returns what resisted (a list of sentences), normally []."""
        if self.removed:
            return []
        self.removed = True
        atexit.unregister(self.remove)
        keep_logs = os.environ.get("SLUICE_LAB_LOGS")
        if keep_logs:
            for log in self.directory.rglob("*.log"):
                target = pathlib.Path(keep_logs) / self.id / log.relative_to(self.directory)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(log, target)
        for process in reversed(self.processes):
            process.signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.popen.wait(3)
            except subprocess.TimeoutExpired:
                process.signal(signal.SIGKILL)
                process.popen.wait(10)
        return remove(self.directory)


def remove(directory):
    """Remove a run by what its directory and name tell. Returns what resisted, as a list of sentences."""
    run_id = directory.name
    victims = []
    pids = directory / "pids"
    if pids.exists():
        for line in pids.read_text().splitlines():
            pid, start, name = line.split(" ", 2)
            if str(_start_time(int(pid))) == start:
                victims.append((int(pid), int(start), name))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid, start, _ in victims:
            if _start_time(pid) == start:
                os.kill(pid, number)
        deadline = time.monotonic() + 3
        while any(_start_time(pid) == start for pid, start, _ in victims) and time.monotonic() < deadline:
            time.sleep(0.02)
    for mount in reversed(_mounts_below(directory)):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    for namespace in _namespaces(run_id):
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)
    left = [f"process {pid} ({name}) still runs" for pid, start, name in victims if _start_time(pid) == start]
    left += [f"{mount} is still mounted" for mount in _mounts_below(directory)]
    left += [f"namespace {name} is still there" for name in _namespaces(run_id)]
    if directory.exists():
        left.append(f"{directory} is still there")
    return left


def abandoned(kept=False):
    """Directories of runs whose owner is dead; with `kept`, of those too that were kept on purpose."""
    found = []
    for directory in sorted(RUNS.glob("*-*")):
        try:
            owner = (directory / "owner").read_text().split()
        except OSError:
            continue  # being made, or being removed
        if owner == ["kept"]:
            if kept:
                found.append(directory)
        elif str(_start_time(int(owner[0]))) != owner[1]:
            found.append(directory)
    return found


def _namespaces(run_id):
    return sorted(p.name for p in NETNS.glob(f"sl-{run_id}-*")) if NETNS.exists() else []


def _mounts_below(directory):
    prefix = f"{directory}/"
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [point for point in (line.split()[4] for line in file) if point.startswith(prefix)]


def exit_on_signals():
    """Make SIGTERM and SIGHUP end this program in order, so that atexit removes the run."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, frame: sys.exit(128 + n))
