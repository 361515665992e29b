"""`medrecipes tag RUN TEXT`: a finished tagging run marks entities in texts of one's own, each with its place in the text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rich.text import Text

from medrecipes.core.bounded_reading import SURROGATE, JsonError, loads, open_whole
from medrecipes.core.console import Console
from medrecipes.core.errors import DataError, RunError
from medrecipes.core.files import cache_root
from medrecipes.data.bio_tags import OUTSIDE
from medrecipes.data.records import Tagged
from medrecipes.data.segment import sentences, words
from medrecipes.data.sources._files import Blob, lines
from medrecipes.evaluation.finished_run import open_run
from medrecipes.rendering.word_windows import decode, gather

if TYPE_CHECKING:
    from medrecipes.engines.trainer.tags import Tagger

COLOURS = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta",
           "black on orange1", "black on bright_red")  # fmt: skip
WANTED = 'name a file of JSON lines {"text": …}, or of a text a line'
AT_ONCE = 256  # texts tagged together: enough to fill batches, few enough to show results as they come


@dataclass(frozen=True)
class Found:
    """An entity in a text: `text[start:end]`."""

    start: int
    end: int
    text: str
    type: str
    probability: float


def open_tagger(path: Path) -> Tagger:
    """The model of a finished tagging run, with its adapter."""
    run = open_run(path)
    if not run.tags:
        raise RunError(
            f"{path}: is a run of conversations, which tags no words; name a run of a recipe with task = 'tag'"
        )
    return run.open_tagger(run.own, run.adapter())


def tag_texts(engine: Tagger, texts: Sequence[str]) -> list[list[Found]]:
    """The entities of each text, in their order; texts are cut as the run's rows were."""
    whole = engine.recipe.tag.unit == "document"
    rows: list[Tagged] = []
    places: list[tuple[int, list[tuple[int, int]]]] = []
    for number, text in enumerate(texts):
        for start, end in [(0, len(text))] if whole else sentences(text):
            at = words(text, start, end)
            if at:
                rows.append(Tagged(str(len(rows)), "", tuple(text[a:b] for a, b in at), (OUTSIDE,) * len(at)))
                places.append((number, at))
    windows = engine.windows(rows)
    found: list[list[Found]] = [[] for _ in texts]
    for (number, at), said in zip(places, gather(len(rows), windows, list(engine.predict(windows))), strict=True):
        decoded = decode(said, engine.labels)
        for span, probability in zip(decoded.spans, decoded.probabilities, strict=True):
            start, end = at[span.start][0], at[span.end - 1][1]
            found[number].append(Found(start, end, texts[number][start:end], span.type, round(probability, 4)))
    return found


def read_texts(given: Sequence[str], file: Path | None) -> Iterator[dict[str, Any]]:
    """The texts to tag as rows with a `text`: those given, a file's (JSON lines, or a text a line), or standard input's."""
    if given and file:
        raise DataError("tag: give TEXT or --file, not both")
    if given:
        yield from ({"text": text} for text in given)
    elif file:
        yield from _rows(file)
    elif sys.stdin.isatty():
        raise DataError("tag: nothing to tag; give TEXT, --file FILE, or a text on standard input")
    else:
        yield from ({"text": line.rstrip("\r\n")} for line in sys.stdin)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    blob = Blob(str(file), PurePosixPath(file.name), partial(open_whole, file, WANTED))
    with blob.open() as content:
        for number, line in enumerate(lines(blob, content), 1):
            if blob.suffix != ".jsonl":
                yield {"text": line.rstrip("\r\n")}
            elif line.strip():
                yield _row(f"{file}:{number}", line)


def _row(where: str, line: str) -> dict[str, Any]:
    try:
        row = loads(line)
    except JsonError as error:
        raise DataError(f"{where}: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise DataError(f'{where}: has no text; write {{"text": "…"}}')
    if SURROGATE.search(row["text"]):
        raise DataError(f"{where}: text holds half a character; write it whole, or delete it")
    return row


def tag(path: Path, given: Sequence[str], file: Path | None, console: Console, *, as_json: bool = False) -> None:
    """Tag and print: coloured text with a line an entity, or a line of JSON a text, other columns kept."""
    rows = list(read_texts(given, file))
    with console.quiet(cache_root() / "log.txt"):
        engine = open_tagger(path)
    types = sorted({label[2:] for label in engine.labels if label != OUTSIDE})
    colours = {type: COLOURS[i % len(COLOURS)] for i, type in enumerate(types)}
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        for row, found in zip(part, tag_texts(engine, [row["text"] for row in part]), strict=True):
            if as_json:
                line = {**row, "spans": [asdict(one) for one in found]}
                console.line(json.dumps(line, ensure_ascii=False))
            else:
                show(row["text"], found, colours, console)


def show(text: str, found: Sequence[Found], colours: dict[str, str], console: Console) -> None:
    """A text with its entities coloured, and a line for each."""
    marked = Text(text)
    for one in found:
        marked.stylize(colours[one.type], one.start, one.end)
    console.rich.print(marked)
    for one in found:
        line = Text(f"  {one.start:>5} {one.end:>5}  {one.probability:>4.0%}  {one.type:<12} {one.text}")
        line.stylize(colours[one.type], len(line) - len(one.text))
        console.rich.print(line)
    if not found:
        console.line("  no entity found")
