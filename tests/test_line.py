"""The straight line, for real: a tiny base in 4 bits, trained, killed, resumed, finished, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from medrecipes.runs.folder import last_checkpoint, read_losses
from tests.conftest import DEMO, Cli, children_seconds, start

FILES = {
    "recipe.toml", "run.json", "data.json", "loss.csv", "loss.png", "trainer_stats.json", "README.md", "report.html", "log.txt",
    "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "adapter/tokenizer.json",
    "adapter/chat_template.jinja", "adapter/generation_config.json",
    "eval/predictions.jsonl", "eval/report.json", "eval/report.md",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(demo_run: tuple[Path, str]) -> tuple[Path, str]:
    """A short run of the demo, uninterrupted, and what it printed."""
    return demo_run


def test_the_run_folder_is_whole(finished: tuple[Path, str]) -> None:
    path, _ = finished
    assert re.fullmatch(r"tiny_mistral-[0-9a-f]{8}", path.name)
    assert {f for f in FILES if not (path / f).exists()} == set()
    state = json.loads((path / "run.json").read_text())
    assert state["state"] == "finished"
    assert state["resumed_from_step"] is None
    assert state["choices"]["engine"] == {"value": "unsloth", "reason": "the default on a CPU"}
    assert state["peak_gb"] < 3


def test_the_report_has_every_figure_with_its_interval(finished: tuple[Path, str]) -> None:
    report = json.loads((finished[0] / "eval" / "report.json").read_text())
    for part in ("base", "tuned", "difference"):
        assert set(report[part]) >= {"bits_per_byte", "rouge1", "rouge2", "rougeL", "stops", "limit", "length_ratio"}
        for figure in report[part].values():
            assert set(figure) == {"value", "low", "high"}
            assert figure["low"] <= figure["value"] <= figure["high"]
    assert report["rows"] == 6


def test_the_base_is_really_quantised(finished: tuple[Path, str]) -> None:
    stats = json.loads((finished[0] / "trainer_stats.json").read_text())
    assert stats["trainable_parameters"] == 224_256
    assert 2_000_000 < stats["parameters"] < 6_000_000
    assert "4-bit = True" in (finished[0] / "log.txt").read_text()


def test_what_is_printed_is_for_people(finished: tuple[Path, str]) -> None:
    path, printed = finished
    for word in (
        "data  ",
        "engine  ",
        "base  ",
        "tokens  ",
        "train  ",
        "bits per byte of answer",
        "tuned  ",
        str(path),
    ):
        assert word in printed
    assert "\x1b" not in printed
    assert "Unsloth" not in printed
    assert "Warning" not in printed


def test_both_tables_fit_a_terminal_of_eighty_columns(finished: tuple[Path, str]) -> None:
    lines = finished[1].splitlines()
    leaks = next(i for i, line in enumerate(lines) if "shared with train" in line)
    figures = next(i for i, line in enumerate(lines) if line.split()[-1:] == ["difference"])
    assert lines[figures + 2].split()[:3] == ["95%", "interval", lines[figures + 2].split()[2]]
    tables = [*lines[leaks : leaks + 3], *lines[figures : figures + 8]]
    assert all(0 < len(line) <= 80 for line in tables if line), tables


def test_a_finished_run_is_left_alone(finished: tuple[Path, str], fresh: Cli) -> None:
    path, _ = finished
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    used = children_seconds()
    done = fresh("run", *DEMO, "--runs", path.parent)
    assert children_seconds() - used < 4
    assert done.stdout == f"finished before: {path} (nothing done; --fresh starts another beside it)\n"
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


def losses(path: Path) -> list[list[str]]:
    """What a run's losses were, but for the time they took."""
    columns = ("step", "split", "loss", "learning_rate", "grad_norm", "tokens", "supervised_tokens")
    return [[row[c] for c in columns] for row in read_losses(path / "loss.csv")]


def test_interrupted_moved_and_killed_it_ends_with_the_same_losses(
    finished: tuple[Path, str], warm: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "before" / finished[0].name
    process = start(path, 1, *DEMO)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "interrupted; the same command goes on from the last checkpoint\n"
    # it saves first, and the rest may happen in another place
    stopped = last_checkpoint(path / "checkpoints")
    assert stopped
    step = int(stopped.name.rsplit("-", 1)[1])
    assert step not in (6, 12)  # none that the recipe asked for
    (tmp_path / "before").rename(tmp_path / "after")

    path = tmp_path / "after" / finished[0].name
    process = start(path, 8, *DEMO)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert json.loads((path / "run.json").read_text())["resumed_from_step"] == step
    # a checkpoint that the crash tore (its state is written last) must be passed over
    torn = path / "checkpoints" / "checkpoint-10"
    torn.mkdir()
    (torn / "adapter_model.safetensors").write_bytes(b"half")
    assert last_checkpoint(path / "checkpoints") == path / "checkpoints" / "checkpoint-6"

    done = warm("run", *DEMO, "--runs", tmp_path / "after")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((path / "run.json").read_text())["resumed_from_step"] == 6
    assert "resumed          from step 6 of 12\n" in done.stdout
    assert losses(path) == losses(finished[0])
    assert len(losses(path)) == 12 + 3
    weights = [(p / "adapter" / "adapter_model.safetensors").read_bytes() for p in (finished[0], path)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("damaged", [("12",), ("12", "6")], ids=["the last", "all"])
def test_a_damaged_checkpoint_is_named_and_the_losses_are_those_of_a_run_without_damage(
    damaged: tuple[str, ...], finished: tuple[Path, str], warm: Cli, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(finished[0], tmp_path / finished[0].name))
    state = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**state, "state": "training"}))
    shutil.rmtree(path / "adapter")
    for step in damaged:  # half of the optimiser's state is lost, and no library would notice
        optimiser = path / "checkpoints" / f"checkpoint-{step}" / "optimizer.pt"
        content = optimiser.read_bytes()
        optimiser.write_bytes(content[: len(content) // 4] + bytes(len(content) // 2) + content[-len(content) // 4 :])
    done = warm("run", *DEMO, "--runs", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    resumed, where = (6, "checkpoint-6") if len(damaged) == 1 else (None, "the beginning")
    assert done.stderr == "".join(
        f"note             {path}/checkpoints/checkpoint-{step}: optimizer.pt is not as it was written; training goes on from "
        f"{where}, and it is kept as set-aside/checkpoint-{step}\n"
        for step in damaged
    )
    assert json.loads((path / "run.json").read_text())["resumed_from_step"] == resumed
    assert losses(path) == losses(finished[0])
    weights = [(p / "adapter" / "adapter_model.safetensors").read_bytes() for p in (finished[0], path)]
    assert weights[0] == weights[1]


def test_fresh_starts_beside(finished: tuple[Path, str], tmp_path: Path) -> None:
    from medrecipes.recipe.load import load
    from medrecipes.runs.folder import run_path

    recipe = load(finished[0] / "recipe.toml").recipe
    assert run_path(recipe, finished[0].parent, fresh=False) == finished[0]
    assert run_path(recipe, finished[0].parent, fresh=True).name == f"{finished[0].name}-2"


MISTAKES = [
    (["run", "recipes/none.toml"], r"recipes/none\.toml: no such recipe"),
    (["run", "recipes/tiny_mistral.toml", "--set", "model.engine=unslot"], r"--set: model\.engine = 'unslot' is not one of auto, unsloth, trl; did you mean unsloth\?"),
    (["run", "recipes/tiny_mistral.toml", "--set", "data.path='nowhere'"], r"--set: data\.path = '.*nowhere' does not exist"),
    (["run", "recipes/tiny_mistral.toml", "--set", "train.optim=paged_adamw_8bit"], r"train\.optim = 'paged_adamw_8bit' needs a GPU; on a CPU set train\.optim = 'adamw_torch_fused'"),
    (["run", "recipes/tiny_mistral.toml", "--set", "model.bits=8"], r"model\.bits = 8: Unsloth on a CPU would load 16 bits instead"),
    (["run", "recipes/tiny_mistral.toml", "--set", "lora.targets=['q_porj']"], r"tiny_mistral: lora\.targets: 'q_porj' matches no module of this base; did you mean q_proj\?"),
    (["run", "recipes/tiny_mistral.toml", "--set", "model.base='tiny:mistrel'"], r"--set: model\.base = 'tiny:mistrel' is unknown; did you mean tiny:mistral\?"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "message"), MISTAKES, ids=[" ".join(c[-1:]) for c, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(command: list[str], message: str, warm: Cli, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done = warm(*command, "--runs", runs)
    assert done.returncode == 2
    assert re.match(message, done.stderr)
    assert done.stderr.count("\n") == 1
    assert not runs.exists()


def test_debug_shows_the_traceback(cli: Cli) -> None:
    done = cli("run", "recipes/none.toml", "--debug")
    assert "Traceback" in done.stderr


def test_a_place_that_cannot_be_written_is_one_line(warm: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = warm("run", "recipes/tiny_mistral.toml", "--runs", tmp_path / "file" / "runs")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot be written (Not a directory)" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_up_is_one_line(warm: Cli, tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine forbids mounting a small disk")
    try:
        done = warm("run", *DEMO, "--runs", tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot be written (No space left on device)" in done.stderr


def test_a_base_that_contradicts_the_recipe_is_told_before_its_weights_are_loaded(warm: Cli, tmp_path: Path) -> None:
    config = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "max_position_embeddings": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))  # and no weights at all
    done = warm("run", "recipes/tiny_mistral.toml", "--runs", tmp_path / "runs", "--set", f"model.base={tmp_path}",
               "--set", "eval.max_new_tokens=64", "--set", "lora.targets=['qproj']")  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2,
        "tiny_mistral: lora.targets: 'qproj' matches no module of this base; did you mean q_proj? (it has q_proj, k_proj, v_proj, "
        "o_proj, gate_proj, up_proj, down_proj, embed_tokens, lm_head)\n"
        "tiny_mistral: data.max_tokens = 256 is beyond the base's context of 128 tokens; lower it\n",
    )
    assert not (tmp_path / "runs").exists()
