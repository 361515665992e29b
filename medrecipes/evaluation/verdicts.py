"""What a figure and a difference say to a reader: nothing, better, worse, or no difference shown."""

from __future__ import annotations

from collections.abc import Mapping

from medrecipes.scoring.tables import METRICS


def nil(figure: Mapping[str, float | None]) -> bool:
    """Whether a figure says nothing: there is none, or it is 0 with an interval of 0 to 0."""
    return figure["value"] is None or not any(figure[part] for part in ("value", "low", "high"))


def verdict(name: str, change: Mapping[str, float | None]) -> str:
    """What a difference with its interval shows, e.g. `better`; of a metric that is neither good nor bad, `higher`."""
    low, high, more_is_better = change["low"], change["high"], METRICS[name][1]
    if low is None or high is None:
        return "not known"
    if low <= 0 <= high:
        return "no difference shown"
    if more_is_better is None:
        return "higher" if low > 0 else "lower"
    return "better" if (low > 0) == more_is_better else "worse"
