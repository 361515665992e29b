"""Where a recipe's rows come from, and all of them cleaned, as columns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medrecipes.core.errors import DataError
from medrecipes.core.files import digest, digest_path
from medrecipes.data.cleaned import HASHES, NAMES, Shard, Work, open_shard, shards_of
from medrecipes.data.licences import passed_on
from medrecipes.data.near_duplicates import Hashes, Triples
from medrecipes.data.records import Conversation
from medrecipes.data.row_files import OnDisk
from medrecipes.data.sources import EXAMPLES, Files, Ledger, Source, _hub, open_source
from medrecipes.data.sources._files import files
from medrecipes.data.token_pairs import Flags, Ints, Near
from medrecipes.recipe.schema import Data, Mix

LARGE = 32 << 20  # bytes of source files from which shards are kept for whoever goes on, and two processes clean


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


@dataclass(frozen=True)
class Opened:
    """A dataset whose files are at hand, and the hash of their content."""

    place: Place
    path: Path
    content: str


@dataclass(frozen=True)
class Making:
    """How cleaned rows are made: where their shards go, by what code, whether near-duplicates will be looked for, who hears of
    every shard, and the folder of what comes of them."""

    root: Path
    code: str
    near: bool
    progress: Callable[[], object]
    folder: Path


def size_of(paths: Sequence[Path]) -> int:
    """The bytes of all files at some paths."""
    return sum(file.stat().st_size for path in paths for file in files(path))


@dataclass
class Rows:
    """The cleaned rows: texts on disk, and columns; a relation's codes are equal where rows share it, -1 where nothing is known."""

    places: Sequence[Place]
    records: Sequence[Conversation]
    place: Ints
    content: Any  # 16 bytes a row
    names: dict[
        str, tuple[list[Any], Ints]
    ]  # what a source knows of a row, as the values that occur and the place of each row's
    relations: dict[str, Ints]
    kept: Flags
    pairs: Near = field(default_factory=Near)  # near-duplicates, as codes of that relation
    triples: Triples | None = None  # of the texts that are compared for near-duplicates, by those codes

    def drop(self, row: int, reason: str) -> None:
        """Leave a row out, counted."""
        self.kept[row] = False
        ledger = self.places[self.place[row]].ledger
        # a row is read for its name where that is kept as an example
        ledger.drop(reason, self.records[row].id if len(ledger.examples.get(reason, ())) < EXAMPLES else "")

    def alive(self) -> list[int]:
        """The rows that are left."""
        found: list[int] = np.flatnonzero(self.kept).tolist()
        return found

    def named(self, name: str, row: int) -> Any:
        """What the source says of a row by this name, or None."""
        values, codes = self.names[name]
        return values[codes[row]]

    def column(self, *names: str) -> list[str]:
        """The first of these names that says something of each row, as a text."""
        told = [[str(value) if value else "" for value in self.names[name][0]] for name in names]
        codes = [self.names[name][1].tolist() for name in names]
        return [next((t for texts, code in zip(told, row, strict=True) if (t := texts[code])), "") for row in zip(*codes, strict=True)]  # fmt: skip

    def task(self, row: int) -> Any:
        """What is asked of an article: rows of different tasks never repeat one another."""
        return self.named("task", row)

    def official(self, row: int) -> bool:
        """Whether the publisher put the row into the test set."""
        return bool(self.named("official", row) == "test")

    def hash(self, row: int) -> bytes:
        """The hash of a row's content."""
        return bytes(self.content[row]).ljust(16, b"\0")

    def atom(self, row: int) -> str:
        """What is never cut: the document, else the row by its own content."""
        return self.named("document", row) or self.hash(row).hex()


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


def read(sources: Sequence[Opened], making: Making) -> Rows:
    """All usable rows of all datasets, one dataset after the other."""
    shards: list[Shard] = []
    place: list[Ints] = []
    for number, opened in enumerate(sources):
        at = opened.place
        told = [at.label, at.source.name, at.entry.columns.model_dump()]
        work = Work(at.source, opened.path, at.entry.columns, making.root, digest([told, opened.content, making.code]), making.near)  # fmt: skip
        folders = shards_of(work, making.progress, helped=size_of([opened.path]) >= LARGE and (os.cpu_count() or 1) > 1)
        made = [open_shard(folder) for folder in folders]
        _require_own_ids(at, opened.path, made)
        for shard in made:
            at.ledger.add(shard.ledger)
        shards += made
        place.append(np.full(sum(len(shard.lines) for shard in made), number))
    rows = sum(len(shard.lines) for shard in shards)
    hashes = {name: np.concatenate([np.empty(0, "S16"), *(s.hashes[name] for s in shards)]) for name in HASHES}
    names = {name: _merged([shard.names[name] for shard in shards]) for name in NAMES}
    relations = {name: _known(*names[name]) for name in ("document", "article")}
    relations |= {name: _numbered(hashes[name])[0] for name in ("question", "answer")}
    records = OnDisk([shard.lines for shard in shards], Conversation.of_row)
    triples = None
    if making.near:
        relations["near_duplicate"], first = _numbered(hashes["compared"])
        triples = _triples(shards, first)
    where = np.concatenate([np.empty(0, np.int64), *place])
    places = [source.place for source in sources]
    return Rows(places, records, where, hashes["content"], names, relations, np.ones(rows, bool), triples=triples)


def _require_own_ids(place: Place, path: Path, shards: Sequence[Shard]) -> None:
    """Raise where two rows have one id."""
    ids = np.concatenate([np.empty(0, "S16"), *(shard.ids for shard in shards)])
    if len(np.unique(ids)) == len(ids):
        return
    seen: set[str] = set()
    for record in place.source.read(Files(path, place.entry.columns), Ledger()):
        if record.id in seen:
            raise DataError(f"{path}: two rows have the id {record.id}; rename one of the files, or the documents")
        seen.add(record.id)


def _merged(parts: Sequence[tuple[list[Any], Ints]]) -> tuple[list[Any], Ints]:
    """Values with the places of rows among them, of several shards as of one."""
    known: dict[Any, int] = {}
    codes = [np.empty(0, np.int64)]
    for values, those in parts:
        places = np.array([known.setdefault(value, len(known)) for value in values], np.int64)
        codes.append(places[those] if len(places) else those)
    return list(known), np.concatenate(codes)


def _known(values: Sequence[Any], codes: Ints) -> Ints:
    """The codes of a relation: -1 where nothing is known."""
    nothing = np.array([value is None for value in values], bool)
    return np.where(nothing[codes], -1, codes) if len(codes) else codes


def _numbered(hashes: Any) -> tuple[Ints, Ints]:
    """Equal hashes under one number, by their first rows; and these rows."""
    _, first, codes = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    place = np.empty(len(first), np.int64)
    place[order] = np.arange(len(first))
    return place[codes], first[order].astype(np.int64)


def _triples(shards: Sequence[Shard], rows: Ints) -> Triples:
    """The word triples of these rows, which lie in the shards, end to end."""
    files = [(shard.folder / "triples").open("rb", buffering=0) for shard in shards]
    ends = np.cumsum([len(shard.triples) for shard in shards], dtype=np.int64)
    file = np.searchsorted(ends, rows, "right")
    counts = np.concatenate([np.empty(0, np.int64), *(shard.triples for shard in shards)])
    begins = np.concatenate([np.empty(0, np.int64), *(np.cumsum(shard.triples) - shard.triples for shard in shards)])
    counts, begins = counts[rows], begins[rows]

    def load(first: int, last: int) -> Hashes:
        # one reading for all that lie side by side
        apart = (file[first + 1 : last] != file[first : last - 1]) | (
            begins[first + 1 : last] != begins[first : last - 1] + counts[first : last - 1]
        )
        cuts = [first, *(np.flatnonzero(apart) + first + 1).tolist(), last]
        found = []
        for one, other in pairwise(cuts):
            at, size = 8 * int(begins[one]), 8 * int(counts[one:other].sum())
            found.append(np.frombuffer(os.pread(files[file[one]].fileno(), size, at), np.uint64))
        return np.concatenate(found)

    return Triples(counts, load)
