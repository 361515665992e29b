"""Tiny runs for tests of what comes after training: each trained once a session, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli

SHORT = ["--set", "train.max_steps=24", "--set", "train.save_steps=12", "--set", "train.eval_steps=12",
         "--set", "eval.rows=6", "--set", "eval.max_new_tokens=24"]  # fmt: skip


def train(cli: Cli, runs: Path, recipe: str, *settings: str) -> Path:
    """A short run of a tiny recipe; no recipe of the demo's family is trained twice."""
    done = cli("run", ROOT / "recipes" / f"{recipe}.toml", "--runs", runs, *SHORT, *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(runs.glob(f"{recipe}-*"))


@pytest.fixture(scope="session")
def demo_run(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the demo: Mistral, untied embeddings, 4 bits."""
    return train(cli, tmp_path_factory.mktemp("demo-run"), "demo")
