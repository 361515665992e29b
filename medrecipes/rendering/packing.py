"""Sequence packing: examples to packs and packs to batches, and what the attention must keep apart."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from medrecipes.rendering.chat_template import MASKED, Example

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


def pack(
    examples: Sequence[Example],
    max_tokens: int,
    *,
    packing: bool,
    order: Literal["shuffled", "short_first"] = "shuffled",
) -> list[Pack]:
    """Each example by itself, or, `packing`, as many in a pack as fit: the longest first, each where it fits best.

    `short_first`: the shortest tenth of the rows, then the next; no pack holds rows of two tenths.
    """
    rows = list(range(len(examples)))
    if order == "shuffled":
        return [_lay(line, examples, 0) for line in _lines(rows, examples, max_tokens, packing=packing)]
    rows.sort(key=lambda i: (len(examples[i].input_ids), i))
    cuts = [len(rows) * number // STRETCHES for number in range(STRETCHES + 1)]
    return [
        _lay(line, examples, number)
        for number, (first, last) in enumerate(pairwise(cuts))
        for line in _lines(rows[first:last], examples, max_tokens, packing=packing)
    ]


def _lines(rows: Sequence[int], examples: Sequence[Example], max_tokens: int, *, packing: bool) -> list[list[int]]:
    """The rows of every pack."""
    if not packing:
        return [[i] for i in rows]
    lines: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, line), sorted, so that the tightest fit is found by bisection
    for i in sorted(rows, key=lambda i: (-len(examples[i].input_ids), i)):
        length = len(examples[i].input_ids)
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
    for i in rows:
        ids += examples[i].input_ids
        # a row's first token follows no other of its own, so nothing may be predicted there
        labels += [MASKED, *examples[i].labels[1:]]
    return Pack(rows, ids, labels, [len(examples[i].input_ids) for i in rows], stretch)


def learn_all(examples: Sequence[Example]) -> list[Example]:
    """Every token learned, as old runs did; the loss of such a run compares with no other."""
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
