"""The datasets: one file each, with where it lives, its licence, its known defects, and how a row becomes a record."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medrecipes.data.records import Record
from medrecipes.recipe.schema import Columns

EXAMPLES = 5


@dataclass
class Ledger:
    """What happened to the rows: how many were seen, and why which were left out or mended."""

    seen: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, id: str) -> None:
        """Count a row that is left out, and keep the first few ids of every reason."""
        self.dropped[reason] += 1
        self._note(reason, id)

    def repair(self, what: str, id: str) -> None:
        """Count a row that is mended and kept."""
        self.repaired[what] += 1
        self._note(what, id)

    def add(self, later: Ledger) -> None:
        """Count what happened to rows that come behind these."""
        self.seen += later.seen
        self.dropped.update(later.dropped)
        self.repaired.update(later.repaired)
        for reason, ids in later.examples.items():
            for id in ids:
                self._note(reason, id)

    def clear(self) -> None:
        """Count anew."""
        self.seen = 0
        for counts in (self.dropped, self.repaired, self.examples):
            counts.clear()

    def _note(self, reason: str, id: str) -> None:
        ids = self.examples.setdefault(reason, [])
        if len(ids) < EXAMPLES:
            ids.append(id)


@dataclass(frozen=True)
class Files:
    """What a source reads: a file or folder, for one's own data the names of the columns, and how tagged text is cut."""

    path: Path
    columns: Columns = field(default_factory=Columns)
    unit: Literal["sentence", "document"] = "sentence"


@dataclass(frozen=True)
class Defect:
    """A known flaw; with a `pattern`, rows whose question or answer matches it are dropped under `reason`."""

    text: str
    reason: str = ""
    where: Literal["question", "answer"] = "question"
    pattern: re.Pattern[str] | None = None


@dataclass(frozen=True)
class Source:
    """What is known of a dataset, and `read(files, ledger)`, which yields its records and counts what it leaves out."""

    name: str
    title: str
    homepage: str
    repo: str | None
    licence: str
    redistributable: Literal["yes", "no", "unknown"]
    citation: str
    read: Callable[[Files, Ledger], Iterator[Record]]
    hub_files: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()
    # what two rows are compared by for near-duplicates: what is learned, or, in extraction, the text it is taken from
    compared: Literal["answer", "question"] = "answer"
    keeps_layout: bool = False
    # answers are picked from options: two that are the same say nothing of their rows
    choices: bool = False
    # the benchmarks that its questions were taken from or made after, whose test questions are kept out of training
    seeds: tuple[str, ...] = ()

    @property
    def own_copy(self) -> str:
        """The next move where the Hub does not answer."""
        return "set data.path to a local copy"


def open_source(name: str) -> Source:
    """The source of that name: `SOURCE` in the file of that name in this folder."""
    source: Source = importlib.import_module(f"medrecipes.data.sources.{name}").SOURCE
    return source
