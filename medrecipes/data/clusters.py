"""Exact set similarity join inside clusters of near-duplicates, at the cost of what makes their members differ.

A thousand answers of one template are half a million pairs. So every set of a cluster is represented by its difference
from the majority: two that differ little are a pair whatever else they share, and are not compared. Two that differ more
must share one of their rarest differences (prefix filtering, as in `near`), and the sets that share one are a smaller
cluster with less to differ in. Nothing is sampled, and nothing is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from medrecipes.data.token_pairs import NO_PAIRS, NO_TEXTS, Floats, Ints, Near, each_once, neighbours, starts

FEW = 32  # so many are compared two by two as soon as they share something
PENDING = 1 << 22  # pairs, or entries of theirs, at a time
# what it costs to take a cluster apart, and each of its entries, beside one step of comparing all with all
APART, ENTRY = 60_000, 12
PATIENCE = 3  # times what comparing all with all costs


@dataclass(frozen=True)
class Part:
    """Sets of which two are a pair if both weigh at most `base` and the worth of what they share in sum."""

    rows: Ints  # which sets
    sizes: Floats  # of all that they hold
    weights: Floats
    base: float
    of: Ints  # the entries, set by set: whose, by place in rows
    token: Ints
    worth: Floats  # of each `token`


def similar_sets(of: Ints, token: Ints, threshold: float) -> Near:
    """The sets of tokens (numbers) whose Jaccard similarity is `threshold` or more; the entries stand set by set."""
    sizes = np.bincount(of).astype(float)
    # |a & b| >= t (|a| + |b| - |a & b|) - 1e-9, told by |a & b|, and by halves
    weights = (threshold * sizes - 0.5e-9) / (1 + threshold)
    whole = Part(np.arange(len(sizes)), sizes, weights, 0.0, of, token, np.ones(int(token.max(initial=-1)) + 1))
    pairs, found = [NO_PAIRS], [(NO_TEXTS, NO_TEXTS.astype(float))]
    whose, most = np.zeros((2, len(sizes)), np.int64)  # each set's largest cluster in which all are pairs, and its size
    spent = 0.0
    stack = [(whole, iter([whole]), np.inf)]
    while stack:
        above, inner, limit = stack[-1]
        part = next(inner, None)
        if part is None or spent > limit:
            stack.pop()
            if part is not None:  # it costs more to take it apart than to compare all with all
                pairs += _all(above)
                spent += _cost(above)
            continue
        if whose[part.rows[0]] and (whose[part.rows] == whose[part.rows[0]]).all():
            continue  # they share something else too, and are pairs already
        part = _ordered(_by_difference(part))
        spent += APART + ENTRY * len(part.of)
        order = np.argsort(part.weights, kind="stable")
        rows, light = part.rows[order], part.weights[order] - part.base / 2
        if light[0] + light[1] <= 0:
            some = light + light[0] <= 0
            some[0] = True
            found.append((rows[some], light[some]))
        if light[-2] + light[-1] <= 0:
            rows = rows[most[rows] < len(rows)]
            whose[rows], most[rows] = len(found), len(part.rows)
        elif (cost := _cost(part)) <= APART:
            pairs += _all(part)
            spent += cost
        else:
            rare, after = _rarest(part, threshold)
            begin = starts(part.token[rare])
            count = np.diff(begin, append=len(rare))
            pairs += _two_by_two(part, rare[np.repeat(count <= FEW, count)], after)
            several = count > FEW
            stack.append((part, _sharing(part, rare, begin[several], count[several]), spent + PATIENCE * cost))
    texts, weights = (np.concatenate(column) for column in zip(*found, strict=True))
    cluster = np.repeat(np.arange(len(found) - 1), [len(rows) for rows, _ in found[1:]])
    return Near(each_once(np.concatenate(pairs)), texts, weights, cluster)


def _cost(part: Part) -> float:
    """What comparing all with all takes, in steps."""
    return float(len(part.rows) ** 2 + (np.bincount(part.token).astype(float) ** 2).sum() / 2)


def _all(part: Part) -> Iterator[Ints]:
    """The pairs among all sets that have something in common, but for those that are pairs without it."""
    n = len(part.rows)
    order = np.argsort(part.token, kind="stable")
    of, token = part.of[order], part.token[order]
    end = np.searchsorted(token, np.arange(len(part.worth)), "right")
    later = np.empty(len(order), np.int64)  # where the entries of later sets begin among those of a token
    later[order] = np.arange(1, len(order) + 1)
    steps = np.concatenate(([0], np.cumsum(end[part.token] - later)))
    bounds = np.searchsorted(part.of, np.arange(n + 1))
    blocks = starts(np.maximum.accumulate((steps[bounds[:-1]] + n * np.arange(n)) // PENDING))
    for first, last in zip(blocks, np.append(blocks[1:], n), strict=True):
        mine = slice(bounds[first], bounds[last])
        places, entry = _spans(later[mine], end[part.token[mine]])
        cell = (part.of[mine][entry] - first) * n + of[places]
        shared = np.bincount(cell, part.worth[token[places]], (last - first) * n).reshape(last - first, n)
        missing = part.weights[first:last, None] + part.weights - part.base
        one, other = np.nonzero((missing > 0) & (missing <= shared))
        yield part.rows[np.column_stack((one + first, other))]


def _by_difference(part: Part) -> Part:
    """Every set by its difference from the majority; tokens that only one set has are left out."""
    known, token = np.unique(part.token, return_inverse=True)
    of, worth, rows = part.of, part.worth[known], len(part.rows)
    usual = np.flatnonzero(2 * np.bincount(token) > rows)
    number = np.full(len(known), -1)
    number[usual] = np.arange(len(usual))
    rest = number[token] < 0
    has = np.zeros((rows, len(usual)), bool)
    has[of[~rest], number[token[~rest]]] = True
    lacking, lacked = np.nonzero(~has)
    # whether both have it is 1, less 1 for each that lacks it, and 1 more where both do
    weights = part.weights + np.bincount(lacking, worth[usual[lacked]], rows)
    of, token = np.concatenate((of[rest], lacking)), np.concatenate((token[rest], usual[lacked]))
    shared = np.bincount(token, minlength=len(known))[token] > 1
    base = part.base + float(worth[usual].sum())
    return Part(part.rows, part.sizes, weights, base, of[shared], token[shared], worth)


def _ordered(part: Part) -> Part:
    """Tokens numbered by rarity, and the entries of each set in that order; tokens that always come together are one, of their worth."""
    order = np.argsort(part.token, kind="stable")
    of, token = part.of[order], part.token[order]
    begin = starts(token)
    names = np.random.default_rng(0).integers(1 << 63, size=len(part.rows), dtype=np.uint64)
    holders = np.add.reduceat(names[of], begin) if len(of) else names[:0]
    _, first, kind = np.unique(holders, return_index=True, return_inverse=True)
    rarest = np.argsort(np.diff(begin, append=len(of))[first], kind="stable")
    place = np.full(len(part.worth), -1)
    place[token[begin[first[rarest]]]] = np.arange(len(first))
    worth = np.bincount(kind, part.worth[token[begin]], len(first))[rarest].astype(float)
    kept = place[token] >= 0
    of, token = np.divmod(np.sort(of[kept] * len(worth) + place[token[kept]]), max(1, len(worth)))
    return replace(part, of=of, token=token, worth=worth)


def _rarest(part: Part, threshold: float) -> tuple[Ints, Floats]:
    """The entries of which a pair must share one, by token, and the worth of each set's entries from every one on."""
    of, token = part.of, part.token
    total = np.cumsum(part.worth[token])
    ends = np.searchsorted(of, np.arange(len(part.rows)), "right")
    after = np.concatenate(([0.0], total))[ends][of] - total + part.worth[token]
    # the lightest of those that are large enough
    order = np.argsort(part.sizes, kind="stable")
    lightest = np.minimum.accumulate(part.weights[order][::-1])[::-1]
    lightest = lightest[np.searchsorted(part.sizes[order], threshold * part.sizes - 1e-9)]
    rare = np.flatnonzero(after >= (part.weights + lightest - part.base)[of])
    return rare[np.argsort(token[rare], kind="stable")], after


def _two_by_two(part: Part, rare: Ints, after: Floats) -> Iterator[Ints]:
    """The pairs among those that share one of these entries."""
    n = len(part.rows)
    pending: list[Ints] = []
    for left, right in neighbours(part.token[rare]):
        left, right = rare[left], rare[right]
        i, j = part.of[left], part.of[right]
        missing = part.weights[i] + part.weights[j] - part.base
        likely = (missing > 0) & (missing <= np.minimum(after[left], after[right]))
        pending.append(i[likely] * n + j[likely])
        if not len(left) or sum(map(len, pending)) > PENDING:
            i, j = np.divmod(np.unique(np.concatenate(pending)), n)
            enough = part.weights[i] + part.weights[j] - part.base <= _shared(part, i, j)
            yield part.rows[np.column_stack((i[enough], j[enough]))]
            pending = []


def _shared(part: Part, one: Ints, other: Ints) -> Floats:
    """The worth of what the sets of each pair share."""
    begin, end = (np.searchsorted(part.of, np.arange(len(part.rows)), side) for side in ("left", "right"))
    swap = (end - begin)[one] > (end - begin)[other]
    one, other = np.where(swap, other, one), np.where(swap, one, other)
    keys = part.of * len(part.worth) + part.token
    found = [np.empty(0)]
    cuts = starts(np.cumsum((end - begin)[one]) // PENDING)
    for first, last in zip(cuts, np.append(cuts[1:], len(one)), strict=False):
        mine = one[first:last]
        places, pair = _spans(begin[mine], end[mine])
        wanted = other[first:last][pair] * len(part.worth) + part.token[places]
        hit = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
        found.append(np.bincount(pair, hit * part.worth[part.token[places]], last - first).astype(float))
    return np.concatenate(found)


def _spans(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """The places of many spans one after the other, and the span that each is of."""
    lengths = end - begin
    of = np.repeat(np.arange(len(lengths)), lengths)
    return np.arange(len(of)) + (begin - (np.cumsum(lengths) - lengths))[of], of


def _sharing(part: Part, rare: Ints, begin: Ints, count: Ints) -> Iterator[Part]:
    """The sets that share one of these entries, with what is less rare of each, a smaller cluster for every token."""
    ends = np.searchsorted(part.of, np.arange(len(part.rows)), "right")
    for first, size in zip(begin, count, strict=True):
        at = rare[first : first + size]
        whose = part.of[at]
        places, of = _spans(at + 1, ends[whose])
        base = part.base + part.worth[part.token[at[0]]]
        yield Part(part.rows[whose], part.sizes[whose], part.weights[whose], base, of, part.token[places], part.worth)
