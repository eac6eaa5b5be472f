# SPDX-License-Identifier: Apache-2.0
"""Changes of a service's backends under connections that are held open: who stays, and where."""

import collections
import random
import time

import pytest

from sluicelab.client import Traffic

BACKENDS = 5


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab(backends=BACKENDS)
    lab.start_servers()
    lab.open_tunnels()
    configure(lab, {b.name: 100 for b in lab.backends})
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def configure(lab, weights, window="15min", **table):
    """One service with these backends and weights, and no others. table: table_size, affinity."""
    service = lab.service("web", lab.vip(4, 1), 80, forward="ipip", weights=(100,) * BACKENDS,
                          window=window, **table)
    service["backends"] = [{**b, "weight": weights[b["name"]]} for b in service["backends"] if b["name"] in weights]
    return lab.balancer.configure([service])


def hold(lab, connections):
    """Connections that ask every 100 to 300 ms: half of them for ever, a quarter each for seconds and for longer."""
    client = lab.client
    return Traffic(client.run, client.namespace, client._name("hold"), "hold_client.py", {
        "target": lab.vip(4, 1), "port": 80, "connections": connections, "timeout": 5, "sources": client.sources4,
        "pause": [0.1, 0.3], "life": [None, [1, 5], None, [5, 30]]})


class Operator:
    """One change after another, each in force before the next; every backend stays alive, in the file or out of it."""

    def __init__(self, lab, seed, window):
        self.lab, self.random, self.window = lab, random.Random(seed), window
        self.weights = {b.name: 100 for b in lab.backends}
        self.table = {"table_size": 16381, "affinity": "flow"}
        self.drained = set()
        self.made = collections.Counter()
        self.gone = {}  # removed from the file: when
        self.deaths = []  # servers that were killed: (name, from, until it was known, until it was up again)

    def serving(self):
        return [name for name, weight in self.weights.items() if weight and name not in self.drained]

    def possible(self):
        """Who is removed keeps its connections for one window: with a short one, none is."""
        out = [b.name for b in self.lab.backends if b.name not in self.weights]
        spare = self.serving() if len(self.serving()) > 2 else []
        return [(change, name) for change, names in (
            ("add", out), ("remove", [] if self.window == "3s" else spare), ("drain", spare), ("enable", sorted(self.drained)),
            ("flap", spare), ("weight", self.serving()), ("size", ["251", "4093", "16381"]),
            ("affinity", ["flow", "client"])) for name in names]

    def step(self):
        choices = self.possible()
        kind = self.random.choice(sorted({change for change, _ in choices}))
        change, name = self.random.choice([c for c in choices if c[0] == kind])
        self.made[change] += 1
        if change in ("drain", "enable"):
            self.lab.balancer.ctl(change, f"web/{name}")
            (self.drained.add if change == "drain" else self.drained.discard)(name)
        elif change == "flap":
            self.flap(next(b for b in self.lab.backends if b.name == name))
        else:
            if change == "size":
                self.table["table_size"] = int(name)
            elif change == "affinity":
                self.table["affinity"] = name
            elif change == "remove":
                del self.weights[name]
                self.gone[name] = time.time()
            else:
                self.weights[name] = 100 if change == "add" else self.random.choice([50, 100, 200, 400])
            configure(self.lab, self.weights, self.window, **self.table)
            self.lab.balancer.ctl("reload")
        self.lab.balancer.wait_published()


    def flap(self, backend):
        """The server dies, is found dead, lives again and is found living."""
        killed = time.time()
        backend.kill()
        self.lab.balancer.wait_backends({f"web/{backend.name}": "down"})
        known = time.time()
        backend.revive()
        self.lab.balancer.wait_backends({f"web/{backend.name}": "up"})
        self.deaths.append((backend.name, killed, known, time.time()))

    def died_with_its_server(self, request, backend):
        """Whether a request failed because its server was dead, or was given to one not yet known to be dead."""
        return any((backend == name and killed <= request.end <= up) or
                   (backend is None and killed <= request.end and request.start <= known)
                   for name, killed, known, up in self.deaths)


def losses(answers, operator):
    """Connections that broke though their server lived: it, and for how many seconds it had been out of the file, if it
    ever was; and how many ended with their server."""
    served, lost, excused = {}, [], 0
    for request in answers.requests:
        if not request.error:
            served[request.source] = request.backend
            continue
        backend = served.get(request.source)
        if operator.died_with_its_server(request, backend):
            excused += 1
            continue
        since = operator.gone.get(backend)
        lost.append((backend, since and round(request.start - since, 1), request.error))
    return lost, excused


def moved(answers):
    """Connections that more than one server has answered."""
    servers = collections.defaultdict(set)
    for request in answers.requests:
        if not request.error:
            servers[request.source].add(request.backend)
    return {name: sorted(found) for name, found in servers.items() if len(found) > 1}


@pytest.mark.parametrize("window", ["15min", "3s"])
def test_no_connection_breaks(lab, counts, measured, window):
    """While backends are added, drained, weighted, removed, killed and revived, and the service's lookup table gets other sizes and hashes, not one connection to a living backend
    breaks or is answered by another server, and not one short request fails but for those that a dead server got before
    it was known to be dead: as long as buckets are open, and when they close."""
    configure(lab, {b.name: 100 for b in lab.backends}, window)
    lab.balancer.ctl("reload")
    for name, state in lab.balancer.backend_states("web").items():
        if state == "draining":  # since the test before
            lab.balancer.ctl("enable", f"web/{name}")
    lab.balancer.wait_backends()
    changes, pause = counts(14, 200), counts(1.5, 3)
    held, short = hold(lab, counts(100, 500)), lab.client.http_start(lab.vip(4, 1), rate=counts(50, 100))
    operator = Operator(lab, seed=changes, window=window)
    time.sleep(3)
    for _ in range(changes):
        began = time.monotonic()
        operator.step()
        time.sleep(max(0, pause - (time.monotonic() - began)))
    time.sleep(2)
    short, held = short.finish(), held.finish()
    connections = {request.source for request in held.requests}
    strays, (broken, ended) = moved(held), losses(held, operator)
    failed = [r for r in short.failed if not operator.died_with_its_server(r, None)]
    measured(f"window {window}, {changes} changes {dict(operator.made)}: {len(connections)} held connections with {len(held)} requests, "
             f"{len(broken)} broken, {len(strays)} answered by another server, {ended} ended with their server; "
             f"{len(short)} short requests, {len(failed)} failed, {len(short.failed) - len(failed)} at a server not yet known to be dead, slowest {max(r.end - r.start for r in short.requests):.3f} s; "
             f"spread of the held {dict(sorted(held.spread().items()))}")
    assert not broken, f"{len(broken)} of {len(connections)} connections broke: {broken[:20]}"
    assert not strays, f"connections that were answered by more than one server: {dict(list(strays.items())[:10])}"
    assert not failed, f"{len(failed)} of {len(short)} short requests failed: {failed[:10]}"
    assert len(connections) > counts(150, 1000), "hardly a connection began during the changes"
