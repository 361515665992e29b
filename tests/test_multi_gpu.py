"""Two GPUs: what they learn is what one learns, and a base that they share is no other base. Needs two NVIDIA GPUs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from medrecipes.recipe.load import load
from medrecipes.runs.folder import last_checkpoint, read_losses, run_path
from tests.conftest import Cli, need_gpus, sets, start

pytestmark = pytest.mark.cuda

SETTINGS = ["model.engine=trl", "train.max_steps=8", "train.eval_steps=4", "train.save_steps=4", "train.batch=8", "train.micro_batch=2", "eval.rows=6", "eval.max_new_tokens=8", "train.optim=adamw_torch", "train.sample_prompts=['What is asthma?']"]  # fmt: skip
EXACT = ["model.bits=16", "train.precision=fp32"]


def trained(cli: Cli, folder: Path, gpus: int, *settings: str) -> dict[str, object]:
    """What a run on so many GPUs says and leaves."""
    need_gpus(gpus)
    done = cli("run", "recipes/tiny_mistral.toml", "--runs", folder, "--gpus", str(gpus), *sets(*SETTINGS, *settings))
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = folder.iterdir()
    rows = read_losses(run / "loss.csv")
    state = json.loads((run / "run.json").read_text())
    lines = (run / "eval" / "predictions.jsonl").read_text().splitlines()
    return {
        "losses": [(row["split"], row["step"], float(row["loss"])) for row in rows],
        "predictions": sorted(lines), "samples": (run / "samples.jsonl").read_text(),
        "adapter": (run / "adapter" / "adapter_model.safetensors").read_bytes(), "choices": state["choices"],
    }  # fmt: skip


def test_two_cards_learn_what_one_does(cli: Cli, tmp_path: Path) -> None:
    one = trained(cli, tmp_path / "one", 1, *EXACT)
    two = trained(cli, tmp_path / "two", 2, *EXACT)
    apart = max(abs(a[2] - b[2]) for a, b in zip(one["losses"], two["losses"], strict=True))  # type: ignore[call-overload]
    print(f"one GPU and two: at most {apart:.1e} apart")
    assert apart < 1e-4


@pytest.mark.parametrize("bits", ["4", "16"])
def test_a_base_that_two_cards_share_is_no_other_base(bits: str, cli: Cli, tmp_path: Path) -> None:
    settings = [f"model.bits={bits}", "train.packing=true", "data.max_tokens=256", "train.checkpointing=1"]
    whole = trained(cli, tmp_path / "whole", 2, *settings, "model.shard=false")
    shared = trained(cli, tmp_path / "shared", 2, *settings, "model.shard=true")
    assert shared["choices"]["shards"]["value"] is True  # type: ignore[index]
    assert whole["choices"]["shards"]["value"] is False  # type: ignore[index]
    for what in ("losses", "predictions", "samples", "adapter"):
        assert shared[what] == whole[what], what


def test_a_base_that_two_cards_share_is_judged_and_released_by_both(cli: Cli, tmp_path: Path) -> None:
    settings = ["train.packing=true", "data.max_tokens=256", "train.checkpointing=1", "model.shard=true", "template.system='You answer in plain words.'"]  # fmt: skip
    trained(cli, tmp_path, 2, *settings)
    [run] = tmp_path.iterdir()
    done = cli("verify", run, "--gpus", "2")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert re.search(r"evaluation loss +ok", done.stdout), done.stdout
    done = cli("publish", run, "--gpus", "2", "--repo", "someone/demo")
    assert "reload         passed" in done.stdout, done.stdout + done.stderr
    done = cli("eval", run, "--fresh", "--gpus", "2")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    [again] = run.glob("eval-*/predictions.jsonl")
    rows = [sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: (row["id"], row["model"])) for path in (again, run / "eval" / "predictions.jsonl")]  # fmt: skip
    for found, before in zip(*rows, strict=True):
        assert found.pop("bits") == pytest.approx(before.pop("bits"), rel=1e-3)
        assert found == before


def begun(folder: Path, *settings: str) -> tuple[Path, subprocess.Popen[str]]:
    """A run on two GPUs, in the middle of its training, and its folder."""
    need_gpus(2)
    path = run_path(load("recipes/tiny_mistral.toml", settings).recipe, folder, fresh=False)
    return path, start(path, 3, "recipes/tiny_mistral.toml", "--gpus", "2", *sets(*settings))


def test_two_cards_told_to_stop_save_their_step_and_one_goes_on(cli: Cli, tmp_path: Path) -> None:
    settings = [*SETTINGS, *EXACT, "train.max_steps=60", "train.eval_steps=1000", "train.save_steps=1000"]
    path, process = begun(tmp_path, *settings)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted; the same command goes on from the last checkpoint\n"
    stopped = last_checkpoint(path / "checkpoints")
    assert stopped
    done = cli("run", "recipes/tiny_mistral.toml", "--runs", tmp_path, *sets(*settings))
    assert done.returncode == 0, done.stdout + done.stderr
    state = json.loads((path / "run.json").read_text())
    assert state["resumed_from_step"] == int(stopped.name.rsplit("-", 1)[1]) < 60


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("lora.targets=['q_porj']", "lora.targets: 'q_porj' matches no module of this base; did you mean q_proj?"),
        ("train.learning_rate=1e6", "the train loss is nan at step "),
    ],
)  # fmt: skip
def test_a_mistake_that_two_cards_meet_is_one_line(setting: str, line: str, cli: Cli, tmp_path: Path) -> None:
    need_gpus(2)
    done = cli("run", "recipes/tiny_mistral.toml", "--runs", tmp_path, "--gpus", "2", *sets(*SETTINGS, *EXACT, setting))
    assert done.returncode == 2, done.stderr
    assert line in done.stderr  # the leader's words or the other's: it may be the first to meet it by far
    assert len(done.stderr.splitlines()) == 1


def test_a_card_whose_process_is_killed_is_one_line(tmp_path: Path) -> None:
    settings = [*SETTINGS, *EXACT, "train.max_steps=400", "train.eval_steps=1000", "train.save_steps=1000"]
    _, process = begun(tmp_path, *settings)
    [children] = Path(f"/proc/{process.pid}/task").glob(f"{process.pid}/children")
    os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert errors.startswith("the process of GPU ")
    assert len(errors.splitlines()) == 1
