"""What a run was made with: versions, commit, GPU."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from typing import Any

import medrecipes
from medrecipes.core.resources import PACKAGE

STACK = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "unsloth", "unsloth_zoo")


def describe() -> dict[str, Any]:
    """Versions, commit and hardware, as run.json records them."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": {"medrecipes": medrecipes.__version__, "python": platform.python_version(), **versions()},
        "commit": _commit(),
        "hardware": {"gpus": gpus, "cpu_cores": os.cpu_count(), "machine": platform.machine()},
    }


def versions() -> dict[str, str]:
    """The libraries that a run is made of, those that are installed."""
    found = {}
    for name in STACK:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The checkout's commit, marked where the code or the templates differ from it; none outside a checkout.

    What else lies there, such as a recipe of one's own, changes no run: a run folder holds its recipe.
    """
    folder = PACKAGE.parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", PACKAGE.name, "templates"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
