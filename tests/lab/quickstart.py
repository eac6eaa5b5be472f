# SPDX-License-Identifier: Apache-2.0
"""The show of tools/quickstart: a site on this machine, real HTTP through a VIP, faults, and nothing left behind."""

import argparse
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from sluicelab import Lab, LabError, run  # noqa: E402
from sluicelab.balancer import program  # noqa: E402

HUGEPAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
WANTED_HUGEPAGES = 256  # of 2 MiB
HEALTH = {"type": "http", "path": "/ready", "interval": "200ms", "timeout": "150ms", "rise": 2, "fall": 3}
BOUND = 3 * 0.2 + 0.15 + 0.05
WEIGHTS = (100, 100, 200)


def say(text=""):
    print(text, flush=True)


def step(text):
    say(f"\n== {text}")


def table(rows, *header):
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        say("   " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


def indent(text):
    say("\n".join("   " + line for line in text.rstrip().splitlines()))


def sluicectl(lab, *arguments):
    """For people: the command, and what it prints."""
    say(f"   $ sluicectl {' '.join(arguments)}")
    done = lab.balancer.ctl_raw(*arguments, json_output=False)
    if done.returncode != 0:
        raise LabError(f"sluicectl {' '.join(arguments)}: {done.stderr.strip()}")
    indent(done.stdout)


def requests(lab, what, count=600, families=(4, 6)):
    """Send, show the spread, insist that all succeeded."""
    rows, spreads = [], {}
    for family in families:
        answers = lab.client.http(lab.vip(family, 1), count=count)
        if answers.failed:
            raise LabError(f"{len(answers.failed)} of {count} requests {what} failed: {answers.errors()}")
        spreads[family] = answers.spread()
    for backend, weight in zip(lab.backends, WEIGHTS):
        rows.append([backend.name, weight] + [f"{spreads[f][backend.name]} ({spreads[f][backend.name] / count:.0%})"
                                              for f in families])
    table(rows, "backend", "weight", *(f"requests over IPv{f}" for f in families))
    return spreads


class Hugepages:
    """256 of them if the machine gives them; what there was before is restored."""

    def __init__(self):
        self.before = int(HUGEPAGES.read_text())
        self.changed = False
        try:
            if self.before < WANTED_HUGEPAGES:
                HUGEPAGES.write_text(str(WANTED_HUGEPAGES))
                self.changed = True
            self.have = int(HUGEPAGES.read_text()) >= WANTED_HUGEPAGES
        except OSError:
            self.have = False
        if not self.have:
            self.restore()

    def restore(self):
        if self.changed:
            HUGEPAGES.write_text(str(self.before))
            self.changed = False


def configure(lab, hugepages):
    lab.balancer.configure(
        [lab.service("web", lab.vip(4, 1), 80, forward="ipip", family=4, weights=WEIGHTS, health=HEALTH),
         lab.service("web6", lab.vip(6, 1), 80, forward="gue", family=6, weights=WEIGHTS, health=HEALTH)],
        dataplane=lab.balancer.base_settings(hugepages)["dataplane"])


def start(lab, hugepages):
    """Start both daemons; with hugepages first, without when the dataplane cannot use them."""
    if hugepages.have:
        lab.run.mount_hugetlbfs()
    configure(lab, hugepages.have)
    lab.balancer.start_controlplane()
    lab.balancer.start_dataplane()
    try:
        lab.balancer.wait_published()
    except LabError:
        if not hugepages.have or lab.balancer.dataplane.alive():
            raise
        say("   the dataplane could not use hugepages here, and goes on without them; it said:")
        indent("\n".join(lab.balancer.dataplane.text().splitlines()[-3:]))
        hugepages.restore()
        hugepages.have = False
        configure(lab, False)
        lab.balancer.start_dataplane()
        lab.balancer.wait_published()
    lab.balancer.wait_backends()


def show(lab, hugepages):
    step("A site in network namespaces: client - router - balancer - 3 servers (nginx)")
    say("   client 203.0.113.2 and 2001:db8:c::2; VIPs " + f"{lab.vip4(1)} and {lab.vip6(1)}")
    say("   the servers answer the client directly; requests reach them in tunnels that sluice-decap opens")
    lab.start_servers()
    lab.open_tunnels()

    step("Control plane and dataplane start " + ("with hugepages" if hugepages.have else "without hugepages"))
    start(lab, hugepages)
    say(f"   configuration: {lab.balancer.config}")
    sluicectl(lab, "status")
    sluicectl(lab, "backends")

    step("1,200 HTTP requests from the client to the VIPs")
    requests(lab, "through the VIP")

    step("Which server gets a certain connection, and how? The answer is computed by the code that forwards")
    sluicectl(lab, "explain", "tcp", "203.0.113.2:40000", f"{lab.vip4(1)}:80")

    victim = lab.backends[2]
    step(f"{victim.name} is killed (kill -9 of its nginx) while requests go on")
    traffic = lab.client.http_start(lab.vip4(1), rate=200, concurrency=64)
    time.sleep(0.5)
    killed = time.time()
    victim.kill()
    time.sleep(BOUND + 0.5)
    answers = traffic.finish()
    late = [r for r in answers.failed if r.start > killed + BOUND]
    last = max([r.start - killed for r in answers.failed], default=0)
    say(f"   stated: no new connection to it after fall x interval + timeout = {BOUND - 0.05:.2f} s (plus 50 ms)")
    say(f"   measured: {len(answers)} requests, {len(answers.failed)} refused by the dead server, "
        f"the last {last:.2f} s after the kill, {len(late)} after the stated time")
    if late:
        raise LabError(f"requests failed after the stated time: {answers.errors()}")
    sluicectl(lab, "backends", "web")
    requests(lab, "with one server dead")

    step(f"{victim.name} comes back and gets its share again")
    victim.revive()
    lab.balancer.wait_backends()
    requests(lab, "after its return")

    step("The control plane is killed (kill -9): forwarding does not need it")
    lab.balancer.controlplane.kill()
    requests(lab, "without a control plane")
    lab.balancer.start_controlplane()
    lab.balancer.wait_published()
    say("   started again, it has adopted what runs:")
    sluicectl(lab, "status")


    step("The dataplane is killed (kill -9) while requests go on: the kernel forwards by the same table")
    traffic = lab.client.http_start(lab.vip4(1), rate=200, concurrency=64)
    time.sleep(1)
    lab.balancer.dataplane.kill()
    time.sleep(2)
    sluicectl(lab, "paths")
    requests(lab, "without a dataplane")
    lab.balancer.start_dataplane()
    lab.balancer.wait_published()
    time.sleep(1)
    answers = traffic.finish()
    say(f"   {len(answers)} requests went on meanwhile, {len(answers.failed)} failed; it has started again and takes over:")
    if answers.failed:
        raise LabError(f"requests failed when the dataplane was killed: {answers.errors()}")
    sluicectl(lab, "paths")


def left_behind(run_id):
    """What of a run can still be found on this machine, as sentences."""
    found = [f"namespace {p.name}" for p in run.NETNS.glob(f"sl-{run_id}-*")]
    found += [f"mount in {line.split()[4]}" for line in open("/proc/self/mountinfo", encoding="utf-8")
              if f"/{run_id}/" in line]
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"/{run_id}/".encode() in (process / "cmdline").read_bytes():
                found.append(f"process {process.name}")
        except OSError:
            continue
    if (run.RUNS / run_id).exists():
        found.append(f"directory {run.RUNS / run_id}")
    return found


def how_to_play(lab):
    enter = " ".join(lab.client.namespace.enter)
    ctl = f"{program('tools/sluicectl')} --runtime-dir {lab.balancer.runtime}"
    step("The site stays up. To play with it, as root:")
    say(f"   {ctl} backends")
    say(f"   {ctl} drain web/b1")
    say(f"   {enter} wrk -t1 -c16 -d5 http://{lab.vip4(1)}/")
    say(f"   {' '.join(lab.router.enter)} tcpdump -ni {lab.balancer.name}   # the router's port to the balancer")
    say(f"   configuration: {lab.balancer.config} (then: {ctl} reload)")
    say("   to remove it:  sudo tools/quickstart --remove")


def remove_kept():
    kept = run.abandoned(kept=True)
    status = 0
    for directory in kept:
        before = directory / "hugepages"
        pages = before.read_text() if before.exists() else None
        left = run.remove(directory) or left_behind(directory.name)
        if pages:
            HUGEPAGES.write_text(pages)
        say(f"{directory.name}: " + ("removed" if not left else "; ".join(left)))
        status = status or bool(left)
    if not kept:
        say("there is no kept site")
    return int(status)


def main():
    parser = argparse.ArgumentParser(prog="tools/quickstart", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the site up to play with, and tell how")
    parser.add_argument("--remove", action="store_true", help="remove a site that was kept")
    options = parser.parse_args()
    if options.remove:
        return remove_kept()
    run.exit_on_signals()
    begin = time.monotonic()
    hugepages = Hugepages()
    lab, good = None, False
    try:
        lab = Lab(keep=options.keep)
        show(lab, hugepages)
        good = True
    except (LabError, OSError, subprocess.SubprocessError) as error:
        print(f"\ntools/quickstart: failed: {error}", file=sys.stderr)
        if lab:
            print(lab.logs(), file=sys.stderr)
    except (KeyboardInterrupt, SystemExit):
        print("\ntools/quickstart: interrupted; removing the site", file=sys.stderr)
    finally:
        if lab and not (good and options.keep):
            left = lab.run.remove() + left_behind(lab.run.id)
            if left:
                print("tools/quickstart: left behind: " + "; ".join(left), file=sys.stderr)
                good = False
        if not (good and options.keep):
            hugepages.restore()
    if good and options.keep:
        if hugepages.changed:
            (lab.run.directory / "hugepages").write_text(str(hugepages.before))
        how_to_play(lab)
    elif good:
        step(f"All of it worked, in {time.monotonic() - begin:.0f} s. Removed and checked: no process, namespace, mount "
             "or file of it is left.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
