# SPDX-License-Identifier: Apache-2.0
"""A network on one machine, in namespaces, with real servers and the real daemons. Start at lab.py."""

from .balancer import Balancer
from .config import Any, libconfig
from .lab import Lab
from .run import LabError, Run, wait_for

__all__ = ["Any", "Balancer", "Lab", "LabError", "Run", "libconfig", "wait_for"]
