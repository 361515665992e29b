"""Cleaned rows as shards on disk: texts in a file, what rows are compared by in columns; a shard that is whole is never made again."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from medrecipes.core.errors import DataError
from medrecipes.core.files import damage, digest, read_json, stage, write_json, writing
from medrecipes.data.cleaning import clean, plain
from medrecipes.data.near_duplicates import word_triples
from medrecipes.data.records import Conversation
from medrecipes.data.row_files import Lines
from medrecipes.data.sources import Files, Ledger, Source
from medrecipes.data.token_pairs import Ints
from medrecipes.recipe.schema import Columns

SHARD = 20_000  # rows that a source gives for a shard
HASHES = ("question", "answer", "content", "compared")  # of a row, 16 bytes each
NAMES = ("document", "article", "task", "official", "collection", "qtype")  # of a row, as its source knows them


@dataclass(frozen=True)
class Work:
    """A dataset to be cleaned, and where its shards go; one of `of` workers makes every `of`-th shard."""

    source: Source
    path: Path
    columns: Columns
    root: Path
    key: str
    near: bool  # whether word triples are kept for a search of near-duplicates
    rows: int = SHARD
    worker: int = 0
    of: int = 1

    def shard(self, number: int) -> str:
        """The key of a shard."""
        return digest([self.key, self.near, self.rows, number])


@dataclass
class Shard:
    """A shard as it is read again."""

    folder: Path
    lines: Lines
    hashes: dict[str, Any] = field(default_factory=dict)
    names: dict[str, tuple[list[Any], Ints]] = field(default_factory=dict)
    triples: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # how many word triples each row has
    ledger: Ledger = field(default_factory=Ledger)
    ids: Any = None


def make_shards(work: Work, seen: Callable[[], object] = lambda: None) -> list[Path]:
    """Make the shards that are not there yet, as far as they are this worker's; returned: the folders of all of them, in order.

    A source is read from its beginning in any case, but what lies in a whole shard is not cleaned again.
    """
    ledger = Ledger()
    records = iter(work.source.read(Files(work.path, work.columns), ledger))
    folders: list[Path] = []
    ended = False
    while not ended:
        number, made = len(folders), _Made()
        key = work.shard(number)
        place = work.root / f"cleaned-{key[:16]}"
        if number % work.of == work.worker:
            place = stage("cleaned", key, partial(_build, work, records, ledger, made), work.root)
        if made.rows is None:  # another worker's, or whole already
            made.rows = sum(1 for _ in islice(records, work.rows))
        ended = made.rows < work.rows
        ledger.clear()
        folders.append(place)
        seen()
    return folders


@dataclass
class _Made:
    """How many rows the source gave for a shard, once that is known."""

    rows: int | None = None


def _build(work: Work, records: Iterator[Any], ledger: Ledger, made: _Made, folder: Path) -> dict[str, Any]:
    """The stage of a shard."""
    source = work.source
    hashes: dict[str, list[bytes]] = {name: [] for name in HASHES}
    known: dict[str, dict[Any, int]] = {name: {} for name in NAMES}
    codes: dict[str, list[int]] = {name: [] for name in NAMES}
    ids: list[bytes] = []
    ends, counts, at = [], [], 0
    made.rows = 0
    path = folder / "rows.jsonl"
    with writing(path), path.open("wb") as file, (folder / "triples").open("wb") as triples:
        for record in islice(records, work.rows):
            made.rows += 1
            if not isinstance(record, Conversation):
                raise DataError(f"{source.name}: yields tagged words, which this task cannot use; name another source")
            ids.append(_short(record.id.encode("utf-8", "surrogatepass")))
            cleaned = clean(record, source, ledger)
            if cleaned is None:
                continue
            question = _short(b"\n".join(plain(m.content) for m in cleaned.prompt() if m.role == "user"))
            answer = _short((question if source.choices else b"") + plain(cleaned.answer))
            role = "assistant" if source.compared == "answer" else "user"
            text = b" ".join(plain(m.content) for m in cleaned.messages if m.role == role) if work.near else b""
            for name, value in zip(HASHES, (question, answer, _short(question + answer), _short(text)), strict=True):
                hashes[name].append(value)
            names = {"document": f"{source.name}/{cleaned.group}" if cleaned.group else None, **_meta(cleaned)}
            for name, those in codes.items():
                those.append(known[name].setdefault(names[name], len(known[name])))
            if work.near:
                found = word_triples(text)
                counts.append(len(found))
                triples.write(found.tobytes())
            at += file.write(json.dumps(cleaned.row()).encode() + b"\n")
            ends.append(at)
    columns: dict[str, Any] = {name: np.array(values, "S16") for name, values in hashes.items()}
    columns |= {name: np.array(values, np.int32) for name, values in codes.items()}
    columns |= {"ends": np.array(ends, np.int64), "ids": np.array(ids, "S16"), "triples": np.array(counts, np.int64)}
    with writing(path):
        np.savez(folder / "columns.npz", allow_pickle=False, **columns)
    about = {"seen": ledger.seen, "dropped": ledger.dropped, "repaired": ledger.repaired, "examples": ledger.examples}
    write_json(folder / "about.json", {**about, "names": {name: list(values) for name, values in known.items()}})
    return {"rows": made.rows}


def _meta(record: Conversation) -> dict[str, Any]:
    """What else rows are compared or drawn by."""
    return {name: record.meta.get(name) for name in NAMES[1:]}


def _short(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()


def open_shard(folder: Path) -> Shard:
    """A shard that was made, its texts left on disk."""
    about = read_json(folder / "about.json")
    with np.load(folder / "columns.npz") as file:
        columns = dict(file)
    ledger = Ledger(about["seen"], Counter(about["dropped"]), Counter(about["repaired"]), about["examples"])
    return Shard(
        folder,
        Lines(folder / "rows.jsonl", columns["ends"]),
        {name: columns[name] for name in HASHES},
        {name: (about["names"][name], columns[name].astype(np.int64)) for name in NAMES},
        columns["triples"],
        ledger,
        columns["ids"],
    )


def shards_of(work: Work, progress: Callable[[], object], *, helped: bool) -> list[Path]:
    """The folders of all shards of a dataset, whole; `helped`: a second process makes every second one."""
    with _helper(work) if helped else nullcontext(None) as helper:
        if helper is None:
            return make_shards(work, progress)
        folders = make_shards(replace(work, of=2), progress)
        helper.wait()
    theirs = range(1, len(folders), 2)
    said = ({"stage": "cleaned", "key": work.shard(number)} for number in theirs)
    if any(damage(folders[number], says, every_byte=False) for number, says in zip(theirs, said, strict=True)):
        return make_shards(work, progress)  # an error of the data, which is told here
    return folders


@contextmanager
def _helper(work: Work) -> Iterator[subprocess.Popen[bytes] | None]:
    """A process that makes every second shard; none for a source that cannot be sent to one."""
    try:
        told = pickle.dumps(replace(work, worker=1, of=2))
    except (pickle.PicklingError, AttributeError, TypeError):
        yield None
        return
    outside = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    command = [sys.executable, "-m", "medrecipes.data.cleaning_worker"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=outside)  # fmt: skip
    assert process.stdin is not None
    try:
        with suppress(BrokenPipeError):
            process.stdin.write(told)
            process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.wait()
