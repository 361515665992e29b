"""Rows bound by whatever they share, groups given to splits, rows sampled evenly: all without a random state."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medrecipes.near import Ints
from medrecipes.recipe import SplitRatios

PARTS = ("train", "dev", "test")
LARGE_FRACTION = 0.05  # a group over this share of the rows would be a split of its own
LARGE_ROWS = 30  # in a small set every document is over 5%: groups below this many rows are never large


@dataclass(frozen=True)
class Grouped:
    """What binds the rows: `group` numbers them, `part` says where each goes (an index of PARTS)."""

    group: Ints
    part: Ints
    merged_groups: int
    merged_rows: int
    large: tuple[int, ...]


def spot(seed: int, name: str) -> float:
    """Where a document stands between 0 and 1, whatever other rows there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") / 2**64


def bind(relations: Mapping[str, Ints], pairs: Ints) -> Ints:
    """The group of every row: rows with the same code (not -1) in any relation are bound, in all chains.

    `pairs` are codes of the relation near_duplicate that count as the same.
    """
    rows = len(next(iter(relations.values())))
    parent = list(range(rows))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    def join(a: int, b: int) -> None:
        a, b = root(a), root(b)
        parent[max(a, b)] = min(a, b)

    for name, codes in relations.items():
        first: dict[int, int] = {}
        for row, code in enumerate(codes.tolist()):
            if code >= 0 and (other := first.setdefault(code, row)) != row:
                join(row, other)
        if name == "near_duplicate":
            for a, b in pairs.tolist():
                if a in first and b in first:
                    join(first[a], first[b])
    return np.array([root(row) for row in range(rows)], np.int64)


def assign(group: Ints, atoms: Sequence[str], official: Sequence[bool], ratios: SplitRatios, seed: int) -> Grouped:
    """A split for every group: where all its documents fall; train where they disagree or the group is too large."""
    # an official test set takes the place of the test share: only train and dev are drawn
    test = 0.0 if any(official) else ratios.test
    dev = ratios.dev / (ratios.train + ratios.dev) if any(official) else ratios.dev
    known: dict[str, int] = {}

    def place(atom: str) -> int:
        if atom not in known:
            at = spot(seed, atom)
            known[atom] = 2 if at < test else 1 if at < test + dev else 0
        return known[atom]

    members: defaultdict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(group.tolist()):
        members[number].append(row)
    part = np.zeros(len(group), np.int64)
    merged_groups = merged_rows = 0
    large = []
    for rows in members.values():
        if official[rows[0]]:
            part[rows] = 2
            continue
        places = {place(atoms[row]) for row in rows}
        if len(rows) > max(LARGE_FRACTION * len(group), LARGE_ROWS):
            large.append(len(rows))
        elif len(places) == 1:
            part[rows] = places.pop()
        else:
            merged_groups, merged_rows = merged_groups + 1, merged_rows + len(rows)
    return Grouped(group, part, merged_groups, merged_rows, tuple(sorted(large, reverse=True)))


def sample(rows: Sequence[int], count: int, levels: Sequence[Sequence[str]], ranks: Sequence[bytes]) -> list[int]:
    """`count` of the rows, evenly over the values of each level in turn; those of one kind by their rank."""
    if count >= len(rows):
        return list(rows)
    if not levels:
        return sorted(rows, key=lambda row: ranks[row])[:count]
    kinds: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        kinds[levels[0][row]].append(row)
    chosen: list[int] = []
    # the smallest kind first: what it cannot fill is shared by the others
    for left, (_, members) in enumerate(sorted(kinds.items(), key=lambda kind: (len(kind[1]), kind[0])), -len(kinds)):
        chosen += sample(members, (count - len(chosen)) // -left, levels[1:], ranks)
    return chosen


def shares(sizes: Sequence[int], weights: Sequence[float], limit: int | None) -> list[int]:
    """Rows of each dataset of a mixture by weight: as many as there are, or `limit`, without repeating a row."""
    total = min(size * sum(weights) / weight for size, weight in zip(sizes, weights, strict=True))
    total = min(total, limit or total)
    return [min(size, round(total * weight / sum(weights))) for size, weight in zip(sizes, weights, strict=True)]
