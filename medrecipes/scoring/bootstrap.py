"""Intervals by bootstrap over groups: rows of one document stand or fall together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """As it stands in a report."""
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """A figure that is a sum over rows divided by another: a mean (`over` = ones), bits per byte, a precision."""

    total: Floats
    over: Floats

    @classmethod
    def mean(cls, values: Sequence[float]) -> Ratio:
        """The mean of one value a row."""
        return cls(np.asarray(values, float), np.ones(len(values)))


def draw_weights(groups: Sequence[str], draws: int, seed: int) -> tuple[Floats, NDArray[np.intp]]:
    """How often each group is drawn in each resample (draws x groups), and the group number of each row."""
    names, of_row = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws).astype(float)
    return weights, of_row


def estimate(ratio: Ratio, weights: Floats, of_row: NDArray[np.intp]) -> Estimate:
    """The figure and its percentile interval."""
    return _interval(_value(ratio), _resampled(ratio, weights, of_row))


def difference(tuned: Ratio, base: Ratio, weights: Floats, of_row: NDArray[np.intp]) -> Estimate:
    """Tuned minus base with the interval of the difference: both see the same resamples (a paired bootstrap)."""
    resampled = _resampled(tuned, weights, of_row) - _resampled(base, weights, of_row)
    return _interval(_value(tuned) - _value(base), resampled)


def _value(ratio: Ratio) -> float:
    over = float(ratio.over.sum())
    return float(ratio.total.sum()) / over if over else float("nan")


def _resampled(ratio: Ratio, weights: Floats, of_row: NDArray[np.intp]) -> Floats:
    count = weights.shape[1]
    total = weights @ np.bincount(of_row, ratio.total, count)
    over = weights @ np.bincount(of_row, ratio.over, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = np.where(over > 0, total / over, np.nan)
    return result


def _interval(value: float, resampled: Floats) -> Estimate:
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
