# SPDX-License-Identifier: Apache-2.0
"""banner.py PORT: greets each TCP connection, on all addresses, as an SSH server would; an ordinary program of the
balancer's kernel."""

import socketserver
import socket
import sys


class Server(socketserver.TCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True


class Greeting(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"SSH-2.0-lab\r\n")


with Server(("::", int(sys.argv[1])), Greeting) as server:
    print("ready", flush=True)
    server.serve_forever()
