"""Checkpoints under attack: a damaged one is named, and training goes on from the one before it with the same losses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import SpoiledError
from medrecipes.core.files import MANIFEST
from medrecipes.runs.checkpoints import SET_ASIDE, flaw, is_sealed, rebase, seal_checkpoint, step_back
from medrecipes.runs.folder import LOSS_COLUMNS, LossLog, last_checkpoint, read_losses
from tests.attack.harness import attack, fingerprint, refused
from tests.attack.test_store import Harm, cut, flip, instead, manifest, put, say, swapped, zero
from tests.conftest import DEMO, ROOT
from tests.test_line import losses

ADAPTER, OPTIMISER, SCHEDULER, RANDOM, STATE = (
    "adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json",
)  # fmt: skip
FILES = (ADAPTER, OPTIMISER, SCHEDULER, RANDOM, STATE)


def make(run: Path, *, best: int = 12, sealed: bool = True) -> Path:
    """A run folder with checkpoints 6 and 12, as training leaves them, but small; returned: where they lie."""
    import torch
    from safetensors.torch import save_file

    folder = run / "checkpoints"
    for step in (6, 12):
        here = folder / f"checkpoint-{step}"
        here.mkdir(parents=True)
        save_file({"base_model.lora_A.weight": torch.full((8, 8), float(step))}, here / ADAPTER)
        torch.save({"state": {0: torch.full((64,), float(step))}}, here / OPTIMISER)
        torch.save({"last_epoch": step}, here / SCHEDULER)
        torch.save({"cpu": torch.full((64,), float(step))}, here / RANDOM)
        (here / "adapter_config.json").write_text('{"r": 8}')
        chosen = {"best_model_checkpoint": str(folder / f"checkpoint-{min(best, step)}"), "best_global_step": best}
        (here / STATE).write_text(json.dumps({"global_step": step, "log_history": [{"loss": 2.5}], **chosen}))
    (run / "run.json").write_text('{"state": "training", "key": "k1", "split_key": "s"}')
    for step in (6, 12) if sealed else ():
        seal_checkpoint(folder / f"checkpoint-{step}")
    return folder


def copied(name: str) -> Harm:
    """A file of the other checkpoint in the place of this one's."""
    return lambda here: shutil.copy(here.with_name("checkpoint-6") / name, here / name)


def another_run(here: Path) -> None:
    """The checkpoint of another recipe's run, whole, with its own seal."""
    other = make(here.parent.parent / "other") / here.name
    (other.parent.parent / "run.json").write_text('{"key": "k2"}')
    seal_checkpoint(other)
    shutil.rmtree(here)
    shutil.copytree(other, here)


def another_step(here: Path) -> None:
    """The earlier checkpoint, whole, with its own seal, under the later one's name."""
    shutil.rmtree(here)
    shutil.copytree(here.with_name("checkpoint-6"), here)


# found with hashes and without
FORM: dict[str, Harm] = {
    **{f"{name} cut short": cut(name, 100) for name in FILES},
    **{f"{name} empty": cut(name, 0) for name in FILES},
    **{f"{name} gone": (lambda here, name=name: (here / name).unlink()) for name in FILES},
    **{f"zeros in {name}": zero(name, 0, 200) for name in FILES},
    "the head of the adapter altered": flip(ADAPTER, 4),
    "trainer_state of another step": copied(STATE),
    "adapter_config gone": lambda here: (here / "adapter_config.json").unlink(),
    "optimiser and scheduler a link to nothing": instead(OPTIMISER, lambda path: path.symlink_to("gone")),
    "all of an earlier step": another_step,
}  # fmt: skip
# found by the hashes alone
HASHED: dict[str, Harm] = {
    "a bit of the adapter": flip(ADAPTER, -3),
    "a bit of the optimiser": flip(OPTIMISER, 700),
    "zeros in a tensor": zero(ADAPTER, -100),
    **{f"{name} of the checkpoint before": copied(name) for name in (ADAPTER, OPTIMISER, SCHEDULER, RANDOM)},
    "optimiser and scheduler swapped": swapped(OPTIMISER, SCHEDULER),
    "adapter_config altered": say('"r": 8', '"r": 4', "adapter_config.json"),
    "another loss in trainer_state": say("2.5", "1.5", STATE),
    "a pickle put there": put("adapter_model.bin", "cos\nsystem\n"),
    "manifest cut short": cut(MANIFEST, 60),
    "manifest edited": manifest(lambda value: value["files"].pop(ADAPTER)),
    "manifest a pipe": instead(MANIFEST, os.mkfifo),
    "all of another run": another_run,
}


@pytest.mark.parametrize("sealed", [True, False], ids=["with hashes", "without"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    sealed: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], record_property: Any
) -> None:
    harms = FORM | HASHED if sealed else FORM
    for number, (what, harm) in enumerate(harms.items()):
        folder = make(tmp_path / str(number), sealed=sealed)
        before, last = folder / "checkpoint-6", folder / "checkpoint-12"
        assert last_checkpoint(folder) == last
        harm(last)
        assert last_checkpoint(folder) == before, what
        capfd.readouterr()
        assert step_back(folder) == before, what
        told = capfd.readouterr().err.splitlines()
        assert told[0].startswith(f"note             {last}: "), (what, told)
        assert "; training goes on from checkpoint-6" in told[0], (what, told)
        assert len(told) == (1 if sealed else 2), (what, told)
        # nothing newer stands in the way of what training saves next, and nothing is lost
        assert not last.exists() or not (last / STATE).exists(), what
        if not last.exists():
            assert (folder / SET_ASIDE / "checkpoint-12").is_dir()
            assert f"it is kept as {SET_ASIDE}/checkpoint-12" in told[0]
        assert step_back(folder) == before
    record_property("attacks", ("damaged checkpoints", len(harms)))


def test_a_damaged_best_checkpoint_is_named_and_training_begins_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], record_property: Any
) -> None:
    harms = {name: harm for name, harm in (FORM | HASHED).items() if name not in ("all of an earlier step", "trainer_state of another step") and "before" not in name}  # fmt: skip
    for number, (what, harm) in enumerate(harms.items()):
        folder = make(tmp_path / str(number), best=6)
        harm(folder / "checkpoint-6")
        assert last_checkpoint(folder) is None, what
        capfd.readouterr()
        assert step_back(folder) is None, what
        first, second = capfd.readouterr().err.splitlines()
        assert first.startswith(
            f"note             {folder}/checkpoint-12: the best before it, checkpoint-6, cannot be loaded ("
        )
        assert second.startswith(f"note             {folder}/checkpoint-6: ")
        assert "; training goes on from the beginning" in first
        assert list(folder.glob("checkpoint-*")) == [], what
    record_property("attacks", ("damaged checkpoints", len(harms)))


def test_nobody_talks_with_a_damaged_checkpoint(tmp_path: Path, record_property: Any) -> None:
    commands: tuple[Callable[[Path], tuple[object, ...]], ...] = (
        lambda run: ("chat", run, "--checkpoint", "12"),
        lambda run: ("eval", run, "--checkpoint", "12"),
    )
    harms = {name: (FORM | HASHED)[name] for name in (f"{ADAPTER} cut short", f"{ADAPTER} gone", "zeros in a tensor", "all of another run")}  # fmt: skip
    for number, (what, harm) in enumerate(harms.items()):
        run = tmp_path / str(number)
        folder = make(run)
        (run / "adapter").mkdir()
        (run / "adapter" / "adapter_config.json").write_text("{}")
        (run / "recipe.toml").write_text(f"extends = '{Path(__file__).parents[2]}/recipes/tiny_mistral.toml'\n")
        (run / "run.json").write_text('{"state": "finished", "key": "k1", "split_key": "s"}')
        harm(folder / "checkpoint-12")
        for command in commands:
            told = attack(*command(run), cwd=tmp_path)
            refused(told, f"{folder}/checkpoint-12: ", "; bring it back, or choose another: 6")
            assert told.err.count("\n") == 1, (what, told.err)
    record_property("attacks", ("damaged checkpoints", 2 * len(harms)))


def test_odd_names_beside_checkpoints_are_left_alone(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    for name in (
        "checkpoint-",
        "checkpoint-x",
        "checkpoint-12-old",
        "checkpoint-1²",
        f"checkpoint-{'9' * 40}",
        "other",
    ):
        (folder / name).mkdir()
    (folder / "checkpoint-18").write_text("")
    assert last_checkpoint(folder) == folder / "checkpoint-12"
    assert len(list(folder.iterdir())) == 9


def test_a_moved_checkpoint_names_its_best_anew_and_stays_sealed(tmp_path: Path) -> None:
    make(tmp_path / "before", best=6)
    (tmp_path / "before").rename(tmp_path / "after")
    last = tmp_path / "after" / "checkpoints" / "checkpoint-12"
    assert last_checkpoint(last.parent) == last
    rebase(last)
    assert json.loads((last / STATE).read_text())["best_model_checkpoint"] == str(last.with_name("checkpoint-6"))
    assert is_sealed(last)
    assert flaw(last) == ""
    time.sleep(0.01)
    before = (last / MANIFEST).read_bytes()
    os.utime(last / ADAPTER)  # times say nothing of a checkpoint, which is copied from machine to machine
    assert flaw(last) == ""
    assert (last / MANIFEST).read_bytes() == before


HEAD = ",".join(LOSS_COLUMNS)
ROW = "{},0.5,train,2.5,0.001,1.0,100,50,10.0,0.5"
LOSSES: dict[str, Any] = {
    "a line cut short in the middle": lambda lines: [*lines[:2], lines[2][:9], *lines[3:]],
    "zeros": lambda lines: [*lines[:2], "\0" * 40, *lines[3:]],
    "a loss that is no number": lambda lines: [*lines[:2], lines[2].replace("2.5", "low"), *lines[3:]],
    "a step that is none": lambda lines: [*lines[:2], lines[2].replace("2,", "x,", 1), *lines[3:]],
    "a column more": lambda lines: [*lines[:2], f"{lines[2]},1", *lines[3:]],
    "another file": lambda lines: ["Step,Loss", "1,2.5", "2,2.25"],
    "not UTF-8": lambda lines: [*lines[:2], "\udcff", *lines[3:]],
}


def test_a_spoiled_log_of_losses_is_never_gone_on_with(tmp_path: Path, record_property: Any) -> None:
    path = tmp_path / "loss.csv"
    lines = [HEAD, *(ROW.format(step) for step in range(1, 5))]
    for what, change in LOSSES.items():
        path.write_text("\n".join(change(lines)) + "\n", errors="surrogateescape")
        with pytest.raises(SpoiledError, match="loss\\.csv"):
            LossLog(path, 4)
        assert what
    for torn in range(1, len(lines[-1])):  # as a killed process leaves it
        path.write_text("\n".join([*lines[:-1], lines[-1][:torn]]))
        assert [row["step"] for row in read_losses(path)][:3] == ["1", "2", "3"]
    record_property("attacks", ("spoiled logs", len(LOSSES)))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\0" * 50, "[" * 100_000, '{"state": "finished"'])
def test_a_spoiled_state_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(text)
    before = fingerprint(tmp_path)
    for command in (("eval", "run"), ("chat", "run"), ("export", "run", "--format", "adapter"), ("publish", "run"), ("verify", "run")):  # fmt: skip
        refused(attack(*command, cwd=tmp_path), "run.json: is not what a run wrote; bring the file back")
    assert fingerprint(tmp_path) == before


# a run that kills itself right before the n-th change that it makes in its folder
KILLED = """
import os, signal, sys
left, place = int(sys.argv[1]), sys.argv[2]

def watch(event, details):
    global left
    written = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
    if (written or event in ("os.mkdir", "os.rename", "os.remove", "shutil.rmtree")) and str(details[0]).startswith(place):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
from medrecipes.commands import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_ends_as_one_that_is_not(
    tiny_run: Path, tmp_path: Path, record_property: Any
) -> None:
    place, kills = tmp_path / tiny_run.name, 0
    command = [sys.executable, "-c", KILLED]
    for step in (3, 20, 45, 75, 110, 150, 200, 260, 330, 420):
        done = subprocess.run(
            [*command, str(step), str(place), "run", *DEMO, "--runs", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
    else:
        done = subprocess.run([*command, "0", str(place), "run", *DEMO, "--runs", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert kills >= 5
    assert losses(place) == losses(tiny_run)
    for name in ("adapter/adapter_model.safetensors", "eval/report.json"):
        assert (place / name).read_bytes() == (tiny_run / name).read_bytes()
    predictions = [sorted((run / "eval" / "predictions.jsonl").read_text().splitlines()) for run in (place, tiny_run)]
    assert predictions[0] == predictions[1]
    assert list(place.rglob(".medrecipes*")) == []
    record_property("attacks", ("kills", kills))
