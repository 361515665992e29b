"""Texts that are nearly the same, all of them: an exact join on Jaccard similarity, with no sampling and no luck in it.

Two sets that are alike must share one of their rarest members: of n members the n - t·n + 1 rarest are enough (prefix
filtering: Chaudhuri 2006, Bayardo 2007, Xiao 2008). So only texts that share a rare triple of words are ever compared; and
where many share one, as answers of one template do, `clusters` finds which without comparing every two.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

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
# the rarest triples of texts: one, whose it is, and how many rarer ones that has
ENTRY = np.dtype([("triple", np.uint64), ("row", np.int32), ("place", np.int32)])
SORTED = 1 << 22  # of them at a time
KNOWN = 1 << 20  # words whose hashes are kept
# from so many texts on, and such a threshold, most are told to have no near-duplicate before any two are compared
MANY, HIGH = 20_000, 0.7


@dataclass(frozen=True)
class Triples:
    """The distinct word triples of texts as 64-bit hashes: how many each has, and those of texts from one to before another."""

    counts: Ints
    read: Callable[[int, int], Hashes]


def near_pairs(texts: Sequence[bytes], threshold: float) -> Ints:
    """All pairs (i < j) of plain texts whose sets of word triples have a Jaccard similarity of `threshold` or more."""
    return near(texts, threshold).every()


def near(texts: Sequence[bytes], threshold: float) -> Near:
    """The same pairs, those of texts that share most of what they hold not named one by one."""
    sets = [word_triples(text) for text in texts]
    offsets = np.cumsum([0, *map(len, sets)])
    hashes = np.concatenate([np.empty(0, np.uint64), *sets])
    return near_among(Triples(np.diff(offsets), lambda first, last: hashes[offsets[first] : offsets[last]]), threshold)


def near_among(triples: Triples, threshold: float, folder: Path | None = None) -> Near:
    """What is nearly the same among texts whose triples lie on disk; what is sorted lies in `folder` but for a part of it."""
    if len(triples.counts) < 2:
        return Near()
    if len(triples.counts) >= MANY and threshold >= HIGH:
        rows = np.flatnonzero(_possible(triples, threshold, folder))
        some = Triples(triples.counts[rows], lambda first, last: np.concatenate([triples.read(r, r + 1) for r in rows[first:last].tolist()]))  # fmt: skip
        found = _near_among(some, threshold, folder)
        return replace(found, pairs=rows[found.pairs], texts=rows[found.texts])
    return _near_among(triples, threshold, folder)


def _possible(triples: Triples, threshold: float, folder: Path | None) -> Flags:
    """Which texts can be nearly the same as another, told by parts of their triples; of the others none is.

    Two sets with a Jaccard similarity of t differ in (1 - t) / (1 + t) of their sizes' sum at most. Dealt by hash to one part
    more than that, one part at least is the same in both (Arasu, Ganti and Kaushik 2006). Sizes that lie apart by no more
    than a factor 1 / t lie in one class or in two beside each other, so each set is dealt twice: with the class above and below.
    """
    base = (1 + 1e-9) / threshold
    level = np.floor(np.log(triples.counts) / np.log(base)).astype(np.int64)
    several = [
        np.floor((1 - threshold) / (1 + threshold) * 2 * np.floor(base ** (level + up) + 1e-6) + 1e-6).astype(np.int64)
        + 1
        for up in (1, 2)
    ]
    parts = 1 << int(max(0, np.ceil(np.log2(sum(float(each.sum()) for each in several) / SORTED))))
    files: list[BinaryIO] = [tempfile.TemporaryFile(dir=folder) for _ in range(parts)]  # noqa: SIM115 - closed when they are read
    for first, last in _chunks(triples):
        held = triples.read(first, last)
        whose = np.repeat(np.arange(last - first), triples.counts[first:last])
        for up, counts in enumerate(several):
            count = counts[first:last]
            begin = np.cumsum(count) - count
            part = (held >> np.uint64(33)) % count[whose].astype(np.uint64)
            sums = np.zeros(int(count.sum()), np.uint64)
            np.add.at(sums, begin[whose] + part.astype(np.int64), held)
            row = np.repeat(np.arange(first, last), count)
            # a part is the same under the same number, of the same two classes
            number = (level[row] + up).astype(np.uint64) << np.uint64(32) | (np.arange(len(row)) - begin[row - first]).astype(np.uint64)  # fmt: skip
            entries = np.empty(len(row), ENTRY)
            entries["triple"], entries["row"], entries["place"] = _spread(sums + _spread(number)), row, 0
            where = entries["triple"] & np.uint64(parts - 1)
            for each, file in enumerate(files):
                file.write(entries[where == each].tobytes() if parts > 1 else entries.tobytes())
    found = np.zeros(len(triples.counts), bool)
    for entries in _read(files):
        entries = entries[np.argsort(entries["triple"])]
        same = entries["triple"][1:] == entries["triple"][:-1]
        found[entries["row"][1:][same]] = found[entries["row"][:-1][same]] = True
    return found


def _spread(values: Hashes) -> Hashes:
    """Numbers as well-spread ones, different where they are."""
    x: Hashes = values * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((31, 0xBF58476D1CE4E5B9), (29, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(32)
    return x


def _near_among(triples: Triples, threshold: float, folder: Path | None) -> Near:
    """The same, every text looked at."""
    if len(triples.counts) < 2:
        return Near()

    @lru_cache(maxsize=4096)
    def members(row: int) -> Hashes:
        return triples.read(row, row + 1)

    clustered = np.zeros(len(triples.counts), bool)
    few = [np.empty(0, ENTRY)]
    sizes, parts = _prefixes(triples, threshold, folder)
    for entries in parts:
        entries = entries[np.argsort(entries["triple"], kind="stable")]
        count = np.diff(starts(entries["triple"]), append=len(entries))
        count = np.repeat(count, count)
        clustered[entries["row"][count > FEW]] = True
        few.append(entries[(count > 1) & (count <= FEW)])
    found = _in_clusters(np.flatnonzero(clustered), members, threshold)
    pairs = []
    candidates = _candidates(np.concatenate(few), sizes, clustered, threshold).tolist()
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


class _Words(dict[bytes, int]):
    """A 64-bit hash of every word; 0, which no word has, fills up texts of fewer than three."""

    def __missing__(self, word: bytes) -> int:
        if len(self) >= KNOWN:
            self.clear()
        found = self[word] = int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little")
        return found


_words = _Words()


def word_triples(text: bytes) -> Hashes:
    """The distinct word triples of a plain text."""
    words = [_words[word] for word in text.split()]
    words += [0] * (WIDTH - len(words))
    return _distinct(mixed(np.array(words, np.uint64)))


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


def _candidates(entries: npt.NDArray[Any], sizes: Ints, clustered: Flags, threshold: float) -> Ints:
    """The pairs that share one of their rarest triples and have enough left, but for those of which both are in clusters."""
    n = len(sizes)
    row, place = entries["row"].astype(np.int64), entries["place"].astype(np.int64)
    known = np.empty(0, np.int64)
    pending: list[Ints] = []
    for left, right in neighbours(entries["triple"]):
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


def _prefixes(triples: Triples, threshold: float, folder: Path | None) -> tuple[Ints, Iterator[npt.NDArray[Any]]]:
    """How many triples each text has, and the rarest of all texts, in parts: those of equal triples lie in one, by their texts."""
    # any one order of the triples serves, so a count by bucket is as exact as a true one, and needs no table of triples
    counts = np.zeros(int(BUCKETS) + 1, np.int64)
    for first, last in _chunks(triples):
        np.add.at(counts, (triples.read(first, last) & BUCKETS).astype(np.int64), 1)
    rarity = np.minimum(counts, (1 << RARITY_BITS) - 1).astype(np.uint64)
    sizes = np.empty(len(triples.counts), np.int64)
    # at most so many, and in files where that is more than is sorted at a time
    most = float((triples.counts * (1 - threshold) + 2).sum())
    parts = 1 << int(max(0, np.ceil(np.log2(max(1.0, most) / SORTED))))
    files: list[BinaryIO] = [tempfile.TemporaryFile(dir=folder) for _ in range(parts)]  # noqa: SIM115 - closed when they are read
    for first, last in _chunks(triples):
        part = triples.read(first, last)
        within = np.repeat(np.arange(last - first), triples.counts[first:last]).astype(np.uint64)
        key = within << np.uint64(RARITY_BITS) | rarity[part & BUCKETS]
        key = key << np.uint64(HASH_BITS) | part >> np.uint64(64 - HASH_BITS)
        key = _distinct(key)
        text = (key >> np.uint64(RARITY_BITS + HASH_BITS)).astype(np.int64)
        size = np.bincount(text, minlength=last - first)
        place = np.arange(len(key)) - (np.cumsum(size) - size)[text]
        # one more than needed: two triples of a text may share the 40 bits of their hashes
        kept = place < (size - np.ceil(threshold * size - 1e-9) + 2)[text]
        entries = np.empty(int(kept.sum()), ENTRY)
        entries["triple"] = key[kept] & np.uint64((1 << RARITY_BITS + HASH_BITS) - 1)
        entries["row"], entries["place"] = text[kept] + first, place[kept]
        sizes[first:last] = size
        where = entries["triple"] & np.uint64(parts - 1)
        for number, file in enumerate(files):
            file.write(entries[where == number].tobytes() if parts > 1 else entries.tobytes())

    return sizes, _read(files)


def _read(files: Sequence[BinaryIO]) -> Iterator[npt.NDArray[Any]]:
    """The entries of each file, which is gone behind them."""
    for file in files:
        with file:
            file.seek(0)
            yield np.frombuffer(file.read(), ENTRY)


def _chunks(triples: Triples) -> Iterator[tuple[int, int]]:
    """The texts, CHUNK at a time."""
    for first in range(0, len(triples.counts), CHUNK):
        yield first, min(first + CHUNK, len(triples.counts))
