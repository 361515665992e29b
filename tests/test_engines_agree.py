"""Unsloth and TRL, each in a process of its own, on the same weights and rows: one truth. Needs an NVIDIA GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medrecipes.runs.folder import read_losses
from tests.conftest import Cli, need_gpus, sets

pytestmark = pytest.mark.cuda

SETTINGS = ["train.max_steps=20", "train.eval_steps=20", "train.save_steps=20", "eval.rows=2", "eval.max_new_tokens=8", "train.optim=adamw_torch"]  # fmt: skip
# (overrides, how far the losses of a step may lie apart)
CASES = {
    "16 bits, fp32": (["model.bits=16", "train.precision=fp32"], 2e-3),
    "16 bits, bf16": (["model.bits=16", "train.precision=bf16"], 2e-3),
    "4 bits, bf16": (["model.bits=4", "train.precision=bf16"], 2e-3),
    "4 bits, bf16, packed": (["model.bits=4", "train.precision=bf16", "train.packing=true"], 2e-3),
}


@pytest.fixture(scope="module", autouse=True)
def _card() -> None:
    need_gpus(1)


def losses(cli: Cli, runs: Path, recipe: str, overrides: list[str], **environment: str) -> list[float]:
    """What twenty steps of training lost, step by step."""
    done = cli(
        "run", f"recipes/{recipe}.toml", "--runs", runs, *sets(*SETTINGS, *overrides), env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = runs.iterdir()
    found = [float(row["loss"]) for row in read_losses(run / "loss.csv") if row["split"] == "train"]
    assert len(found) == 20
    return found


def apart(one: list[float], other: list[float], what: str) -> float:
    most = max(abs(a - b) for a, b in zip(one, other, strict=True))
    print(f"{what}: {len(one)} steps, at most {most:.1e} apart")
    return most


@pytest.mark.parametrize(
    ("recipe", "case"),
    [*(("tiny_mistral", case) for case in CASES)]
    + [(recipe, case) for recipe in ("tiny_llama3", "tiny_gemma") for case in ("16 bits, fp32", "4 bits, bf16, packed")]
    + [(recipe, case) for recipe in ("tiny_gemma2", "tiny_gemma3") for case in ("16 bits, fp32", "4 bits, bf16")],
)
def test_the_engines_agree_step_by_step(recipe: str, case: str, cli: Cli, tmp_path: Path) -> None:
    overrides, tolerance = CASES[case]
    # torch 2.11 cannot compile what Unsloth made of Gemma 2 in 4 bits
    uncompiled = {"TORCHDYNAMO_DISABLE": "1"} if (recipe, case) == ("tiny_gemma2", "4 bits, bf16") else {}
    unsloth = losses(cli, tmp_path / "unsloth", recipe, [*overrides, "model.engine=unsloth"], **uncompiled)
    plain = losses(cli, tmp_path / "plain", recipe, [*overrides, "model.engine=trl"])
    assert apart(unsloth, plain, f"{recipe}, {case}") < tolerance


@pytest.mark.parametrize("recipe", ["tiny_mistral", "tiny_llama3", "tiny_gemma"])
def test_unsloth_attends_in_one_kernel_as_it_does_row_by_row(recipe: str, cli: Cli, tmp_path: Path) -> None:
    overrides = [*CASES["4 bits, bf16, packed"][0], "model.engine=unsloth"]
    one = losses(cli, tmp_path / "one", recipe, overrides)
    rows = losses(cli, tmp_path / "rows", recipe, overrides, UNSLOTH_TORCH_VARLEN="0")
    assert "one kernel" in next((tmp_path / "one").glob("*/run.json")).read_text()
    assert "row by row" in next((tmp_path / "rows").glob("*/run.json")).read_text()
    assert apart(one, rows, recipe) < 2e-3
