"""Sequence packing: examples to packs and packs to batches, and what the attention must keep apart."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from medrecipes.data.row_files import ByNumber
from medrecipes.rendering.chat_template import MASKED, Example
from medrecipes.rendering.stored_examples import View, lengths_of, stored

# padded: one line a pack, filled up on the right; flat: all packs of a micro-batch end to end in one line, nothing filled
Layout = Literal["padded", "flat"]
STRETCHES = 10  # of a curriculum by length


@dataclass(frozen=True)
class Pack:
    """What lies on one line: the rows' numbers, their ids and labels end to end, and how long each is; of which stretch of a curriculum."""

    rows: list[int]
    input_ids: list[int]
    labels: list[int]
    lengths: list[int]
    stretch: int = 0


class Packs(ByNumber[Pack]):
    """Packs of rows that are on disk, each laid out when it is asked for."""

    def __init__(self, lines: Sequence[Sequence[int]], stretches: Sequence[int], examples: Sequence[Example]) -> None:
        self._lines, self.stretches, self._examples = lines, stretches, examples
        self.lengths = lengths_of(examples).tolist()
        self.tokens = [sum(self.lengths[row] for row in line) for line in lines]

    def __len__(self) -> int:
        return len(self._lines)

    def row(self, number: int) -> Pack:
        """One of them."""
        return _lay(list(self._lines[number]), self._examples, self.stretches[number])


def tokens_of(packs: Sequence[Pack]) -> list[int]:
    """How many tokens lie in each."""
    return packs.tokens if isinstance(packs, Packs) else [len(pack.input_ids) for pack in packs]


def row_lengths(packs: Sequence[Pack]) -> Sequence[int]:
    """How many tokens each row in them has."""
    return packs.lengths if isinstance(packs, Packs) else [length for pack in packs for length in pack.lengths]


def stretches_of(packs: Sequence[Pack]) -> Sequence[int]:
    """Of which stretch of a curriculum each is."""
    return packs.stretches if isinstance(packs, Packs) else [pack.stretch for pack in packs]


def pack(
    examples: Sequence[Example],
    max_tokens: int,
    *,
    packing: bool,
    order: Literal["shuffled", "short_first"] = "shuffled",
) -> Sequence[Pack]:
    """Each example by itself, or, `packing`, as many in a pack as fit: the longest first, each where it fits best.

    `short_first`: the shortest tenth of the rows, then the next; no pack holds rows of two tenths.
    """
    lengths = lengths_of(examples).tolist()
    rows = list(range(len(examples)))
    if order == "short_first":
        rows.sort(key=lambda i: (lengths[i], i))
    cuts = (
        [len(rows) * number // STRETCHES for number in range(STRETCHES + 1)]
        if order == "short_first"
        else [0, len(rows)]
    )
    lines: list[list[int]] = []
    stretches: list[int] = []
    for number, (first, last) in enumerate(pairwise(cuts)):
        lines += _lines(rows[first:last], lengths, max_tokens) if packing else [[row] for row in rows[first:last]]
        stretches += [number] * (len(lines) - len(stretches))
    packs = Packs(lines, stretches, examples)
    return packs if stored(examples) else list(packs)


def _lines(rows: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """The rows of every pack."""
    lines: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, line), sorted, so that the tightest fit is found by bisection
    for i in sorted(rows, key=lambda i: (-lengths[i], i)):
        length = lengths[i]
        spot = bisect.bisect_left(room, (length, -1))
        if spot == len(room):
            lines.append([])
            free, line = max_tokens, len(lines) - 1
        else:
            free, line = room.pop(spot)
        lines[line].append(i)
        bisect.insort(room, (free - length, line))
    return [sorted(line) for line in lines]


def _lay(rows: list[int], examples: Sequence[Example], stretch: int) -> Pack:
    ids: list[int] = []
    labels: list[int] = []
    lengths: list[int] = []
    for i in rows:
        example = examples[i]
        ids += example.input_ids
        # a row's first token follows no other of its own, so nothing may be predicted there
        labels += [MASKED, *example.labels[1:]]
        lengths.append(len(example.input_ids))
    return Pack(rows, ids, labels, lengths, stretch)


def learn_all(examples: Sequence[Example]) -> Sequence[Example]:
    """Every token learned, as old runs did; the loss of such a run compares with no other."""
    if (rows := stored(examples)) is not None:
        return View(rows, np.arange(len(rows)), whole=True)
    return [replace(example, labels=list(example.input_ids)) for example in examples]


def collate(packs: Sequence[Pack], pad: int, layout: Layout) -> dict[str, Any]:
    """Lists ready to become tensors; positions start again at every row, which is what tells the rows apart."""
    if layout == "flat":
        lengths = [length for p in packs for length in p.lengths]
        return {
            "input_ids": [[id for p in packs for id in p.input_ids]],
            "labels": [[label for p in packs for label in p.labels]],
            "position_ids": [[position for length in lengths for position in range(length)]],
            "lengths": lengths,
        }
    longest = max(len(p.input_ids) for p in packs)
    fill = [longest - len(p.input_ids) for p in packs]
    batch: dict[str, Any] = {
        "input_ids": [p.input_ids + [pad] * n for p, n in zip(packs, fill, strict=True)],
        "labels": [p.labels + [MASKED] * n for p, n in zip(packs, fill, strict=True)],
    }
    if all(len(p.lengths) == 1 for p in packs):
        batch["attention_mask"] = [[1] * len(p.input_ids) + [0] * n for p, n in zip(packs, fill, strict=True)]
    else:
        # no mask: transformers then keeps rows apart wherever positions start again, the filling too
        batch["position_ids"] = [
            [position for length in [*p.lengths, n] for position in range(length)]
            for p, n in zip(packs, fill, strict=True)
        ]
    return batch
