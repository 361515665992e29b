"""Intervals over groups, in literals."""

from __future__ import annotations

import numpy as np

from medrecipes.scoring.bootstrap import Ratio, difference, draw_weights, estimate


def test_one_group_has_no_width() -> None:
    weights, of_row = draw_weights(["a", "a"], 100, 0)
    found = estimate(Ratio(np.array([1.0, 3.0]), np.array([2.0, 2.0])), weights, of_row)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_rows_of_a_group_are_drawn_together() -> None:
    weights, of_row = draw_weights(["a", "b"] * 50, 1000, 0)
    found = estimate(Ratio.mean([0.0, 1.0] * 50), weights, of_row)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_a_paired_difference_is_narrower_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, 200)
    weights, of_row = draw_weights([str(i) for i in range(200)], 1000, 0)
    found = difference(Ratio.mean((base + 0.1).tolist()), Ratio.mean(base.tolist()), weights, of_row)
    assert abs(found.value - 0.1) < 1e-9
    assert found.high - found.low < 1e-9


def test_the_same_seed_gives_the_same_interval() -> None:
    values = Ratio.mean([0.0, 1.0, 0.5, 0.2])
    first, second = (estimate(values, *draw_weights(list("abcd"), 200, 7)) for _ in range(2))
    assert first == second
