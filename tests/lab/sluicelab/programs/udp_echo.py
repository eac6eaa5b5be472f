# SPDX-License-Identifier: Apache-2.0
"""udp_echo.py NAME PORT[,PORT...] ADDRESS...: answers each datagram with "NAME PAYLOAD", from the address and
port that it was sent to (one socket for each, so that a VIP answers as the VIP)."""

import selectors
import socket
import sys


def main():
    name = sys.argv[1].encode()
    selector = selectors.DefaultSelector()
    for address in sys.argv[3:]:
        for port in sys.argv[2].split(","):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            server = socket.socket(family, socket.SOCK_DGRAM)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            server.bind((address, int(port)))
            server.setblocking(False)
            selector.register(server, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            try:
                while True:
                    payload, client = key.fileobj.recvfrom(65535)
                    key.fileobj.sendto(name + b" " + payload, client)
            except BlockingIOError:
                pass
            except OSError as error:  # the client is gone, or unreachable: its own affair
                print(f"answer not sent: {error}", file=sys.stderr, flush=True)


main()
