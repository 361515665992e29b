"""Intervals by bootstrap over groups: rows of one document stand or fall together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval, which one group does not have; all three are None where there is no figure (0 of 0)."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """As it stands in a report."""
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """A figure that is a sum over rows divided by another: a mean (`over` = ones), bits per byte, a precision.

    `present`: where its sum is above nothing, 0 of 0 counts as 0, as the precision of a model that says nothing does
    although there was something to say.
    """

    total: Floats
    over: Floats
    present: Floats | None = None

    @classmethod
    def mean(cls, values: Sequence[float]) -> Ratio:
        """The mean of one value a row."""
        return cls(np.asarray(values, float), np.ones(len(values)))

    def value(self) -> float:
        """The figure itself, not a number where it does not exist."""
        present = None if self.present is None else np.array([self.present.sum()])
        return float(_divide(np.array([self.total.sum()]), np.array([self.over.sum()]), present)[0])

    def resampled(self, weights: Floats, of_row: NDArray[np.intp]) -> Floats:
        """The figure in each resample."""
        count = weights.shape[1]
        total, over = (weights @ np.bincount(of_row, part, count) for part in (self.total, self.over))
        present = None if self.present is None else weights @ np.bincount(of_row, self.present, count)
        return _divide(total, over, present)


@dataclass(frozen=True)
class Average:
    """The plain mean of several figures, each weighing the same: what a macro average is; absent ones are left out."""

    parts: tuple[Ratio, ...]

    def value(self) -> float:
        """The mean over the figures that exist."""
        return float(_mean(np.array([[part.value()] for part in self.parts]))[0])

    def resampled(self, weights: Floats, of_row: NDArray[np.intp]) -> Floats:
        """The mean in each resample."""
        return _mean(np.array([part.resampled(weights, of_row) for part in self.parts]))


Figure = Ratio | Average


def draw_weights(groups: Sequence[str], draws: int, seed: int) -> tuple[Floats, NDArray[np.intp]]:
    """How often each group is drawn in each resample (draws x groups), and the group number of each row."""
    names, of_row = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws).astype(float)
    return weights, of_row


def estimate(figure: Figure, weights: Floats, of_row: NDArray[np.intp]) -> Estimate:
    """The figure and its interval."""
    return _interval(figure.value(), figure.resampled(weights, of_row), weights.shape[1])


def difference(tuned: Figure, base: Figure, weights: Floats, of_row: NDArray[np.intp]) -> Estimate:
    """Tuned minus base with the interval of the difference: both see the same resamples (a paired bootstrap)."""
    resampled = tuned.resampled(weights, of_row) - base.resampled(weights, of_row)
    return _interval(tuned.value() - base.value(), resampled, weights.shape[1])


def tail(groups: int) -> float:
    """The share cut off at each end of the resampled figures: 0.025 of infinitely many groups, less of few.

    Resamples of n groups spread too little, by sqrt((n - 1) / n), and their percentiles know nothing of Student's t.
    Both are mended by looking further out (Hesterberg 2015, "expanded percentile interval").
    """
    freedom = max(groups - 1, 1)
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    # Student's t at this level from the normal's, by Cornish and Fisher; to 0.5% from 4 degrees of freedom on
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    return NormalDist().cdf(-math.sqrt(groups / freedom) * t)


def _divide(total: Floats, over: Floats, present: Floats | None) -> Floats:
    nothing = np.full(len(total), np.nan) if present is None else np.where(present > 0, 0.0, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = np.where(over > 0, total / over, nothing)
    return result


def _mean(parts: Floats) -> Floats:
    known = ~np.isnan(parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = np.where(known, parts, 0).sum(0) / known.sum(0)
    return result


def _interval(value: float, resampled: Floats, groups: int) -> Estimate:
    known = resampled[~np.isnan(resampled)]
    if math.isnan(value) or not len(known):
        return Estimate(None, None, None)
    if groups == 1:
        return Estimate(value, None, None)  # nothing is known of how groups differ
    cut = 100 * tail(groups)
    low, high = np.percentile(known, [cut, 100 - cut])
    # a resample never holds the value's own place exactly; an interval that misses its figure would only confuse
    return Estimate(value, min(float(low), value), max(float(high), value))
