"""What a comparison needs to know of a run, read from a run folder or from the artefacts that others publish."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrecipes.core.bounded_reading import read_text
from medrecipes.core.errors import DataError, RunError, reason, short, shown
from medrecipes.core.files import read_json
from medrecipes.evaluation.chat_report import TUNED, spoken
from medrecipes.recipe.overlay import read_table
from medrecipes.recipe.schema import leaves
from medrecipes.runs.folder import read_losses
from medrecipes.runs.loss_plot import Point
from medrecipes.scoring.predictions import Prediction, read_predictions
from medrecipes.scoring.tables import METRICS, show

UNKNOWN = "unknown"
VAST = 1e12  # no step, loss or count of a training reaches it
STATISTICS = ("train_loss", "train_runtime", "train_samples_per_second", "tokens", "peak_gb")
MOST_BYTES = 4_000_000  # of a resolved recipe
# what a loss covers, as plots and tables label it
COVERS = {
    "answers": "loss on answers only",
    "all": "loss on whole texts",
    "tags": "loss on the words' tags",
    UNKNOWN: "published losses, of what is not said",
}


@dataclass(frozen=True)
class History:
    """One run; `bits` turns its loss (nats a token) into bits per byte of answer, where that can be known."""

    name: str
    path: Path
    loss_on: str
    train: tuple[Point, ...]
    dev: tuple[Point, ...] = ()
    tokenizer: str | None = None
    bits: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] | None = None
    test: tuple[Prediction, ...] = ()
    state: str = UNKNOWN
    notes: tuple[str, ...] = ()


def read_history(path: Path) -> History:
    """A run folder, a CSV with `Step,Loss`, or a folder that holds one such CSV."""
    if (path / "run.json").exists():
        return _run(path)
    if path.is_dir():
        found = _published_files(path)
        if len(found) != 1:
            what = ", ".join(p.name for p in found) or "none"
            raise RunError(f"{path}: is no run folder and holds not one CSV with Step,Loss but {what}; name the file")
        return _published(found[0])
    if not path.exists():
        raise RunError(f"{path}: no such run; name a run folder, or a CSV with Step,Loss")
    return _published(path)


def _run(path: Path) -> History:
    """A run folder, of which other hands may have changed any file."""
    try:
        run = _whole_run(path)
        _require_numbers(run.stats)
        _require_finite(run.bits, "what a token of it is worth")
        if run.report:
            _require_finite(run.report, "a figure of its report")
            _as_shown(run.report)
        return run
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, csv.Error) as error:
        what = f"{type(error).__name__}: {reason(error)}"
        raise RunError(f"{path}: is damaged ({what}); `medrecipes verify {path}` says where") from None


def _require_finite(value: Any, what: str) -> None:
    """Raise for a number that is none."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _require_finite(inner, what)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{what} is {value}")


def _require_numbers(stats: Mapping[str, Any]) -> None:
    """Raise for a figure of a training that is shown and can be none."""
    for name in STATISTICS:
        value = stats.get(name)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < VAST
        ):
            raise ValueError(f"{name} is {shown(value, 40)}")


def _as_shown(report: Mapping[str, Any]) -> None:
    """Write a report's figures as the tables will, which fails here where they are none."""
    for name, figure in report[TUNED].items():
        if name in METRICS:
            show(name, figure)
    if "decoding" in report:
        spoken(report["decoding"])
    f"{report['rows']:,} {report['split']}"


def _whole_run(path: Path) -> History:
    state = read_json(path / "run.json")
    rows = read_losses(path / "loss.csv")
    recipe, _ = read_table(path / "recipe.toml", "a run's recipe", MOST_BYTES)
    if not any(row["split"] == "train" for row in rows):
        raise RunError(f"{path}: has no training loss yet; finish it with `medrecipes run` on its recipe")
    folder = path / "eval"
    report = read_json(folder / "report.json") if (folder / "report.json").exists() else None
    answers = read_predictions(folder / "predictions.jsonl", own=True) if report else []
    stats = read_json(path / "trainer_stats.json") if (path / "trainer_stats.json").exists() else {}
    train, dev = _points(rows)
    proofs = state.get("proofs", {})
    return History(
        name=path.resolve().name,
        path=path.resolve(),
        loss_on="tags" if recipe.get("task") == "tag" else recipe.get("train", {}).get("loss_on", "answers"),
        train=train,
        dev=dev,
        tokenizer=proofs.get("train", {}).get("tokenizer_sha256"),
        bits=_bits(path, stats),
        settings=dict(leaves(recipe)),
        stats={"peak_gb": state.get("peak_gb"), **stats},
        report=report,
        test=tuple(p for p in answers if p.model == TUNED),
        state=str(state.get("state", UNKNOWN)),
        notes=() if state.get("state") == "finished" else ("not finished: its figures are those so far",),
    )


def _points(rows: Sequence[Mapping[str, str]]) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Training and dev losses; the time of training is summed from tokens and throughput, looks at dev rows left out."""
    found: dict[str, list[Point]] = {"train": [], "dev": []}
    seconds, before = 0.0, 0
    for row in rows:
        tokens = int(row["tokens"] or 0)
        if row["split"] == "train" and row["tokens_per_second"]:
            seconds += (tokens - before) / float(row["tokens_per_second"])
            before = tokens
        found[row["split"]].append(_point(row["step"], row["loss"], tokens, seconds))
    return tuple(found["train"]), tuple(found["dev"])


def _point(step: str, loss: str, tokens: int | None = None, seconds: float | None = None) -> Point:
    """A loss at a step, of such sizes as trainings have."""
    point = Point(int(float(step)), float(loss), tokens, seconds)
    if not (0 <= point.step < VAST and abs(point.loss) < VAST and abs(tokens or 0) < VAST and abs(seconds or 0) < VAST):
        raise ValueError(f"step {short(step, 30)} with loss {short(loss, 30)}")
    return point


def _bits(path: Path, stats: Mapping[str, Any]) -> dict[str, float]:
    """For each split, bits per byte of answer that one nat a learned token is worth; of dev, on the rows that were evaluated."""
    counted = read_json(path / "data.json").get("tokens", {}) if (path / "data.json").exists() else {}
    if "dev_counts" in stats:
        counted = {**counted, "dev": stats["dev_counts"]}
    return {
        split: value["supervised"] / value["answer_bytes"] / math.log(2)
        for split, value in counted.items()
        if value["answer_bytes"]
    }


def _published_files(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.glob("*.csv")):
        with suppress(DataError):  # what cannot be read is no run, whatever else it is
            found += [path] if _columns(path) else []
    return found


def _lines(path: Path) -> list[str]:
    return read_text(path, "name a run folder, or a CSV with Step,Loss").splitlines(keepends=True)


def _columns(path: Path) -> dict[str, str]:
    """Which columns of a CSV hold step, training and dev loss; none if it is another kind of file."""
    try:
        head = next(csv.reader(_lines(path)), [])
    except csv.Error:
        return {}
    names = {name.strip().lower(): name for name in head}
    loss = names.get("loss") or names.get("training loss")
    if "step" not in names or not loss:
        return {}
    return {"step": names["step"], "train": loss} | (
        {"dev": names["validation loss"]} if "validation loss" in names else {}
    )


def _published(path: Path) -> History:
    """A CSV as notebooks export it, with the trainer's statistics beside it."""
    columns = _columns(path)
    if not columns:
        raise RunError(f"{path}: is no run: it has no columns Step and Loss; name a run folder or such a CSV")
    points: dict[str, list[Point]] = {"train": [], "dev": []}
    try:
        rows = list(csv.DictReader(_lines(path)))
    except csv.Error as error:
        raise RunError(f"{path}: broken CSV ({error}); mend it there") from None
    for number, row in enumerate(rows, 2):
        for split in points:
            if not (text := (row.get(columns.get(split, "")) or "").strip()) or text == "No log":
                continue
            try:
                points[split].append(_point(row[columns["step"]], text))
            except (TypeError, ValueError, OverflowError):
                raise RunError(f"{path}:{number}: step or loss is no number; correct or delete this line") from None
    if not points["train"]:
        raise RunError(f"{path}: holds no training loss; name a CSV with at least one row of Step and Loss")
    stats, notes = _statistics(path)
    steps, runtime = points["train"][-1].step, stats.get("train_runtime")
    if runtime and steps > 0:
        notes.append("its time is train_runtime spread evenly over its steps")
        points = {
            split: [Point(p.step, p.loss, None, runtime * p.step / steps) for p in found]
            for split, found in points.items()
        }
    name = path.stem.removesuffix("_loss") if path.stem not in ("loss", "losses") else path.resolve().parent.name
    notes.append("published figures: tokenizer, test set and what the loss covers are not known")
    return History(
        name, path.resolve(), UNKNOWN, tuple(points["train"]), tuple(points["dev"]), stats=stats, state="published",
        notes=tuple(notes),
    )  # fmt: skip


def _statistics(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The trainer_stats.json of a CSV: the one that bears its name, or the only one beside the only CSV."""
    own = path.with_name(f"trainer_stats_{path.stem.removesuffix('_loss')}.json")
    shared = path.with_name("trainer_stats.json")
    if own.exists():
        found = own
    elif shared.exists() and len(_published_files(path.parent)) == 1:
        found = shared
    else:
        why = (
            f"{shared.name} stands beside several CSVs and may be of any"
            if shared.exists()
            else "no trainer_stats.json"
        )
        return {}, [f"{why}: time and throughput are not known"]
    value = read_json(found)
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1]  # transformers' TrainOutput, written as the tuple that it is
    if not isinstance(value, dict):
        raise RunError(f"{found}: is no table of statistics; correct or delete it")
    try:
        _require_numbers(value)
    except ValueError as error:
        raise RunError(f"{found}: {error}, which is no figure of a training; correct or delete it") from None
    return value, []
