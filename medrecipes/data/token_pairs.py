"""Which of many texts are nearly the same, told without naming every two of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
NO_PAIRS: Ints = np.empty((0, 2), np.int64)
NO_TEXTS: Ints = np.empty(0, np.int64)


@dataclass(frozen=True)
class Near:
    """Pairs (i < j) of texts, and clusters: two of one cluster are a pair where their weights are 0 or less in sum."""

    pairs: Ints = field(default_factory=lambda: NO_PAIRS)
    texts: Ints = field(default_factory=lambda: NO_TEXTS)  # of all clusters, end to end
    weights: Floats = field(default_factory=lambda: NO_TEXTS.astype(float))
    cluster: Ints = field(default_factory=lambda: NO_TEXTS)  # the cluster of each, 0 and up

    def beside(self, texts: Ints) -> Ints:
        """The texts that are nearly the same as one of these."""
        chosen = self._flags(texts)
        one, other = self.pairs.T
        found = [other[chosen[one]], one[chosen[other]]]
        if len(self.texts):
            lightest = np.minimum.reduceat(np.where(chosen[self.texts], self.weights, np.inf), starts(self.cluster))
            found.append(self.texts[self.weights + lightest[self.cluster] <= 0])
        return np.concatenate(found)

    def links(self, texts: Ints) -> Ints:
        """Pairs of these texts: of everyone that has a partner, and enough to bind what all their pairs bind."""
        chosen = self._flags(texts)
        here = chosen[self.texts]
        mine, weights, cluster = self.texts[here], self.weights[here], self.cluster[here]
        order = np.lexsort((weights, cluster))
        mine, weights, cluster = mine[order], weights[order], cluster[order]
        begin = starts(cluster)
        lightest = np.repeat(begin, np.diff(begin, append=len(mine)))  # a partner of all in its cluster that have one
        bound = (weights + weights[lightest] <= 0) & (lightest != np.arange(len(mine)))
        clusters = np.column_stack((mine[lightest[bound]], mine[bound]))
        return np.concatenate((self.pairs[chosen[self.pairs].all(axis=1)], clusters))

    def every(self) -> Ints:
        """All pairs, one by one: as many as the square of a cluster."""
        found = [self.pairs]
        for first, last in zip(begin := starts(self.cluster), np.append(begin[1:], len(self.cluster)), strict=False):
            weights = self.weights[first:last]
            one, other = np.nonzero(np.triu(weights[:, None] + weights <= 0, 1))
            found.append(self.texts[first:last][np.column_stack((one, other))])
        return each_once(np.concatenate(found))

    def _flags(self, texts: Ints) -> Flags:
        known = (int(numbers.max(initial=-1)) for numbers in (self.pairs, self.texts, texts))
        flags = np.zeros(max(known) + 1, bool)
        flags[texts[texts >= 0]] = True  # -1: nothing known
        return flags


def as_near(pairs: Near | Ints) -> Near:
    """Pairs alone as what has no clusters."""
    return pairs if isinstance(pairs, Near) else Near(pairs)


def each_once(pairs: Ints) -> Ints:
    """The pairs in order, each once and with the lower number first."""
    size = int(pairs.max(initial=0)) + 1
    return np.column_stack(np.divmod(np.unique(pairs.min(axis=1) * size + pairs.max(axis=1)), size))


def starts(values: npt.NDArray[Any]) -> Ints:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.concatenate((np.ones(min(1, len(values)), bool), values[1:] != values[:-1])))


def neighbours(values: npt.NDArray[Any]) -> Iterator[tuple[Ints, Ints]]:
    """All pairs of places with equal values, those next to each other first; the values are sorted."""
    left, distance = np.arange(len(values)), 1
    while len(left):
        # whose neighbour at this distance has the same value; the next distance has only some of these
        left = left[left + distance < len(values)]
        left = left[values[left] == values[left + distance]]
        yield left, left + distance
        distance += 1
