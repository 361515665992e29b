"""Texts that are nearly the same, all of them: an exact join on Jaccard similarity, with no sampling and no luck in it.

Two sets that are alike must share one of their rarest members: of n members the n - t·n + 1 rarest are enough (prefix
filtering: Chaudhuri 2006, Bayardo 2007, Xiao 2008). So only texts that share a rare triple of words are ever compared; and
where many share one, as answers of one template do, `clusters` finds which without comparing every two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from medrecipes.core.progress import counted
from medrecipes.data.clusters import FEW, PENDING, similar_sets
from medrecipes.data.token_pairs import Flags, Ints, Near, each_once, neighbours, starts

WIDTH = 3  # words a triple; texts are compared as sets of these
CHUNK = 4096  # texts sorted at a time; 12 bits of the sorting key
RARITY_BITS, HASH_BITS = 12, 40
BUCKETS = np.uint64((1 << 22) - 1)
Hashes = npt.NDArray[np.uint64]


def near_pairs(texts: Sequence[bytes], threshold: float) -> Ints:
    """All pairs (i < j) of plain texts whose sets of word triples have a Jaccard similarity of `threshold` or more."""
    return near(texts, threshold).every()


def near(texts: Sequence[bytes], threshold: float) -> Near:
    """The same pairs, those of texts that share most of what they hold not named one by one."""
    if len(texts) < 2:
        return Near()
    hashes, offsets = _triples(texts)
    del texts  # as large as all that is to come, and the caller may have no use for them either

    @lru_cache(maxsize=4096)
    def members(row: int) -> Hashes:
        return _distinct(hashes[offsets[row] : offsets[row + 1]])

    triple, row, place, sizes = _prefixes(hashes, offsets, threshold)
    order = np.argsort(triple, kind="stable")
    triple, row, place = triple[order], row[order], place[order]
    count = np.diff(starts(triple), append=len(triple))
    many = np.repeat(count > FEW, count)
    clustered = np.zeros(len(offsets) - 1, bool)
    clustered[row[many]] = True
    found = _in_clusters(np.flatnonzero(clustered), members, threshold)
    few = ~many
    pairs = []
    candidates = _candidates(triple[few], row[few], place[few], sizes, clustered, threshold).tolist()
    for i, j in counted(candidates, len(candidates), "near-duplicates compared"):
        a, b = members(i), members(j)
        common = len(np.intersect1d(a, b, assume_unique=True))
        if common >= threshold * (len(a) + len(b) - common) - 1e-9:
            pairs.append((i, j))
    return replace(found, pairs=each_once(np.concatenate((found.pairs, np.array(pairs, np.int64).reshape(-1, 2)))))


def _in_clusters(rows: Ints, members: Callable[[int], Hashes], threshold: float) -> Near:
    """What is nearly the same among texts of which each shares one of its rarest triples with many."""
    if not len(rows):
        return Near()
    sets = [members(row) for row in rows.tolist()]
    of = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    _, token = np.unique(np.concatenate(sets), return_inverse=True)
    found = similar_sets(of, token, threshold)
    return replace(found, pairs=rows[found.pairs], texts=rows[found.texts])


def _triples(texts: Sequence[bytes]) -> tuple[Hashes, Ints]:
    """The word triples of all texts as 64-bit hashes, end to end, and where each text's begin."""
    ids: defaultdict[bytes, int] = defaultdict()
    ids.default_factory = lambda: len(ids) + 1  # 0 fills up texts of fewer than three words
    hashes, known = np.empty(0, np.uint64), 0  # in one piece from the start: joining pieces would hold all of it twice
    counts = [np.zeros(1, np.int64)]
    for start in range(0, len(texts), CHUNK):
        rows = [list(map(ids.__getitem__, text.split())) for text in texts[start : start + CHUNK]]
        rows = [row if len(row) >= WIDTH else row + [0] * (WIDTH - len(row)) for row in rows]
        lengths = np.array([len(row) for row in rows], np.int64)
        words = np.fromiter((id for row in rows for id in row), np.uint64, int(lengths.sum()))
        ends = np.cumsum(lengths)
        whole = np.ones(len(words), bool)  # False where a triple would reach into the next text
        whole[ends - 1] = whole[ends - 2] = False
        more = mixed(words)[whole[: len(words) - WIDTH + 1]]
        if known + len(more) > len(hashes):
            hashes.resize(known + len(more) + len(hashes) // 4, refcheck=False)
        hashes[known : known + len(more)] = more
        known += len(more)
        counts.append(lengths - WIDTH + 1)
    return hashes[:known], np.cumsum(np.concatenate(counts))


def mixed(words: Hashes) -> Hashes:
    """One well-spread 64-bit hash for every three words in a row."""
    a, b, c = (words[k : len(words) - WIDTH + 1 + k] for k in range(WIDTH))
    x: Hashes = (
        a * np.uint64(0x9E3779B97F4A7C15) + b * np.uint64(0xC2B2AE3D27D4EB4F) + c * np.uint64(0x165667B19E3779F9)
    )
    for shift, factor in ((31, 0xBF58476D1CE4E5B9), (29, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(32)
    return x


def _distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values sorted, each once; several times as fast as numpy's own, which hashes."""
    ordered: npt.NDArray[Any] = np.sort(values)
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))] if len(ordered) else ordered


def _candidates(triple: Hashes, row: Ints, place: Ints, sizes: Ints, clustered: Flags, threshold: float) -> Ints:
    """The pairs that share one of their rarest triples and have enough left, but for those of which both are in clusters."""
    n = len(sizes)
    known = np.empty(0, np.int64)
    pending: list[Ints] = []
    for left, right in neighbours(triple):
        i, j = row[left], row[right]
        after = np.minimum(sizes[i] - place[left], sizes[j] - place[right])
        likely = after >= threshold / (1 + threshold) * (sizes[i] + sizes[j]) - 1e-9
        likely &= ~(clustered[i] & clustered[j])
        i, j = i[likely], j[likely]
        pending.append(np.minimum(i, j) * n + np.maximum(i, j))
        if not len(left) or sum(map(len, pending)) > PENDING:
            known = _distinct(np.concatenate([known, *pending]))
            pending = []
    return np.column_stack((known // n, known % n))


def _prefixes(hashes: Hashes, offsets: Ints, threshold: float) -> tuple[Hashes, Ints, Ints, Ints]:
    """The rarest triples of every text: which, of which text, how many rarer it has; and how many it has in all."""
    # any one order of the triples serves, so a count by bucket is as exact as a true one, and needs no table of triples
    counts = np.zeros(int(BUCKETS) + 1, np.int64)
    for start in range(0, len(hashes), PENDING):
        counts += np.bincount((hashes[start : start + PENDING] & BUCKETS).astype(np.int64), minlength=len(counts))
    rarity = np.minimum(counts, (1 << RARITY_BITS) - 1).astype(np.uint64)
    triples, rows, places = [], [], []
    sizes = np.empty(len(offsets) - 1, np.int64)
    for start in range(0, len(sizes), CHUNK):
        stop = min(start + CHUNK, len(sizes))
        part = hashes[offsets[start] : offsets[stop]]
        within = np.repeat(np.arange(stop - start), np.diff(offsets[start : stop + 1])).astype(np.uint64)
        key = within << np.uint64(RARITY_BITS) | rarity[part & BUCKETS]
        key = key << np.uint64(HASH_BITS) | part >> np.uint64(64 - HASH_BITS)
        key = _distinct(key)
        text = (key >> np.uint64(RARITY_BITS + HASH_BITS)).astype(np.int64)
        size = np.bincount(text, minlength=stop - start)
        place = np.arange(len(key)) - (np.cumsum(size) - size)[text]
        # one more than needed: two triples of a text may share the 40 bits of their hashes
        kept = place < (size - np.ceil(threshold * size - 1e-9) + 2)[text]
        triples.append(key[kept] & np.uint64((1 << RARITY_BITS + HASH_BITS) - 1))
        rows.append(text[kept] + start)
        places.append(place[kept])
        sizes[start:stop] = size
    return np.concatenate(triples), np.concatenate(rows), np.concatenate(places), sizes
