"""Where a recipe's rows come from, and all of them cleaned, as columns."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medrecipes.core.errors import DataError
from medrecipes.core.files import digest_path
from medrecipes.core.progress import counted
from medrecipes.data.cleaning import clean, plain
from medrecipes.data.licences import passed_on
from medrecipes.data.records import Conversation
from medrecipes.data.sources import Files, Ledger, Source, _hub, open_source
from medrecipes.data.sources._files import files
from medrecipes.data.token_pairs import Ints, Near
from medrecipes.recipe.schema import Data, Mix


@dataclass(frozen=True)
class Place:
    """Where one dataset is read: a path, or its repository at the commit that the revision stands for."""

    label: str
    entry: Mix
    source: Source
    path: Path | None
    sha: str | None
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def content(self) -> str:
        """What makes two readings the same."""
        return f"{self.source.repo}@{self.sha}" if self.path is None else digest_path(self.path)


@dataclass
class Rows:
    """The cleaned rows as columns; a relation's codes are equal where rows share it, -1 where nothing is known."""

    places: Sequence[Place]
    records: list[Conversation] = field(default_factory=list)
    place: list[int] = field(default_factory=list)
    document: list[str] = field(default_factory=list)
    content: list[bytes] = field(default_factory=list)
    relations: dict[str, Ints] = field(default_factory=dict)
    pairs: Near = field(default_factory=Near)  # near-duplicates, as codes of that relation
    kept: list[bool] = field(default_factory=list)

    def drop(self, row: int, reason: str) -> None:
        """Leave a row out, counted."""
        self.kept[row] = False
        self.places[self.place[row]].ledger.drop(reason, self.records[row].id)

    def alive(self) -> list[int]:
        """The rows that are left."""
        return [row for row, kept in enumerate(self.kept) if kept]

    def task(self, row: int) -> Any:
        """What is asked of an article: rows of different tasks never repeat one another."""
        return self.records[row].meta.get("task")

    def official(self, row: int) -> bool:
        """Whether the publisher put the row into the test set."""
        return self.records[row].meta.get("official") == "test"

    def atom(self, row: int) -> str:
        """What is never cut: the document, else the row by its own content."""
        return self.document[row] or self.content[row].hex()


def source_of(entry: Mix) -> Source:
    """The source that an entry names, with what the entry itself says of its repository and its licence."""
    source = open_source(entry.source)
    if entry.repo:
        source = replace(source, repo=entry.repo, title=entry.repo, homepage=f"https://huggingface.co/datasets/{entry.repo}")  # fmt: skip
    if entry.licence:
        source = replace(source, licence=entry.licence, redistributable=passed_on(entry.licence))
    return source


def locate(data: Data) -> list[Place]:
    """Every dataset of the recipe with its label and where it is read."""
    names = Counter(entry.source for entry in data.entries)
    used: Counter[str] = Counter()
    places = []
    for entry in data.entries:
        used[entry.source] += 1
        label = entry.source if names[entry.source] == 1 else f"{entry.source}-{used[entry.source]}"
        source = source_of(entry)
        path = entry.path or (_within(data.path, entry.source) if data.mix and data.path and not entry.repo else None)
        if path is not None:
            files(path)  # what would never end is refused before anything reads it
        sha = _hub.resolve(source, entry.revision) if path is None else None
        places.append(Place(label, entry, source, path, sha))
    return places


def _within(folder: Path, name: str) -> Path:
    """The one file or folder in a folder that bears a source's name, e.g. `wikidoc.json`."""
    try:
        found = sorted(p for p in folder.iterdir() if p.name.split(".")[0] == name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); correct data.path") from None
    whole = [p for p in found if p.name == name]
    if len(whole or found) != 1:
        raise DataError(
            f"{folder}: holds {len(found) or 'nothing'} by the name {name}; put the source's file or folder there, "
            "or give the entry of data.mix a path of its own"
        )
    return (whole or found)[0]


def read(places: Sequence[Place]) -> Rows:
    """All usable rows of all datasets, read one at a time."""
    rows = Rows(places)
    codes: dict[str, list[int]] = {name: [] for name in ("document", "article", "question", "answer")}
    known: dict[str, dict[Any, int]] = {name: {} for name in codes}
    for number, place in enumerate(places):
        path = place.path or _hub.fetch(place.source, str(place.sha))
        ids: set[str] = set()
        for record in counted(place.source.read(Files(path, place.entry.columns), place.ledger), None, "rows read"):
            if not isinstance(record, Conversation):
                raise DataError(
                    f"{place.source.name}: yields tagged words, which this task cannot use; name another source"
                )
            if record.id in ids:
                raise DataError(f"{path}: two rows have the id {record.id}; rename one of the files, or the documents")
            ids.add(record.id)
            cleaned = clean(record, place.source, place.ledger)
            if cleaned is None:
                continue
            question = _short(b"\n".join(plain(m.content) for m in cleaned.prompt() if m.role == "user"))
            answer = _short((question if place.source.choices else b"") + plain(cleaned.answer))
            document = f"{place.source.name}/{cleaned.group}" if cleaned.group else ""
            values = (document or None, cleaned.meta.get("article"), question, answer)
            for name, value in zip(codes, values, strict=True):
                codes[name].append(-1 if value is None else known[name].setdefault(value, len(known[name])))
            rows.records.append(cleaned)
            rows.place.append(number)
            rows.document.append(document)
            rows.content.append(_short(question + answer))
    rows.relations = {name: np.array(column, np.int64) for name, column in codes.items()}
    rows.kept = [True] * len(rows.records)
    return rows


def _short(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()


def compared(rows: Rows) -> list[bytes]:
    """The distinct texts that near-duplicates are looked for in; each row's place among them becomes a relation."""
    known: dict[bytes, int] = {}
    codes = []
    for row, record in enumerate(rows.records):
        role = "assistant" if rows.places[rows.place[row]].source.compared == "answer" else "user"
        text = b" ".join(plain(m.content) for m in record.messages if m.role == role)
        codes.append(known.setdefault(text, len(known)))
    rows.relations["near_duplicate"] = np.array(codes, np.int64)
    return list(known)
