"""Rows bound by whatever they share, whole groups given to train, dev and test, rows sampled evenly: no random state."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from medrecipes.core.errors import DataError
from medrecipes.data.token_pairs import Ints, Near, as_near
from medrecipes.recipe.schema import SplitRatios

PARTS = ("train", "dev", "test")
FEW = 6  # groups; of fewer, intervals cover the truth less often than they say (tests/test_bootstrap.py)


def spot(seed: int, name: str) -> float:
    """Where a document stands between 0 and 1, whatever other rows there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") / 2**64


def bind(relations: Mapping[str, Ints], pairs: Near | Ints) -> Ints:
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
            for a, b in as_near(pairs).links(codes).tolist():
                join(first[a], first[b])
    return np.array([root(row) for row in range(rows)], np.int64)


def asked(shares: SplitRatios, official: Collection[str]) -> dict[str, float]:
    """The share of each part in the rows that are free to go anywhere; an official part takes none of them."""
    wanted = {"train": shares.train, "dev": shares.dev, "test": shares.test}
    free = {name: 0.0 if name in official else share for name, share in wanted.items()}
    return {name: share / sum(free.values()) for name, share in free.items()}


def assign(group: Ints, atoms: Sequence[str], official: Sequence[str | None], shares: SplitRatios, seed: int) -> Ints:
    """The part of every row, an index of PARTS: its official one, else its group's, as near to the shares as groups allow.

    Test, then dev, take groups in an order of their own until the next one would bring them no nearer to their share; train
    has the rest. The place of a group in that order hangs on the seed, on one of its atoms and on its size, not on the rows
    beside it, so that rows which come later move few groups.
    """
    part = np.zeros(len(group), np.int64)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for row, (number, name) in enumerate(zip(group.tolist(), official, strict=True)):
        if name:
            part[row] = PARTS.index(name)
        else:
            members[number].append(row)
    left = {min(atoms[row] for row in rows): rows for rows in members.values()}
    if len(left) != len(members):
        raise DataError("a document lies in two groups, so that the split would cut it; report this mistake")
    share = asked(shares, set(filter(None, official)))
    order = [name for name in ("test", "dev", "train") if share[name]]
    while len(order) > 1:
        sizes, name, behind = list(map(len, left.values())), order.pop(0), len(order)
        # in what is left, so that two parts that miss their shares by half a group each do not cost train a whole one
        quota = sum(sizes) * share[name] / (share[name] + sum(share[other] for other in order))
        # where the groups that are not too large fill no two parts, both have less and neither has all of them
        if fit := sum(size for size in sizes if size < 2 * quota):
            quota = min(quota, fit * share[name] / (share[name] + sum(share[other] for other in order[:-1])))
        # a group that is large for the part comes late, so that few groups do not make the whole of it
        place = {atom: spot(seed, f"{name}:{atom}") + len(rows) / quota for atom, rows in left.items()}
        room = quota
        for atom in sorted(left, key=lambda atom: (place[atom], atom))[: max(0, len(left) - behind)]:
            if room < quota and len(left[atom]) >= 2 * room:
                break
            rows = left.pop(atom)
            part[rows], room = PARTS.index(name), room - len(rows)
    for rows in left.values():
        part[rows] = PARTS.index(order[0])
    return part


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


def subset(ids: Sequence[str], kinds: Sequence[str], count: int, seed: int) -> list[int]:
    """`count` of the rows, in their order, every kind by its share of all; rows that come later move few.

    The place of a row among those of its kind hangs on the seed and on its id alone.
    """
    if count >= len(ids):
        return list(range(len(ids)))
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row in sorted(range(len(ids)), key=lambda row: (spot(seed, f"dev:{ids[row]}"), ids[row])):
        members[kinds[row]].append(row)
    exact = {name: count * len(rows) / len(ids) for name, rows in members.items()}
    left = count - sum(map(int, exact.values()))
    more = set(sorted(exact, key=lambda name: (int(exact[name]) - exact[name], name))[:left])
    return sorted(row for name, rows in members.items() for row in rows[: int(exact[name]) + (name in more)])


def shares(sizes: Sequence[int], weights: Sequence[float], limit: int | None) -> list[int]:
    """Rows of each dataset of a mixture by weight: as many as there are, or `limit`, without repeating a row."""
    total = min(size * sum(weights) / weight for size, weight in zip(sizes, weights, strict=True))
    total = min(total, limit or total)
    return [min(size, round(total * weight / sum(weights))) for size, weight in zip(sizes, weights, strict=True)]
