# SPDX-License-Identifier: Apache-2.0
"""The control plane dies, restarts, reloads good files and bad ones, while traffic flows."""

import re
import signal
import time

import pytest

from sluicelab import wait_for

WEIGHTS = (100, 200, 300)


def services(lab, variant):
    """The services under load are the same in both variants; the others differ in backends, weights and health."""
    load = [lab.service(f"web{f}", lab.vip(f, 1), 80, forward="ipip", family=4, weights=WEIGHTS) for f in (4, 6)]
    if variant == "a":
        return load + [lab.service("other", lab.vip(4, 2), 80, forward="gue", family=4, weights=(1, 1, 1)),
                       lab.service("only-a", lab.vip(6, 3), 8080, forward="gre", family=6, weights=(1, 1),
                                   health={"type": "none"})]
    return load + [lab.service("other", lab.vip(4, 2), 80, forward="gue", family=4, weights=(5, 1),
                               health={"type": "tcp", "interval": "500ms", "timeout": "300ms", "rise": 1, "fall": 2}),
                   lab.service("only-b", lab.vip(6, 4), 5300, protocol="udp", forward="l2", family=6, weights=(1, 2),
                               health={"type": "none"})]


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab()
    lab.start_servers()
    lab.open_tunnels()
    lab.balancer.configure(services(lab, "a"))
    lab.balancer.start()
    lab.balancer.wait_backends()
    return lab


def in_force(lab):
    """What runs, without its counters."""
    kept = ("name", "address", "port", "forward", "backends", "up", "digest", "number")
    return (lab.balancer.ctl("status")["generation"],
            [{key: service[key] for key in kept} for service in lab.balancer.ctl("services")])


def under_load(lab, rate=150):
    """New connections and lasting ones, over IPv4 and IPv6."""
    traffic = []
    for family in (4, 6):
        traffic.append(lab.client.http_start(lab.vip(family, 1), rate=rate, concurrency=64))
        traffic.append(lab.client.http_start(lab.vip(family, 1), rate=rate, concurrency=8, keepalive=True))
    time.sleep(0.5)
    return traffic


def no_failure(traffic, measured, what):
    answers = [t.finish() for t in traffic]
    requests = sum(len(a) for a in answers)
    slow = [r for a in answers for r in a.slower_than(0.9)]
    moments = len({int(r.start) for r in slow})  # few for a machine that stood still, as many as requests for lost packets
    failed = sum(len(a.failed) for a in answers)
    measured(f"{what}: {requests} requests, {failed} failed, {len(slow)} took over 0.9 s"
             + (f" (begun in {moments} different seconds)" if slow else ""))
    for answer in answers:
        answer.all_succeeded()


def test_kill_and_restart(lab, counts, measured):
    """kill -9 of the control plane and its restart, again and again: forwarding does not notice, the restarted one
    adopts what runs and every backend is up without a gap."""
    rounds = counts(3, 20)
    traffic = under_load(lab)
    for _ in range(rounds):
        generation = lab.balancer.ctl("status")["generation"]
        lab.balancer.controlplane.kill()
        time.sleep(0.5)
        lab.balancer.start_controlplane()
        lab.balancer.wait_published()
        states = {b["state"] for b in lab.balancer.ctl("backends")}
        assert states == {"up"}, f"just after the restart: {states}"
        assert lab.balancer.ctl("status")["generation"] >= generation
        time.sleep(0.5)
    no_failure(traffic, measured, f"{rounds} times kill -9 and restart")


def test_bad_file_changes_nothing(lab, measured):
    """A reload of a file with three mistakes is refused, by sluicectl and by SIGHUP, naming each with its line; what
    ran still runs."""
    good = lab.balancer.config.read_text()
    before = in_force(lab)
    traffic = under_load(lab)
    try:
        bad = good.replace('forward = "gue"', 'forward = "giu"', 1).replace("weight = 100", "wieght = 100", 1)
        bad = bad.replace("port = 8080", "port = 80800", 1)
        wrong = [number for number, (a, b) in enumerate(zip(good.splitlines(), bad.splitlines()), 1) if a != b]
        assert len(wrong) == 3
        lab.balancer.config.write_text(bad)
        done = lab.balancer.ctl_raw("reload", json_output=False)
        assert done.returncode != 0
        told = sorted({int(n) for n in re.findall(rf"{re.escape(str(lab.balancer.config))}:(\d+):",
                                                  done.stderr + done.stdout)})
        assert told == wrong, f"mistakes in lines {wrong}, told {told}:\n{done.stderr}{done.stdout}"
        seen = len(lab.balancer.controlplane.text())
        lab.balancer.controlplane.signal(signal.SIGHUP)
        wait_for("the log names the mistakes", lambda: all(
            f"{lab.balancer.config}:{n}:" in lab.balancer.controlplane.text()[seen:] for n in wrong), 5)
        lab.balancer.config.write_text("services = (")
        assert lab.balancer.ctl_raw("reload").returncode != 0
        assert in_force(lab) == before
        time.sleep(0.5)
    finally:
        lab.balancer.config.write_text(good)
    assert lab.balancer.ctl_raw("reload").returncode == 0
    no_failure(traffic, measured, "three refused reloads")


def test_check_and_plan(lab):
    """`check` is silent for a good file and names the nearest known setting for a wrong one; `plan` changes nothing."""
    good = lab.balancer.configure(services(lab, "b"), file=lab.balancer.directory / "b.conf")
    done = lab.balancer.ctl_raw("check", good, json_output=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    bad = lab.balancer.directory / "bad.conf"
    bad.write_text(good.read_text().replace("backends =", "backeds =", 1))
    done = lab.balancer.ctl_raw("check", bad, json_output=False)
    assert done.returncode == 1 and '"backends"' in (done.stdout + done.stderr).replace("'", '"'), done
    before = lab.balancer.ctl("status")["generation"]
    assert lab.balancer.ctl("plan", good)
    assert lab.balancer.ctl("status")["generation"] == before
    lab.balancer.configure(services(lab, "a"))


def test_apply_and_rollback(lab, measured):
    """`apply` of another file replaces what runs as a whole, `rollback` takes it back; no request fails."""
    other = lab.balancer.configure(services(lab, "b"), file=lab.balancer.directory / "b.conf")
    traffic = under_load(lab)
    lab.balancer.ctl("apply", other)
    assert {s["name"] for s in lab.balancer.ctl("services")} == {"web4", "web6", "other", "only-b"}
    lab.balancer.ctl("rollback")
    assert {s["name"] for s in lab.balancer.ctl("services")} == {"web4", "web6", "other", "only-a"}
    no_failure(traffic, measured, "apply and rollback")
    lab.balancer.configure(services(lab, "a"))
    lab.balancer.ctl("reload")


def test_reloads(lab, counts, measured):
    """Reloads between two configurations under traffic: no failed request, and neither daemon grows."""
    rounds, warm = counts(50, 10_000), counts(10, 500)
    texts = []
    for variant in ("b", "a"):
        texts.append(lab.balancer.configure(services(lab, variant)).read_text())
    traffic = under_load(lab, rate=counts(150, 50))

    def reload(number):
        lab.balancer.config.write_text(texts[number % 2])
        lab.balancer.post("/v1/reload")  # a sluicectl for each takes longer than some reloads

    for number in range(warm):
        reload(number)
    lab.balancer.wait_published()
    before = lab.balancer.controlplane.rss_kib(), lab.balancer.dataplane.rss_kib()
    start, generation = time.monotonic(), lab.balancer.ctl("status")["generation"]
    for number in range(rounds):
        reload(number)
    took = time.monotonic() - start
    lab.balancer.wait_published()
    after = lab.balancer.controlplane.rss_kib(), lab.balancer.dataplane.rss_kib()
    assert lab.balancer.ctl("status")["generation"] >= generation + rounds
    no_failure(traffic, measured, f"{rounds} reloads in {took:.1f} s, {took / rounds * 1000:.1f} ms each")
    measured(f"RSS after {warm} and after {warm + rounds} reloads: control plane {before[0]} and {after[0]} KiB, "
             f"dataplane {before[1]} and {after[1]} KiB")
    for name, old, new in zip(("control plane", "dataplane"), before, after):
        assert new - old < 4096 + old // 20, f"the {name} grew from {old} to {new} KiB over {rounds} reloads"


def test_clean_stop(lab):
    """SIGTERM ends the control plane with status 0; forwarding goes on, and a new one adopts it."""
    assert lab.balancer.controlplane.stop() == 0
    lab.client.http(lab.vip(4, 1), count=100).all_succeeded(100)
    lab.balancer.start_controlplane()
    lab.balancer.wait_published()
    lab.client.http(lab.vip(6, 1), count=100).all_succeeded(100)


def test_no_libconfig(lab):
    """A file that is no libconfig at all is refused by check with its line."""
    broken = lab.balancer.directory / "broken.conf"
    broken.write_text("node = { name = \"x\"; };\nservices = (;\n")
    done = lab.balancer.ctl_raw("check", broken, json_output=False)
    assert done.returncode == 1 and "broken.conf:2:" in done.stdout + done.stderr
