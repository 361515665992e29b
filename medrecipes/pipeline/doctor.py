"""What a run needs of this machine, looked at within seconds: Python, stack, GPU, memory, disk, Hub; with what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from medrecipes.core.extras import install
from medrecipes.core.files import cache_root
from medrecipes.core.hub import hub_silence
from medrecipes.core.resources import PACKAGE
from medrecipes.engines.plan.memory import GB, free_memory
from medrecipes.engines.plan.nvidia_smi import Device, first_gpu
from medrecipes.engines.plan.shipped_bases import SHAPES
from medrecipes.runs.environment import STACK

PYTHONS = ((3, 11), (3, 13))
FEW_GB = 20.0  # of disk: a 7B in 4 bits, its checkpoints and the stack
LITTLE_GB = 4.0  # of memory: what the demo takes


@dataclass(frozen=True)
class Finding:
    """What was looked at and found; `cure`: what to do, empty where all is well; `stops`: whether no run would get far."""

    what: str
    found: str
    cure: str = ""
    stops: bool = False

    def __str__(self) -> str:
        return f"{self.found}{f'; {self.cure}' if self.cure else ''}"


def examine(runs: Path) -> Iterator[Finding]:
    """Every part in turn."""
    yield _python()
    device = first_gpu()
    yield from _stack(device)
    yield _gpu(device)
    yield _memory()
    yield from _disk(runs)
    yield _hub()


def _python() -> Finding:
    found = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("python", found, "the stack is tried with 3.11 to 3.13: make an environment with one of these", stops=True)  # fmt: skip
    return Finding("python", found)


def _stack(device: Device | None) -> Iterator[Finding]:
    """The libraries of a run, held against what this version asks for."""
    asked: dict[str, Requirement] = {}
    with suppress(importlib.metadata.PackageNotFoundError):  # a checkout that is not installed
        asked = {need.name.lower(): need for need in map(Requirement, importlib.metadata.requires("medrecipes") or ())}
    versions: dict[str, str] = {}
    for name in STACK:
        need = asked.get(name.lower())
        extra = need is not None and need.marker is not None
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            cure = install("cuda" if device else "unsloth") if extra else f"pip install '{need or name}'"
            yield Finding("stack", f"{name} is not installed", cure, stops=not extra or device is None)
            continue
        if need and not need.specifier.contains(Version(versions[name]), prereleases=True):
            yield Finding("stack", f"{name} {versions[name]} is not {need.specifier}", f"pip install '{need.name}{need.specifier}'")  # fmt: skip
    yield Finding("stack", ", ".join(f"{name} {version}" for name, version in versions.items()))
    if device and versions.get("torch", "").endswith("+cpu"):
        yield Finding("torch", "torch is the build for CPUs, so the GPU is not used", _reinstall(), stops=True)


def _reinstall() -> str:
    here = (PACKAGE.parent / "scripts" / "install").is_file()
    return (
        "MEDRECIPES_FLAVOUR=cuda bash scripts/install" if here else "install torch for your CUDA, as pytorch.org says"
    )


def _gpu(device: Device | None) -> Finding:
    """The GPU, and the largest base that its memory may hold in 4 bits."""
    if device is None:
        if shutil.which("nvidia-smi"):
            return Finding("GPU", "nvidia-smi finds no GPU that this process may use", "look at `nvidia-smi` and CUDA_VISIBLE_DEVICES")  # fmt: skip
        return Finding("GPU", "no NVIDIA GPU: a CPU trains the demo and the tiny recipes in minutes")
    found = f"{device.name}, {device.free_gb:.1f} of {device.total_gb:.1f} GB free, driver {device.driver}"
    if device.free_gb < 0.5 * device.total_gb:
        return Finding("GPU", found, "others hold most of it: `nvidia-smi` says who")
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        return Finding("GPU", found, "there is no C compiler, which kernels are compiled with: install gcc")
    fitting = [name for name, shape in SHAPES.items() if shape.parameters * 0.7 / GB < device.free_gb]
    return Finding("GPU", f"{found}; {fitting[-1]} and smaller bases may fit, `medrecipes plan RECIPE` tells" if fitting else found)  # fmt: skip


def _memory() -> Finding:
    free = free_memory() / GB
    cure = "" if free >= LITTLE_GB else f"the demo takes {LITTLE_GB:.0f} GB: end something, or take a larger machine"
    return Finding("memory", f"{free:.1f} GB free", cure)


def _disk(runs: Path) -> Iterator[Finding]:
    """Room and leave to write where runs, the store and the Hub's cache lie."""
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    for what, wanted, key in (("runs", runs, "--runs DIR"), ("store", cache_root(), "MEDRECIPES_CACHE"), ("hub cache", hub, "HF_HOME")):  # fmt: skip
        place = wanted.absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free / GB
        if not os.access(place, os.W_OK):
            yield Finding(what, f"{wanted}: cannot be written", f"mend its permissions, or name another folder ({key})", stops=what != "hub cache")  # fmt: skip
        else:
            cure = "" if free >= FEW_GB else f"a 7B wants {FEW_GB:.0f} GB: free some, or name another disk ({key})"
            yield Finding(what, f"{wanted}: {free:.0f} GB free", cure)


def _hub() -> Finding:
    """Whether the Hub answers, and whether a token is there; the token itself is never shown."""
    from huggingface_hub import constants, get_token

    token = "with a token" if get_token() else "without a token: gated bases and releases need `hf auth login`"
    if why := hub_silence():
        return Finding("Hub", f"not reached ({why})", "what was fetched before, tiny bases and the demo work without it; else look at the network, HF_ENDPOINT and HF_HUB_OFFLINE")  # fmt: skip
    return Finding("Hub", f"{constants.ENDPOINT} answers, {token}")
