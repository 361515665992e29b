"""The demo learns, honestly, whatever the seed: minutes, so it runs with scripts/test --slow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Cli


@pytest.mark.slow
@pytest.mark.parametrize("seed", [42, 1, 2])
def test_the_demo_learns(seed: int, cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "recipes/tiny_mistral.toml", "--runs", tmp_path, "--set", f"seed={seed}")
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = tmp_path.iterdir()
    report = json.loads((run / "eval" / "report.json").read_text())
    assert report["split"] == "test"
    assert report["difference"]["bits_per_byte"]["high"] < 0
    assert report["difference"]["stops"]["value"] > 0
    assert report["tuned"]["stops"]["value"] >= 0.9
    state = json.loads((run / "run.json").read_text())
    assert sum(state["seconds"].values()) < 90
    assert state["peak_gb"] < 3
