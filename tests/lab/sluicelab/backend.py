# SPDX-License-Identifier: Apache-2.0
"""A real server: nginx and a UDP echo that tell their name, on a host that owns every VIP on lo."""

import os
import pathlib
import shutil
import signal
import sys

from .run import LabError, wait_for

PROGRAMS = pathlib.Path(__file__).parent / "programs"

# One process, so that a signal to its pid is a signal to the server: `master_process off`.
NGINX = """daemon off; master_process off; user root;
pid {dir}/nginx.pid; error_log {dir}/nginx-error.log warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; server_tokens off; keepalive_requests 100000; client_max_body_size 64m;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  add_header X-Backend {name} always;
  server {{
    {listen}
    location / {{ return 200 "{name} $remote_addr\\n"; }}
    location = /ready {{ root {dir}/www; try_files /ready =503; }}
    location /files/ {{ alias {dir}/www/; }}
  }}
}}
"""


class Backend:
    def __init__(self, run, namespace, number):
        self.run, self.namespace, self.number = run, namespace, number
        self.name = f"b{number}"
        self.edge4, self.edge6 = f"10.77.0.{100 + number}", f"fd77::{100 + number}"
        self.farm4, self.farm6 = f"10.77.1.{100 + number}", f"fd77:1::{100 + number}"
        self.nginx = self.udp = None
        self.directory = run.directory / self.name
        (self.directory / "www").mkdir(parents=True)

    def address(self, forward, family):
        """Where a service of this forward mode reaches it: on the segment for l2, else in the farm."""
        if forward == "l2":
            return self.edge4 if family == 4 else self.edge6
        return self.farm4 if family == 4 else self.farm6

    def wait_network(self):
        """Both legs carry packets: the gateway answers."""
        for gateway in ("10.77.0.1", "fd77::1", "10.77.1.1", "fd77:1::1"):
            wait_for(f"{self.name} reaches {gateway}",
                     lambda g=gateway: self.namespace.run(["ping", "-c1", "-W1", "-n", g], check=False).returncode == 0,
                     10)

    def mac(self, forward):
        """Of the leg where a service of this forward mode reaches it."""
        return self.namespace.mac("edge0" if forward == "l2" else "farm0")

    def start(self, vips, udp_ports, http_ports):
        self.vips, self.udp_ports, self.http_ports = vips, udp_ports, http_ports
        (self.directory / "www" / "ready").write_text("ready\n")
        (self.directory / "www" / "megabyte").write_bytes(os.urandom(1 << 20))
        listen = " ".join(f"listen {p} backlog=4096; listen [::]:{p} ipv6only=on backlog=4096;" for p in http_ports)
        (self.directory / "nginx.conf").write_text(NGINX.format(dir=self.directory, name=self.name, listen=listen))
        self.start_nginx()
        self.start_udp()

    def start_nginx(self):
        nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if not nginx:
            raise LabError("nginx is not installed: run tools/setup")
        self.nginx = self.run.start(f"{self.name}-nginx", [nginx, "-p", self.directory, "-e", "stderr",
                                                          "-c", self.directory / "nginx.conf"],
                                    namespace=self.namespace)

    def start_udp(self):
        self.udp = self.run.start(
            f"{self.name}-udp",
            [sys.executable, PROGRAMS / "udp_echo.py", self.name, ",".join(map(str, self.udp_ports)), *self.vips],
            namespace=self.namespace)

    def wait_ready(self):
        wait_for(f"nginx of {self.name} listens", self._listens, 10)
        wait_for(f"UDP echo of {self.name} listens", lambda: "ready" in self.udp.text(), 10)

    def _listens(self):
        self.nginx.check_alive()
        text = self.namespace.run(["ss", "-Hltn"]).stdout
        return all(f":{port} " in text for port in self.http_ports)

    # ---- faults ----

    def kill(self):
        """The server dies: its host answers new connections with RST."""
        self.nginx.kill()

    def revive(self):
        self.start_nginx()
        wait_for(f"nginx of {self.name} listens again", self._listens, 10)

    def hang(self):
        """The server no longer answers, but its kernel still accepts connections for it."""
        self.nginx.signal(signal.SIGSTOP)

    def unhang(self):
        self.nginx.signal(signal.SIGCONT)

    def set_ready(self, ready):
        """What /ready answers: 200 or 503."""
        path = self.directory / "www" / "ready"
        path.write_text("ready\n") if ready else path.unlink(missing_ok=True)

