"""This machine's GPU by nvidia-smi, within a moment and without torch."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from medrecipes.engines.plan.dimensions import Gpu, data_sheet

ASKED = ("name", "memory.free", "memory.total", "driver_version", "compute_cap")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Device:
    """What nvidia-smi says of a GPU."""

    name: str
    free_gb: float
    total_gb: float
    driver: str
    capability: float

    @property
    def gpu(self) -> Gpu:
        """The same as the plan reckons with it."""
        return data_sheet(self.name, self.free_gb, varlen=self.capability >= 8.0)


def first_gpu() -> Device | None:
    """The first GPU that this process may use; None where there is none, or no driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in ("", "-1"):
        return None
    one = ["-i", visible.split(",")[0].strip()] if visible else []
    command = ["nvidia-smi", *one, f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        name, free, total, driver, capability = map(str.strip, done.stdout.splitlines()[0].split(","))
        return Device(name, float(free) * MIB / 1e9, float(total) * MIB / 1e9, driver, float(capability))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
