"""Rows on disk, a line of JSON each, as a sequence: one is read when it is asked for, and only where each begins is in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np

from medrecipes.data.token_pairs import Ints

Row = TypeVar("Row")
BLOCK = 1 << 20  # bytes read at a time where rows are wanted one after the other


class Lines:
    """The lines of a file by their numbers; they stay readable when the file's name is gone."""

    def __init__(self, path: Path, ends: Ints) -> None:
        """`ends`: where each line ends, its line break included."""
        self._file = path.open("rb", buffering=0)
        self._bounds = np.concatenate((np.zeros(1, np.int64), ends))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def line(self, number: int) -> bytes:
        """One of them."""
        return self._read(int(self._bounds[number]), int(self._bounds[number + 1]))

    def __iter__(self) -> Iterator[bytes]:
        first, count = 0, len(self)
        while first < count:
            begin = int(self._bounds[first])
            last = max(first + 1, int(np.searchsorted(self._bounds, begin + BLOCK, "right")) - 1)
            bounds = (self._bounds[first : last + 1] - begin).tolist()
            block = self._read(begin, begin + bounds[-1])
            yield from (block[one:other] for one, other in pairwise(bounds))
            first = last

    def _read(self, begin: int, end: int) -> bytes:
        return os.pread(self._file.fileno(), end - begin, begin)


class ByNumber(Sequence[Row], Generic[Row]):
    """A sequence whose rows are made when they are asked for."""

    def row(self, number: int) -> Row:
        """One of them, by its number from 0 on."""
        raise NotImplementedError

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [self.row(number) for number in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        return self.row(at % len(self))


class OnDisk(ByNumber[Row]):
    """Some of the rows of files, in the files' order; each is made anew whenever it is asked for."""

    def __init__(
        self, files: Sequence[Lines], make: Callable[[Any], Row], chosen: Sequence[Ints] | None = None
    ) -> None:
        """`chosen`: the numbers of each file's lines, ascending; left out: all."""
        self._files, self._make = files, make
        self._chosen = chosen or [np.arange(len(file)) for file in files]
        self._ends = np.cumsum([len(those) for those in self._chosen], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def row(self, number: int) -> Row:
        """One of them."""
        file = int(np.searchsorted(self._ends, number, "right"))
        chosen = self._chosen[file]
        return self._make(json.loads(self._files[file].line(int(chosen[number - int(self._ends[file])]))))

    def __iter__(self) -> Iterator[Row]:
        for file, chosen in zip(self._files, self._chosen, strict=True):
            wanted = np.zeros(len(file), bool)
            wanted[chosen] = True
            for line, want in zip(file, wanted.tolist(), strict=True):
                if want:
                    yield self._make(json.loads(line))

    def __eq__(self, other: object) -> bool:
        """By the rows themselves, in a list or a tuple too."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


class Joined(ByNumber[Row]):
    """Several sequences as one, none of them copied."""

    def __init__(self, *parts: Sequence[Row]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def row(self, number: int) -> Row:
        """One of them."""
        for part in self._parts:
            if number < len(part):
                return part[number]
            number -= len(part)
        raise IndexError(number)

    def __iter__(self) -> Iterator[Row]:
        for part in self._parts:
            yield from part
