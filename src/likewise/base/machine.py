"""What this machine can do, as its operating system tells."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def _cpuinfo(names: tuple[str, ...], cpuinfo: Path) -> str:
    """The first value that `/proc/cpuinfo` has under one of `names`."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def cpu_name(cpuinfo: Path = _CPUINFO) -> str:
    """What the processor calls itself."""
    return _cpuinfo(("model name", "Model"), cpuinfo) or platform.processor() or platform.machine()


def cpu_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Capabilities by the names that Linux gives them; empty where it doesn't say."""
    return frozenset(_cpuinfo(("flags", "Features"), cpuinfo).split())


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
