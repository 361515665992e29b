"""Predictions files: a line of JSON an answer, read back with every mistake named by its line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from medrecipes.core.bounded_reading import SURROGATE, JsonError, loads, read_text
from medrecipes.core.errors import DataError, did_you_mean, short
from medrecipes.data.bio_tags import Span
from medrecipes.scoring.entities import TASKS, as_text, parse
from medrecipes.scoring.spans import Tagging

AGAIN = "bring the file back, or let `medrecipes eval RUN` answer again what is missing"
QA = "qa"
SPANS = "spans"  # tagged words: a line a span, see `spans_text`
# how the public prompts call it, and how people abbreviate
ALIASES = {"influences": "relations", "chemical": "chemicals", "disease": "diseases", "relation": "relations"}
REQUIRED = ("id", "group", "task", "prompt", "gold", "prediction")
# what may stand beside them, with its types
MEASURED: dict[str, tuple[type, ...]] = {
    "model": (str,), "stopped": (bool,), "tokens": (int,), "limit": (int,), "bits": (float, int), "bytes": (int,),
    "reasoning_tokens": (int,), "reasoning_finished": (bool,),
}  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """One answer with what scoring needs; what a model measured besides (bits, tokens, whether it stopped) may be absent."""

    id: str
    group: str
    task: str
    prompt: str
    gold: str
    prediction: str
    model: str = ""
    stopped: bool | None = None
    tokens: int | None = None
    limit: int | None = None
    bits: float | None = None
    bytes: int | None = None
    reasoning_tokens: int | None = None  # of the thought before the answer, where there was one, and whether it ended
    reasoning_finished: bool | None = None

    def line(self) -> str:
        """A line of predictions.jsonl, silent on reasoning where there was none."""
        values = {name: value for name, value in asdict(self).items() if value is not None or "reasoning" not in name}
        return json.dumps(values, ensure_ascii=False) + "\n"


def read_predictions(path: Path, *, own: bool = False) -> list[Prediction]:
    """All lines of a predictions file; `own`: one that a run of ours wrote, all of whose lines end with a line end."""
    lines = read_text(path, "name a predictions file, a line of JSON an answer").split("\n")
    if own and lines[-1]:
        raise DataError(f"{path}:{len(lines)}: is torn; {AGAIN}")
    found: list[Prediction] = []
    seen: dict[tuple[str, str, str], int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        prediction = read_prediction(f"{path}:{number}", line, own=own)
        key = prediction.model, prediction.task, prediction.id
        if key in seen:
            raise DataError(
                f"{path}:{number}: id {prediction.id!r} stands in line {seen[key]} already; {AGAIN if own else 'delete one'}"
            )
        seen[key] = number
        found.append(prediction)
    return found


def one_model(path: Path, predictions: Sequence[Prediction], model: str | None) -> list[Prediction]:
    """The answers of one model: a run's own file holds those of base and tuned."""
    models = list(dict.fromkeys(p.model for p in predictions))
    if not predictions:
        raise DataError(f"{path}: holds no prediction; write one line of JSON an answer")
    if model is None and len(models) > 1:
        raise DataError(f"{path}: holds the answers of {' and '.join(models)}; choose with --model {models[-1]}")
    if model is not None and model not in models:
        raise DataError(f"{path}: no line has model {model!r}{did_you_mean(model, filter(None, models))}")
    return [p for p in predictions if model is None or p.model == model]


def read_prediction(where: str, line: str, *, own: bool) -> Prediction:
    """One line; what is wrong with it is said with its place."""
    try:
        value: Any = loads(line)
    except JsonError as error:
        raise DataError(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: is no JSON object; write {{{', '.join(REQUIRED)}}}")
    for name in REQUIRED:
        if value.get(name) is None:
            raise DataError(f"{where}: {name} is missing; every line needs {', '.join(REQUIRED)}")
    task = ALIASES.get(value["task"], value["task"]) if isinstance(value["task"], str) else value["task"]
    if task not in (QA, SPANS, *TASKS):
        hint = did_you_mean(str(task), (QA, SPANS, *TASKS))
        raise DataError(f"{where}: task {task!r} is unknown{hint}")
    listed = task in TASKS
    texts = {name: _text(where, name, value[name], listed) for name in REQUIRED if name != "task"}
    if listed and not own and (failures := parse(task, texts["gold"]).failures):
        raise DataError(f"{where}: gold holds {failures[0]!r}, which is no item of task {task}; write '- item' a line")
    if task == SPANS:
        for name in ("gold", "prediction"):
            _check_spans(where, name, texts[name], len(texts["prompt"].split(" ")))
    if task == QA and not own and not texts["gold"].strip():
        raise DataError(f"{where}: gold is empty, so there is nothing to compare with; fill it in or delete the line")
    if half := next((text for text in texts.values() if SURROGATE.search(text)), None):
        raise DataError(f"{where}: {_shown(half)} holds half a character; write it whole, or delete it")
    measured: dict[str, Any] = {name: value[name] for name in MEASURED if value.get(name) is not None}
    for name, given in measured.items():
        kinds = MEASURED[name]
        if not isinstance(given, kinds) or (isinstance(given, bool) and bool not in kinds):
            raise DataError(f"{where}: {name} is {_shown(given)}; it must be {kinds[0].__name__}, or left out")
        if isinstance(given, int | float) and not 0 <= given <= 2**53:  # beyond, floats skip numbers
            raise DataError(f"{where}: {name} is {_shown(given)}, which no measurement gives; correct it, or leave it out")  # fmt: skip
    return Prediction(
        texts["id"], texts["group"], task, texts["prompt"], texts["gold"], texts["prediction"], **measured
    )


def spans_text(tokens: Sequence[str], spans: Iterable[Span]) -> str:
    """Spans as a predictions file holds them: type, first and last word (from 0), text; a line each, parted by tabs."""
    return "\n".join(
        f"{span.type}\t{span.start}\t{span.end - 1}\t{' '.join(tokens[span.start : span.end])}"
        for span in sorted(spans)
    )


def read_spans_text(text: str) -> tuple[Span, ...]:
    """The spans that such lines state."""
    cells = (line.split("\t") for line in text.split("\n") if line.strip())
    return tuple(Span(int(cell[1]), int(cell[2]) + 1, cell[0]) for cell in cells)


def as_taggings(predictions: Iterable[Prediction]) -> list[Tagging]:
    """Rows of task `spans` as they are scored."""
    return [
        Tagging(p.id, p.group, tuple(p.prompt.split(" ")), read_spans_text(p.gold), read_spans_text(p.prediction))
        for p in predictions
    ]


def _check_spans(where: str, name: str, text: str, words: int) -> None:
    try:
        spans = read_spans_text(text)
    except (ValueError, IndexError):
        raise DataError(
            f"{where}: {name} is no list of spans; write type, first and last word, parted by tabs"
        ) from None
    for span in spans:
        if not 0 <= span.start < span.end <= words:
            place = " to ".join(short(str(number), 20) for number in (span.start, span.end - 1))
            raise DataError(f"{where}: {name} has a span of words {place}, but there are {words}; count words from 0")
        if not span.type.strip():
            raise DataError(f"{where}: {name} has a span of words {span.start} to {span.end - 1} without a type; name it before them")  # fmt: skip
    for one, other in pairwise(sorted(spans)):
        if other.start < one.end:
            raise DataError(f"{where}: {name} has spans that overlap, words {one.start} to {one.end - 1} and {other.start} to {other.end - 1}; keep one of them")  # fmt: skip


def _text(where: str, name: str, value: Any, listed: bool) -> str:
    if isinstance(value, str):
        return value
    if name in ("id", "group") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if name in ("gold", "prediction") and listed and isinstance(value, list) and all(map(_is_item, value)):
        return as_text(value)
    raise DataError(f"{where}: {name} is {_shown(value)}; it must be a text{' or a list of texts' if listed else ''}")


def _is_item(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    return isinstance(value, str) or pair


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def groups(predictions: Iterable[Prediction]) -> list[str]:
    """The group of each row, as intervals need it."""
    return [p.group for p in predictions]
