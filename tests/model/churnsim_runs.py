#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Short runs of the churn simulator: what must be 0 is 0, and what counts it can count.

    churnsim_runs.py CHURNSIM"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

CHURNSIM = sys.argv[1]
# Some hundred changes of the backends in 200 s, gaps below the window.
SHORT = ["--flows", "20000", "--arrivals", "100", "--length", "pareto:1.2:2:300", "--gap", "pareto:1.5:1:50",
         "--window", "60", "--backends", "20", "--table-size", "1021", "--change-every", "2", "--drain-time", "90",
         "--fail-time", "10", "--exceptions", "65536", "--reshuffle-every", "20"]


def call(*arguments, environment=None):
    return subprocess.run([CHURNSIM, *SHORT, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=environment, timeout=300, check=False)


def run(*arguments):
    done = call("--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def broken(document, model="sluice"):
    return document["models"][model]["broken"]


def test_same_seed_is_same_history():
    assert call("--json").stdout == call("--json").stdout
    assert call("--json").stdout != call("--json", "--seed", "2").stdout


def test_promise():
    for seed in "1", "2", "3", "4":
        document = run("--seed", seed)
        assert sum(document["changes"].values()) > 50 and document["flows"] == 20000
        assert document["exceptions"]["inserted"] > 1000 and document["exceptions"]["refused"] == 0
        assert broken(document) == 0, document
        assert broken(document, "full_table") == 0 and broken(document, "maglev_lru") == 0
        assert broken(document, "maglev") > 100 and broken(document, "jet") > 0
        for model in document["models"].values():
            assert 1 <= model["imbalance_mean"] <= model["imbalance_peak"]


def test_each_violation_counts():
    assert broken(run("--window", "5")) > 0, "gaps longer than the window"
    assert broken(run("--exceptions", "1024", "--arrivals", "1000", "--flows", "60000")) > 0, "no room"
    assert broken(run("--tracking", "none")) > 0
    reshuffled = run("--balancers", "8")
    assert reshuffled["reshuffles"] > 5 and broken(reshuffled) > 0
    assert broken(reshuffled, "maglev_lru") > 0
    assert broken(run("--balancers", "8", "--reshuffle-every", "0")) == 0, "balancers that stay"
    assert broken(run("--balancers", "8", "--exceptions-shared")) == 0
    told = run("--balancers", "8", "--exceptions-told-within", "0.3")
    assert told["exceptions"]["told"] > 1000 and broken(told) < broken(reshuffled) / 10
    assert broken(told) < broken(run("--balancers", "8", "--exceptions-told-within", "10"))
    assert 0 < broken(run("--balancers", "8", "--ecmp", "resilient")) < broken(reshuffled)
    assert broken(run("--balancers", "8", "--balancers-forget")) > 0
    assert broken(run("--balancers", "8", "--reshuffle-after", "1")) > 0


def test_small_lru_forgets():
    assert broken(run("--lru-entries", "50"), "maglev_lru") > 0


def test_no_change_no_state():
    document = run("--change-every", "0")
    for name in "sluice", "maglev", "maglev_lru", "full_table":
        assert broken(document, name) == 0 and document["models"][name]["unavoidable"] == 0
    assert document["models"]["sluice"]["state_bytes_peak"] == 0


def test_two_ways_to_the_same_number():
    """Sluice that tracks all is a full table, and Sluice that tracks nothing is Maglev."""
    document = run("--tracking", "all")
    models = document["models"]
    assert broken(document) == 0
    assert 0.95 < models["sluice"]["state_bytes_mean"] / models["full_table"]["state_bytes_mean"] < 1.05, models
    document = run("--tracking", "none")
    assert 0.9 < broken(document) / broken(document, "maglev") < 1.1


def test_dead_backends_are_counted_apart():
    document = run("--mix", "fail=1")
    assert document["models"]["sluice"]["unavoidable"] > 0 and broken(document) == 0
    drained = run("--mix", "drain=1", "--drain-time", "10000")
    assert drained["models"]["sluice"]["unavoidable"] == 0 and broken(drained) == 0
    assert drained["models"]["maglev"]["broken_draining"] > 0


def test_jet_keeps_what_it_knows_of():
    """Those that fail will be back: JET tracks what that would break, and nothing does break."""
    document = run("--mix", "fail=1")
    assert broken(document, "jet") == 0 and broken(document, "maglev") > 100
    jet, full = document["models"]["jet"], document["models"]["full_table"]
    assert 0 < jet["state_bytes_mean"] < full["state_bytes_mean"] / 2


def test_assumptions():
    rows = run("--assumptions", "--flows", "5000")
    assert [row["assumption"] for row in rows][:4] == ["none", "gaps", "table_full", "reshuffles"]
    assert broken(rows[0]) == 0


def test_table():
    done = call()
    assert done.returncode == 0 and "maglev+lru" in done.stdout and "20000 flows" in done.stdout


def test_bad_usage():
    for arguments, says in (
            (["--nonsense"], "unknown option"),
            (["--flows"], "value is missing"),
            (["--flows", "0"], "whole number from 1"),
            (["--flows", "1.5"], "whole number"),
            (["--table-size", "1000"], "prime"),
            (["--gap", "pareto:1"], "pareto:SHAPE"),
            (["--mix", "add"], "KIND=N"),
            (["--mix", "add=0"], "not all 0"),
            (["--mix", "add=1,"], "KIND=N"),
            (["--tracking", "some"], "changes, all, none"),
            (["--ecmp", "x"], "modulo, resilient"),
            (["--exceptions", "1000"], "power of two"),
            (["--assumptions", "--plot", "x.png"], "leave out"),
            (["--arrivals", "0.001"], "take more arrivals")):
        done = call(*arguments)
        assert done.returncode == 2 and says in done.stderr, (arguments, done.stderr)
    assert call("--help").returncode == 0 and "churnsim" in call("--version").stdout


def test_plot():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "churn.png")
        done = call("--plot", path, environment={"PATH": folder})
        assert done.returncode == 1 and "install it" in done.stderr and not os.path.exists(path)
        if not shutil.which("gnuplot"):
            return
        done = call("--plot", path)
        assert done.returncode == 0, done.stderr
        with open(path, "rb") as picture:
            assert picture.read(8) == b"\x89PNG\r\n\x1a\n"
        done = call("--plot", os.path.join(folder, "absent", "churn.png"))
        assert done.returncode == 1 and "cannot be written" in done.stderr


if __name__ == "__main__":
    for name, function in list(globals().items()):
        if name.startswith("test_"):
            function()
            print(name, "passed", flush=True)
