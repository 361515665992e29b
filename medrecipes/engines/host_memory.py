"""The memory that this machine, or the container that it is, can still give."""

from __future__ import annotations

import os
from pathlib import Path

from medrecipes.engines.plan.memory import GB


def free_memory() -> float:
    """The bytes that this machine or container can still give."""
    found = []
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(float(line.split()[1]) * 1024)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        ends = [*_lines(limit), *_lines(used)]
        if len(ends) == 2 and all(end.isdigit() for end in ends):
            found.append(float(ends[0]) - float(ends[1]))
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE") / 2)
    return min(found, default=8 * GB)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []
