"""Checkpoints: sealed once they are complete, and looked over before anything goes on from them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from medrecipes.core.errors import MedRecipesError
from medrecipes.core.files import MANIFEST, clear_left, damage, read_json, seal, write_json
from medrecipes.core.notes import note

STATE = "trainer_state.json"  # what transformers writes last of a checkpoint
NEEDED = ("adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "scheduler.pt", "rng_state*.pth")
UNSEALED = "has no hashes, so only the form of its files was looked at"
SET_ASIDE = "set-aside"  # the folder beside checkpoints for those that training cannot go on from


def step_of(checkpoint: Path) -> int:
    """The step that its name says."""
    return int(checkpoint.name.rpartition("-")[2])


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a run, the newest first."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-[0-9]{1,15}", path.name)]
    return sorted(found, key=step_of, reverse=True)


def seal_checkpoint(checkpoint: Path) -> None:
    """Write down what every file of a checkpoint is, and of which run and step it is."""
    seal(checkpoint, _said(checkpoint), times=False)


def flaw(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, or nothing: every byte against its hashes, or the form of its files if it has none."""
    if not checkpoint.is_dir():
        return "is missing"
    if is_sealed(checkpoint):
        return damage(checkpoint, _said(checkpoint), every_byte=True)
    try:
        state = read_json(checkpoint / STATE)
    except MedRecipesError:
        return f"{STATE} is missing or torn"
    if not isinstance(state, dict) or state.get("global_step") != step_of(checkpoint):
        return f"{STATE} is that of another step"
    for name in NEEDED:
        files = sorted(checkpoint.glob(name))
        if not files:
            return f"{name} is missing"
        for file in files:
            if not _has_form(file):
                return f"{file.name} is damaged"
    return ""


def is_sealed(checkpoint: Path) -> bool:
    """Whether it has hashes; those of earlier versions have none, nor has one whose process was killed at that moment."""
    return (checkpoint / MANIFEST).exists()


def looked_over(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every checkpoint of a run, the newest first, with what keeps training from going on from it, or nothing."""
    for checkpoint in checkpoints(folder):
        wrong = flaw(checkpoint)
        best = "" if wrong else read_json(checkpoint / STATE).get("best_model_checkpoint")
        if (
            best and Path(best).name != checkpoint.name
        ):  # which is loaded at the end, wherever the run folder lies by then
            wrong = flaw(folder / Path(best).name)
            wrong = f"the best before it, {Path(best).name}, cannot be loaded ({wrong})" if wrong else ""
        yield checkpoint, wrong


def step_back(folder: Path) -> Path | None:
    """The newest checkpoint that training can go on from; those after it are told of and set aside."""
    for checkpoint in checkpoints(folder):
        clear_left(checkpoint)  # of a process that was killed while it sealed it
    found = list(looked_over(folder))
    sound = next((checkpoint for checkpoint, wrong in found if not wrong), None)
    for checkpoint, wrong in found:
        if checkpoint == sound:
            break
        kept = ""
        if is_sealed(checkpoint) or (checkpoint / STATE).exists():  # or a killed process never finished it
            place = _free(folder / SET_ASIDE / checkpoint.name)
            place.parent.mkdir(exist_ok=True)
            checkpoint.rename(place)
            kept = f", and it is kept as {place.relative_to(folder)}"
        note(f"{checkpoint}: {wrong}; training goes on from {sound.name if sound else 'the beginning'}{kept}")
    if sound and not is_sealed(sound):
        note(f"{sound}: {UNSEALED}")
    return sound


def rebase(checkpoint: Path) -> None:
    """Let a checkpoint of a moved run folder name its best neighbour where that now lies; transformers keeps whole paths."""
    state = read_json(checkpoint / STATE)
    if best := state.get("best_model_checkpoint"):
        here = str(checkpoint.parent / Path(best).name)
        if here != best:
            sealed = is_sealed(checkpoint)
            write_json(checkpoint / STATE, {**state, "best_model_checkpoint": here})
            if sealed:
                seal_checkpoint(checkpoint)


def _free(place: Path) -> Path:
    """A place, or the next one by its name where something stands there already."""
    number, free = 2, place
    while free.exists():
        free, number = place.with_name(f"{place.name}-{number}"), number + 1
    return free


def _said(checkpoint: Path) -> dict[str, object]:
    """Which run and step a checkpoint is of."""
    run = checkpoint.parent.parent / "run.json"
    return {"step": step_of(checkpoint), "run": read_json(run).get("key") if run.exists() else None}


def _has_form(file: Path) -> bool:
    """Whether a file is as long as its own head says, and its checksums hold where it has some."""
    from safetensors import safe_open

    try:
        if file.suffix == ".json":
            read_json(file)
        elif file.suffix == ".safetensors":
            with safe_open(str(file), "np"):
                pass
        else:  # torch saves zip archives
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
    except Exception:  # each library raises its own kinds for what is torn
        return False
    return True
