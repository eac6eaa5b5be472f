# SPDX-License-Identifier: Apache-2.0
"""A balancer: its configuration, its two daemons and its operator."""

import json
import os
import pathlib
import socket

from .config import libconfig
from .run import LabError, command, wait_for

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


def build_directory():
    """Where the programs stand: SLUICE_BUILD, or build/ of the repository."""
    return pathlib.Path(os.environ.get("SLUICE_BUILD", REPOSITORY / "build"))


def program(path):
    found = build_directory() / path
    if not found.exists():
        raise LabError(f"{found} is not built: run tools/setup, or name the build directory in SLUICE_BUILD")
    return found


class Balancer:
    """Directories: runtime/ (sockets, bpffs at runtime/bpf) and state/ below the run's directory."""

    def __init__(self, run, namespace, number):
        self.run, self.namespace, self.number = run, namespace, number
        self.name = f"lb{number}"
        self.address4, self.address6 = f"10.77.0.{10 + number}", f"fd77::{10 + number}"
        self.directory = run.directory / self.name
        self.runtime, self.state = self.directory / "runtime", self.directory / "state"
        self.config = self.directory / "sluice.conf"
        self.state.mkdir(parents=True)
        run.mount_bpf(self.runtime / "bpf")
        self.controlplane = self.dataplane = None
        self.settings = {}

    # ---- configuration ----

    def share_key(self):
        """The key that all balancers of a lab can have, so that they decide alike. Before the first start."""
        key = self.directory / "hash.key"
        key.write_text("000102030405060708090a0b0c0d0e0f\n")
        key.chmod(0o600)

    def base_settings(self, hugepages=False, idle="sleep"):
        return {
            "node": {"name": self.name},
            "hash_key_file": str(self.directory / "hash.key"),
            "interfaces": [{"name": "eth0", "hang_after": "50ms"}],  # more workers than cores
            "dataplane": {"cores": [(self.number - 1) % (os.cpu_count() or 1)], "idle": idle, "hugepages": hugepages},
        }

    def configure(self, services, file=None, **settings):
        """Write the configuration: the services, a static VIP on lo for each of their addresses, and more settings
        to add or replace. Returns the file; without `file` it is the one that the control plane was started with."""
        addresses = sorted({service["address"] for service in services})
        self.settings = {**self.base_settings(), "services": services,
                         "vips": [{"address": a, "mode": "static", "interface": "lo"} for a in addresses], **settings}
        path = pathlib.Path(file) if file else self.config
        path.write_text(libconfig(self.settings))
        return path

    # ---- daemons ----

    def start(self, timeout=30):
        """Control plane, then dataplane; returns when the first table is in force."""
        self.start_controlplane()
        self.start_dataplane()
        self.wait_published(timeout)
        return self

    def start_controlplane(self):
        self.controlplane = self.run.start(
            f"{self.name}-controlplane",
            [program("controlplane/sluice-controlplane"), "--config", self.config,
             "--runtime-dir", self.runtime, "--state-dir", self.state],
            namespace=self.namespace)
        wait_for(f"the control plane of {self.name} answers", self._api_answers, 15)

    def _api_answers(self):
        self.controlplane.check_alive()
        return self.ctl_raw("status").returncode == 0

    def start_dataplane(self, *eal, binary=None):
        """binary: another than that of the build directory."""
        self.dataplane = self.run.start(
            f"{self.name}-dataplane",
            ["env", "-C", self.directory,  # where a core goes
             binary or program("dataplane/sluice-dataplane"), "--config", self.config, "--runtime-dir", self.runtime,
             *(["--", *eal] if eal else [])],
            namespace=self.namespace, environment={"RUNTIME_DIRECTORY": str(self.runtime)})  # for DPDK's own files

    def wait_published(self, timeout=20):
        """The dataplane is connected and has acknowledged the newest generation. Where none was started: the kernel's
        path has."""
        def published():
            status = self.ctl("status")
            if not self.dataplane:
                return status["generation"] and status["kernel"] and status["kernel"]["state"] == "current"
            self.dataplane.check_alive()
            planes = [d for d in status["dataplanes"] if d["connected"]]
            return planes and all(d["generation"] == status["generation"] for d in planes)
        wait_for(f"{self.name} has published its table", published, timeout)

    def wait_backends(self, wanted=None, timeout=20):
        """Every backend is up, or as `wanted` says: {"SERVICE/BACKEND": state}. Returns the backends, and the
        newest table is then in force."""
        def reached():
            backends = self.ctl("backends")
            states = {f"{b['service']}/{b['name']}": b["state"] for b in backends}
            expected = wanted or {name: "up" for name in states}
            wrong = {n: states.get(n) for n, s in expected.items() if states.get(n) != s}
            if wrong:
                raise LabError(f"still {wrong}, " + "; ".join(
                    f"{b['service']}/{b['name']}: {b['reason']}" for b in backends
                    if f"{b['service']}/{b['name']}" in wrong))
            return backends
        found = wait_for(f"backends of {self.name} as expected", reached, timeout)
        self.wait_published()
        return found

    # ---- operator ----

    def ctl_raw(self, *arguments, json_output=True, stdin=None, timeout=30):
        """sluicectl, completed; never fails by itself."""
        argv = [str(program("tools/sluicectl")), "--runtime-dir", str(self.runtime)]
        argv += (["--json"] if json_output else []) + [str(a) for a in arguments]
        return command(argv, timeout, False, stdin)

    def ctl(self, *arguments, stdin=None, timeout=30):
        """sluicectl --json: its document. LabError with its message when it fails."""
        done = self.ctl_raw(*arguments, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise LabError(f"sluicectl {' '.join(map(str, arguments))}: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def post(self, path, body=None, timeout=30):
        """What sluicectl would ask of the API, without a program to start. Returns its document; LabError with its message."""
        text = json.dumps(body) if body else ""
        with socket.socket(socket.AF_UNIX) as api:
            api.settimeout(timeout)
            api.connect(str(self.runtime / "api.sock"))
            api.sendall(f"POST {path} HTTP/1.1\r\nHost: sluice\r\nContent-Type: application/json\r\n"
                        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
            answer = b""
            while part := api.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in head.splitlines()[0]:
            raise LabError(f"POST {path}: {answer.decode(errors='replace')}")
        return json.loads(body)

    def backend_states(self, service):
        return {b["name"]: b["state"] for b in self.ctl("backends", service)}

    def explain(self, flows):
        """[(protocol, source, sport, destination, dport)] -> the list of explanations, by one batch."""
        lines = "".join(f"{p} {endpoint(s, sp)} {endpoint(d, dp)}\n" for p, s, sp, d, dp in flows)
        return self.ctl("explain", "--batch", "-", stdin=lines, timeout=60)


def endpoint(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
