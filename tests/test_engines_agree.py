"""Unsloth and plain TRL, each in a process of its own, on the same weights and rows: one truth. Needs an NVIDIA card."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrecipes.rundir import read_losses
from tests.conftest import Cli

pytestmark = pytest.mark.cuda

SETTINGS = ["train.max_steps=20", "train.eval_steps=20", "train.save_steps=20", "eval.rows=2", "eval.max_new_tokens=8", "train.optim=adamw_torch"]  # fmt: skip
# (overrides, how far the losses of a step may lie apart)
CASES = {
    "16 bits, fp32": (["model.bits=16", "train.precision=fp32"], 2e-3),
    "16 bits, bf16": (["model.bits=16", "train.precision=bf16"], 2e-3),
    "4 bits, bf16": (["model.bits=4", "train.precision=bf16"], 2e-3),
    "4 bits, bf16, packed": (["model.bits=4", "train.precision=bf16", "train.packing=true"], 2e-3),
}


@pytest.mark.parametrize(
    ("recipe", "case"),
    [*(("demo", case) for case in CASES)]
    + [
        (recipe, case) for recipe in ("tiny_llama3", "tiny_gemma") for case in ("16 bits, fp32", "4 bits, bf16, packed")
    ],
)
def test_the_engines_agree_step_by_step(recipe: str, case: str, cli: Cli, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA card")
    overrides, tolerance = CASES[case]
    losses = {}
    for engine in ("unsloth", "plain"):
        sets = [word for value in [*SETTINGS, *overrides, f"model.engine={engine}"] for word in ("--set", value)]
        done = cli("run", f"recipes/{recipe}.toml", "--runs", tmp_path / engine, *sets)
        assert done.returncode == 0, done.stdout + done.stderr
        [run] = (tmp_path / engine).iterdir()
        losses[engine] = [float(row["loss"]) for row in read_losses(run / "loss.csv") if row["split"] == "train"]
    apart = [abs(a - b) for a, b in zip(losses["unsloth"], losses["plain"], strict=True)]
    print(f"{recipe}, {case}: {len(apart)} steps, at most {max(apart):.1e} apart")
    assert len(apart) == 20
    assert max(apart) < tolerance
