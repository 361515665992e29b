"""Rendered rows on disk: ids and labels are mapped into memory, and a row is a list only while somebody looks at it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medrecipes.core.files import writing
from medrecipes.data.records import Conversation, kind
from medrecipes.data.row_files import ByNumber, Lines, OnDisk
from medrecipes.data.token_pairs import Ints
from medrecipes.rendering.chat_template import Example

Ids = npt.NDArray[np.int32]


class Writer:
    """Takes rendered rows, each with the conversation that it shows, into the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {name: (folder / name).open("wb") for name in ("ids", "labels", "rows.jsonl")}
        self._columns: dict[str, list[int]] = {
            name: [] for name in ("tokens", "supervised", "answer_bytes", "cut", "lines")
        }

    def __len__(self) -> int:
        return len(self._columns["tokens"])

    def add(self, conversation: Conversation, example: Example) -> None:
        """One row."""
        with writing(self._folder):
            self._files["ids"].write(np.array(example.input_ids, np.int32).tobytes())
            self._files["labels"].write(np.array(example.labels, np.int32).tobytes())
            line = self._files["rows.jsonl"].write(json.dumps(conversation.row()).encode() + b"\n")
        values = (len(example.input_ids), example.supervised, example.answer_bytes, example.cut, line)
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(int(value))

    def close(self) -> None:
        """All of them are there."""
        with writing(self._folder):
            for file in self._files.values():
                file.close()
            np.save(self._folder / "columns.npy", np.array(list(self._columns.values()), np.int64))


class Shard:
    """Rendered rows as a writer left them."""

    def __init__(self, folder: Path) -> None:
        self.tokens, self.supervised, self.answer_bytes, self.cut, lines = np.load(folder / "columns.npy")
        self._ends = np.cumsum(self.tokens)
        self._ids, self._labels = (_mapped(folder / name) for name in ("ids", "labels"))
        self.lines = Lines(folder / "rows.jsonl", np.cumsum(lines))

    def __len__(self) -> int:
        return len(self.tokens)

    def example(self, row: int) -> Example:
        """One of them."""
        id, group, _, meta = json.loads(self.lines.line(row))
        end = int(self._ends[row])
        here = slice(end - int(self.tokens[row]), end)
        return Example(
            id, group, self._ids[here].tolist(), self._labels[here].tolist(), int(self.answer_bytes[row]), bool(self.cut[row]), kind(meta)
        )  # fmt: skip


def _mapped(path: Path) -> Ids:
    return np.memmap(path, np.int32, "r") if path.stat().st_size else np.empty(0, np.int32)


class _Rows(ByNumber[Example]):
    """Examples by their number, made when they are asked for."""

    lengths: Ints  # tokens of each
    supervised: Ints
    answer_bytes: Ints

    def __len__(self) -> int:
        return len(self.lengths)


class StoredExamples(_Rows):
    """The rendered rows of a part, in shards."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._ends = np.cumsum([len(shard) for shard in shards], dtype=np.int64)
        none = np.empty(0, np.int64)
        self.lengths = np.concatenate([none, *(shard.tokens for shard in shards)])
        self.supervised = np.concatenate([none, *(shard.supervised for shard in shards)])
        self.answer_bytes = np.concatenate([none, *(shard.answer_bytes for shard in shards)])

    def row(self, number: int) -> Example:
        """An example by its number from 0 on."""
        shard = int(np.searchsorted(self._ends, number, "right"))
        return self._shards[shard].example(number - int(self._ends[shard]) + len(self._shards[shard]))

    @property
    def conversations(self) -> OnDisk[Conversation]:
        """What the examples show."""
        return OnDisk([shard.lines for shard in self._shards], Conversation.of_row)


class View(_Rows):
    """Some of stored examples, in an order of its own; `whole`: every token supervised."""

    def __init__(self, base: _Rows, rows: Ints, *, whole: bool = False) -> None:
        self._base, self._rows, self._whole = base, rows, whole
        self.lengths, self.answer_bytes = base.lengths[rows], base.answer_bytes[rows]
        self.supervised = self.lengths if whole else base.supervised[rows]

    def row(self, number: int) -> Example:
        """An example by its number from 0 on."""
        found = self._base.row(int(self._rows[number]))
        return replace(found, labels=list(found.input_ids)) if self._whole else found


def lengths_of(examples: Sequence[Example]) -> Ints:
    """The tokens of every row."""
    return examples.lengths if isinstance(examples, _Rows) else np.array([len(e.input_ids) for e in examples], np.int64)


def supervised_of(examples: Sequence[Example]) -> Ints:
    """The supervised tokens of every row."""
    return examples.supervised if isinstance(examples, _Rows) else np.array([e.supervised for e in examples], np.int64)


def bytes_of(examples: Sequence[Example]) -> Ints:
    """The bytes of every row's answers."""
    return (
        examples.answer_bytes if isinstance(examples, _Rows) else np.array([e.answer_bytes for e in examples], np.int64)
    )


def stored(examples: Sequence[Example]) -> _Rows | None:
    """The examples, where they are on disk."""
    return examples if isinstance(examples, _Rows) else None
