"""Runs found and listed: state, progress, figures, age and size of each, read from its files alone; and their removal."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medrecipes.core.bounded_reading import read_text
from medrecipes.core.errors import MedRecipesError, RunError
from medrecipes.core.files import SCRATCH, read_json, scratch
from medrecipes.recipe.overlay import read_table
from medrecipes.runs.folder import LOCK, RunDir, holding, read_losses
from medrecipes.scoring.tables import METRICS, aligned, show

FIRST = ("bits_per_byte", "span_f1", "micro_f1")  # the figure that a run is listed with: the first of these that it has
RECENT = 20  # steps whose pace is that of the rest
MOST_BYTES = 4_000_000  # of a run's recipe
# all that commands and trackers of ours write at the top of a run folder
OURS = re.compile(
    rf"recipe\.toml|run\.json|data\.json|loss\.(csv|png)|trainer_stats\.json|samples\.jsonl|bad_rows\.json|log\.txt|README\.md|report\.html|"
    rf"adapter|checkpoints|eval(-.*)?|export|tensorboard|mlflow|trackio|wandb|{re.escape(LOCK)}|{re.escape(SCRATCH)}.*"
)


@dataclass(frozen=True)
class Listed:
    """A run as its files have it; None where they do not say."""

    name: str
    path: Path
    state: str
    base: str = ""
    task: str = "chat"
    by: str = ""  # the process that is at work there
    step: int | None = None
    steps: int | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    figure: str = ""
    of_base: str = ""
    tuned: str = ""
    age_s: float = 0.0
    size: int = 0

    @property
    def said(self) -> str:
        """The state in a word or two, with how far a training is."""
        if self.step is not None and self.state == "training":
            done = f"step {self.step:,} of {self.steps:,}" if self.steps else f"step {self.step:,}"
            return f"training, {done}" if self.by else f"stopped at {done}"
        return self.state if self.by or self.state in ("finished", "damaged") else f"stopped ({self.state})"

    @property
    def figures(self) -> str:
        """The figure of the base and of the tuned model, e.g. `bits per byte of answer 0.895 -> 0.627`."""
        return f"{self.figure} {self.of_base} -> {self.tuned}" if self.figure else ""

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "path": str(self.path), "age_s": round(self.age_s)}


def list_runs(folder: Path) -> list[Listed]:
    """All runs of a folder, those that changed last first."""
    paths = [path.parent for path in folder.glob("*/run.json")] if folder.is_dir() else []
    return sorted(map(look, paths), key=lambda run: (run.age_s, run.name))


def look(path: Path) -> Listed:
    """One run; what is damaged in it is left out, and said to be."""
    changed = max((file.stat().st_mtime for name in ("run.json", "loss.csv") if (file := path / name).exists()), default=0.0)  # fmt: skip
    about: dict[str, Any] = {"name": path.name, "path": path, "age_s": max(0.0, time.time() - changed), "size": size(path), "by": at_work(path)}  # fmt: skip
    try:
        state = RunDir(path, writes=False).state
        recipe, _ = read_table(path / "recipe.toml", "a run's recipe", MOST_BYTES)
        losses = read_losses(path / "loss.csv")
        about |= {"state": str(state.get("state", "preparing")), "task": str(recipe.get("task", "chat"))}
        about["base"] = str(recipe.get("model", {}).get("base", ""))
        return Listed(**about, **_progress(recipe.get("train", {}), losses), **_figure(path / "eval" / "report.json"))
    except (MedRecipesError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return Listed(**(about | {"state": "damaged"}))


def _progress(train: Mapping[str, Any], losses: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """How far a training is, how fast it went last, and how long the rest takes at that pace, evaluations left out."""
    steps = [row for row in losses if row["split"] == "train"]
    if not steps:
        return {}
    step, epoch = int(steps[-1]["step"]), float(steps[-1]["epoch"] or 0)
    whole = train.get("max_steps") or (math.ceil(step / epoch * train.get("epochs", 1.0)) if epoch else None)
    paced = [row for row in steps[-RECENT:] if row["tokens_per_second"]]
    if len(paced) < 2:
        return {"step": step, "steps": whole}
    tokens = [int(row["tokens"]) for row in paced]
    took = sum((now - before) / float(row["tokens_per_second"]) for before, now, row in zip(tokens, tokens[1:], paced[1:], strict=False))  # fmt: skip
    rate = (tokens[-1] - tokens[0]) / took if took else None
    per_step = took / (int(paced[-1]["step"]) - int(paced[0]["step"]))
    return {"step": step, "steps": whole, "tokens_per_second": rate, "seconds_left": (whole - step) * per_step if whole else None}  # fmt: skip


def _figure(report: Path) -> dict[str, Any]:
    """The first figure of a report, of base and tuned model."""
    found = read_json(report) if report.exists() else {}
    name = next((name for name in FIRST if name in found.get("tuned", {}) and name in found.get("base", {})), None)
    if name is None:
        return {}
    base, tuned = (show(name, found[model][name]).partition(" [")[0] for model in ("base", "tuned"))
    return {"figure": METRICS[name][0], "of_base": base, "tuned": tuned}


def answers(path: Path, count: int) -> list[dict[str, str]]:
    """The last answers of a run: of the tuned model to held-out questions, else to the prompts of its checkpoints."""
    for name in ("eval/predictions.jsonl", "samples.jsonl"):
        found = []
        for line in _tail(path / name):
            with suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict):
                    found.append({"question": str(row.get("prompt", row.get("question", ""))), "answer": str(row.get("prediction", row.get("answer", ""))), "by": str(row.get("model", f"step {row.get('step')}"))})  # fmt: skip
        if found:
            return found[-count:][::-1]
    return []


def _tail(path: Path, most: int = 1 << 16) -> list[str]:
    """The last whole lines of a file that grows."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            lines = file.read(most).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return lines[1:] if size > most else lines


def at_work(path: Path) -> str:
    """The process that holds a run folder, as its lock names it; nothing where that process is gone."""
    with suppress(MedRecipesError):
        said = read_text(path / LOCK, "")[:200] if (path / LOCK).is_file() else ""
        found = re.fullmatch(r"process ([0-9]{1,9}) on (.*)", said)
        if found and (found[2] != platform.node() or _alive(int(found[1]))):
            return said
    return ""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def size(path: Path) -> int:
    """The bytes of all files in a folder; links count for themselves."""
    found = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                found += Path(folder, name).lstat().st_size
    return found


def require_removable(path: Path) -> None:
    """Raise for what is no run folder of ours, or holds what no run wrote."""
    if path.is_symlink():
        raise RunError(f"{path}: is a link; name the run folder itself")
    if not (path / "run.json").is_file():
        raise RunError(f"{path}: is no run folder; `medrecipes runs` lists those there are")
    state = RunDir(path, writes=False).state
    if not (isinstance(state.get("key"), str) and isinstance(state.get("name"), str) and (path / "recipe.toml").is_file()):  # fmt: skip
        raise RunError(f"{path}: its run.json is not what a run wrote; delete the folder yourself if you know what it is")  # fmt: skip
    if foreign := sorted(entry.name for entry in path.iterdir() if not OURS.fullmatch(entry.name)):
        raise RunError(f"{path / foreign[0]}: was not written by a run and would be lost; move it away first")


def remove(path: Path) -> None:
    """Delete a run folder that nobody writes to: it is gone in one step, or still there."""
    with holding(path), scratch(path.name, path.parent) as work:
        require_removable(path)
        path.rename(work / "run")


def table(runs: Sequence[Listed]) -> list[str]:
    """The runs as aligned lines."""
    head = ["run", "state", "figures, base -> tuned", "tokens/s", "left", "changed", "size"]
    rows = [
        [
            run.name, run.said, run.figures, f"{run.tokens_per_second:,.0f}" if run.tokens_per_second else "",
            lasting(run.seconds_left) if run.by and run.seconds_left is not None else "", f"{lasting(run.age_s)} ago", in_words(run.size),
        ]
        for run in runs
    ]  # fmt: skip
    return aligned([head, *rows])


def lasting(seconds: float) -> str:
    """A time as a person says it, e.g. `3 min`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def in_words(size: float) -> str:
    """A size as a person says it, e.g. `34 MB`."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
