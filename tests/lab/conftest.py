# SPDX-License-Identifier: Apache-2.0
"""Every test of the lab is a game day: a hypothesis (its docstring), a fault, a measured outcome (`measured`)."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from sluicelab import Lab, run  # noqa: E402

_outcomes = []
_standing = []  # labs that are laid now


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run with the acceptance counts")


def pytest_configure(config):
    run.exit_on_signals()


@pytest.fixture(scope="session")
def counts(request):
    """counts(short, long): which one holds in this run."""
    return lambda short, long: long if request.config.getoption("--long") else short


@pytest.fixture
def measured(request):
    """measured("..."): a figure for the report that ends the run."""
    def note(text):
        _outcomes.append((request.node.name, text))
        print(f"measured: {text}")
    return note


@pytest.fixture(scope="module")
def report(request):
    """report("..."): as measured(), for what a module's tests have found together."""
    return lambda text: _outcomes.append((request.node.name, text))


@pytest.fixture(scope="module")
def make_lab():
    """make_lab(...) lays a Lab that is removed when the module's tests have ended."""
    labs = []

    def make(**options):
        labs.append(Lab(**options))
        _standing.append(labs[-1])
        return labs[-1]
    yield make
    left = [sentence for lab in labs for sentence in lab.run.remove()]
    _standing.clear()
    assert not left, f"the lab left behind: {left}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for lab in _standing:
            report.sections.append(("logs of the lab", lab.logs()))


def pytest_terminal_summary(terminalreporter):
    if _outcomes:
        terminalreporter.section("measured")
        for name, text in _outcomes:
            terminalreporter.write_line(f"{name}: {text}")
