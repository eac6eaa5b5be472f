#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds and runs every test suite and sums what they counted (tools/test installs packages, then calls this).

Counted are cases: those that cmocka reports within a test program, a program without such a report as one, the
lab's pytest items, and each build as one (it must end without a warning)."""

import argparse
import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SHORT_LAB_SECONDS, LONG_LAB_SECONDS = 20 * 60, 6 * 3600


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures, self.skips = [], []

    def line(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def fail(self, what):
        self.failed += 1
        self.failures.append(what)

    def add(self, other):
        for name in ("passed", "failed", "skipped", "failures", "skips"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Suite:
    """Prints its header and its result; totals of an exception are one failure."""

    def __init__(self, name, totals):
        self.name, self.all, self.totals = name, totals, Totals()

    def __enter__(self):
        print(f"\n=== {self.name}", flush=True)
        self.start = time.monotonic()
        return self.totals

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, SuiteError):
            print(error, flush=True)
            self.totals.fail(f"{self.name}: {str(error).splitlines()[0]}")
        print(f"=== {self.name}: {self.totals.line()} ({time.monotonic() - self.start:.1f} s)", flush=True)
        self.all.add(self.totals)
        return kind is not None and issubclass(kind, SuiteError)


class SuiteError(Exception):
    """The suite could not be run to its end."""


def run(argv, environment=None, timeout=None, quiet=False):
    """Exit status of a command, its output shown (or with quiet kept, and shown only when it fails)."""
    argv = [str(a) for a in argv]
    process = subprocess.Popen(argv, cwd=REPOSITORY, stdin=subprocess.DEVNULL, start_new_session=True,
                               stdout=subprocess.PIPE if quiet else None,
                               stderr=subprocess.STDOUT if quiet else None, text=True,
                               env={**os.environ, **(environment or {})})
    try:
        output, _ = process.communicate(timeout=timeout)
    except (subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit) as error:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise SuiteError(f"`{' '.join(argv)}` did not end within {timeout} s") from None
    if quiet and process.returncode != 0:
        print(output, flush=True)
    return process.returncode


def give_to_owner(directory):
    """What root builds below a user's clone belongs to that user."""
    if os.geteuid() == 0 and directory.is_relative_to(REPOSITORY) and directory.exists():
        subprocess.run(["chown", "-R", f"--reference={REPOSITORY}", directory], check=False)


# ---- builds ----

def build(directory, totals, options, environment=None):
    """Configure (when new) and compile. False when it failed; that is then counted."""
    if not (directory / "build.ninja").exists():
        if run(["meson", "setup", *options, directory, REPOSITORY], environment, quiet=True) != 0:
            totals.fail(f"configure {directory}")
            return False
    elif "--werror" in options and not compiles_with_werror(directory):  # made by tools/setup, say
        run(["meson", "configure", directory, "-Dwerror=true"], quiet=True)
    good = run(["meson", "compile", "-C", directory], environment, quiet=True) == 0
    give_to_owner(directory)
    if not good:
        totals.fail(f"compile {directory}")
        return False
    totals.passed += 1
    return True


def compiles_with_werror(directory):
    told = subprocess.run(["meson", "introspect", "--buildoptions", directory], capture_output=True, text=True, check=True)
    return any(option["name"] == "werror" and option["value"] for option in json.loads(told.stdout))


# ---- meson's tests ----

CMOCKA = {kind: re.compile(rf"^\[ +{kind.upper()} +\] (\d+) test", re.M) for kind in ("passed", "failed", "skipped")}
CMOCKA_CASE = {"failed": re.compile(r"^\[  (?:FAILED|ERROR )  \] ([A-Za-z_]\w*)$", re.M),
               "skipped": re.compile(r"^\[  SKIPPED \] ([A-Za-z_]\w*)$", re.M)}
CMOCKA_BROKEN = re.compile(r"^\[  ERROR   \] ([A-Za-z_]\w*)$", re.M)  # its setup or teardown failed


def cmocka_cases(output):
    """{"passed": n, "failed": n, "skipped": n} as the program's cmocka groups report, or None when it has none."""
    if "[==========]" not in output:
        return None
    counts = {kind: sum(map(int, pattern.findall(output))) for kind, pattern in CMOCKA.items()}
    counts["failed"] += len(CMOCKA_BROKEN.findall(output))
    return counts


def count_meson_test(test, totals):
    """Add one record of meson's testlog.json."""
    output = test.get("stdout", "") + "\n" + test.get("stderr", "")
    name, result = test["name"], test["result"]
    counts = cmocka_cases(output) or {"passed": 0, "failed": 0, "skipped": 0}
    if result == "SKIP":
        totals.skipped += 1
        last = [line for line in output.splitlines() if line.strip()][-1:]
        totals.skips.append(f"{name}: {last[0] if last else 'no reason told'}")
        return
    totals.passed += counts["passed"]
    totals.skipped += counts["skipped"]
    totals.skips += [f"{name}: {case}" for case in sorted(set(CMOCKA_CASE["skipped"].findall(output)))]
    if result in ("OK", "EXPECTEDFAIL"):
        if not any(counts.values()):
            totals.passed += 1
    else:
        totals.failed += max(1, counts["failed"])
        cases = ", ".join(sorted(set(CMOCKA_CASE["failed"].findall(output))))
        totals.failures.append(f"{name}: {result}" + (f" ({cases})" if cases else ""))


def meson_tests(directory, totals, pattern, environment=None):
    names = []
    if pattern:
        listing = subprocess.run(["meson", "test", "-C", directory, "--no-rebuild", "--list"], text=True,
                                 capture_output=True, stdin=subprocess.DEVNULL, check=False).stdout
        found = [line.rpartition(" / ")[2].strip() for line in listing.splitlines() if line.strip()]
        names = [name for name in found if re.search(pattern, name)]
        if not names:
            print(f"no test here matches {pattern!r}")
            return
    log = directory / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    run(["meson", "test", "-C", directory, "--no-rebuild", "--print-errorlogs", *names], environment)
    give_to_owner(directory)
    if not log.exists():
        raise SuiteError(f"meson test left no {log}")
    with open(log, encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    for record in records:
        count_meson_test(record, totals)
    if not records and not pattern:
        totals.fail(f"{directory.name} has no tests")


# ---- the lab ----

def lab(totals, options, base):
    if os.geteuid() != 0:
        raise SuiteError("the lab makes network namespaces: run tools/test as root (sudo), or tools/test --unit")
    report = base / "lab-junit.xml"
    report.unlink(missing_ok=True)
    run(["tests/lab/clean"])
    argv = ["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short", "--color=no",
            f"--junitxml={report}", "tests/lab"]
    argv += ["--long"] if options.long else []
    argv += ["-k", options.k] if options.k else []
    environment = {"SLUICE_BUILD": str(base), "SLUICE_LAB_LOGS": str(base / "lab-logs"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        status = run(argv, environment, LONG_LAB_SECONDS if options.long else SHORT_LAB_SECONDS)
    finally:
        run(["tests/lab/clean"])
        give_to_owner(base)
    if status == 5 and options.k:
        return  # no test of that name in the lab
    if not report.exists():
        raise SuiteError(f"pytest ended with {status} and left no report")
    cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    for case in cases:
        name = f"{case.get('classname')}::{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            totals.fail(name)
        elif skipped is not None:
            totals.skipped += 1
            totals.skips.append(f"{name}: {skipped.get('message')}")
        else:
            totals.passed += 1
    if status not in (0, 1) or not cases or (status == 1 and not totals.failed):
        totals.fail(f"pytest ended with {status}")


def main():
    parser = argparse.ArgumentParser(prog="tools/test", description="Build and test everything, in short form by default.")
    parser.add_argument("--unit", action="store_true", help="only the builds and meson's tests")
    parser.add_argument("--lab", action="store_true", help="only the release build and the lab")
    parser.add_argument("--long", action="store_true", help="the lab with the acceptance counts (an hour or so)")
    parser.add_argument("-k", metavar="PATTERN", help="only tests whose names match (meson: a regular expression, "
                        "lab: pytest's -k), on the release build")
    parser.add_argument("--build-dir", type=pathlib.Path, default=REPOSITORY / "build",
                        help="release build; the others stand beside it with -asan and -clang added (default: build/)")
    options = parser.parse_args()
    base = options.build_dir.resolve()
    everything = not options.unit and not options.lab
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, frame: sys.exit(128 + n))

    totals = Totals()
    built = False
    with Suite("build: gcc, release", totals) as suite:
        built = build(base, suite, ["--werror"])
    if built and (options.unit or everything):
        with Suite("unit tests, corpora and vectors: gcc, release", totals) as suite:
            meson_tests(base, suite, options.k)
    if (options.unit or everything) and not options.k:
        asan = base.with_name(base.name + "-asan")
        sanitized = False
        with Suite("build: gcc, address and undefined-behaviour sanitizers", totals) as suite:
            sanitized = build(asan, suite, ["-Db_sanitize=address,undefined", "-Db_lundef=false",
                                            "--buildtype=debugoptimized"])
        if sanitized:
            with Suite("unit tests, corpora and vectors: gcc, sanitizers", totals) as suite:
                meson_tests(asan, suite, None, {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})
        with Suite("build: clang, every warning an error", totals) as suite:
            build(base.with_name(base.name + "-clang"), suite, ["--werror"], {"CC": "clang"})
    if built and (options.lab or everything):
        with Suite(f"lab, {'long' if options.long else 'short'} form", totals) as suite:
            lab(suite, options, base)

    for title, lines in (("Skipped", totals.skips), ("Failed", totals.failures)):
        if lines:
            print(f"\n{title}:")
            for line, count in collections.Counter(lines).items():
                print(f"  {line}" + (f" (x{count})" if count > 1 else ""))
    print(f"\n{totals.line()}", flush=True)
    return 1 if totals.failed or not totals.passed else 0


if __name__ == "__main__":
    sys.exit(main())
