"""Intervals over groups, in literals, and whether they keep their promise."""

from __future__ import annotations

import numpy as np
import pytest

from medrecipes.scoring.bootstrap import Average, Ratio, difference, draw_weights, estimate, tail
from medrecipes.scoring.tables import show


def test_one_group_has_no_interval() -> None:
    weights, of_row = draw_weights(["a", "a"], 100, 0)
    found = estimate(Ratio(np.array([1.0, 3.0]), np.array([2.0, 2.0])), weights, of_row)
    assert (found.value, found.low, found.high) == (1.0, None, None)
    assert (show("rougeL", found.as_dict()), show("stops", found.as_dict(), signed=True)) == ("1.000 [-]", "+100% [-]")


def test_rows_of_a_group_are_drawn_together() -> None:
    weights, of_row = draw_weights(["a", "b"] * 50, 1000, 0)
    found = estimate(Ratio.mean([0.0, 1.0] * 50), weights, of_row)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_a_paired_difference_is_narrower_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, 200)
    weights, of_row = draw_weights([str(i) for i in range(200)], 1000, 0)
    found = difference(Ratio.mean((base + 0.1).tolist()), Ratio.mean(base.tolist()), weights, of_row)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert abs(found.value - 0.1) < 1e-9
    assert found.high - found.low < 1e-9


def test_the_same_seed_gives_the_same_interval() -> None:
    values = Ratio.mean([0.0, 1.0, 0.5, 0.2])
    first, second = (estimate(values, *draw_weights(list("abcd"), 200, 7)) for _ in range(2))
    assert first == second


def test_nothing_of_nothing_is_no_figure() -> None:
    weights, of_row = draw_weights(["a", "b"], 100, 0)
    zero = np.zeros(2)
    assert estimate(Ratio(zero, zero), weights, of_row).as_dict() == {"value": None, "low": None, "high": None}
    # nothing said where there was something to say
    assert estimate(Ratio(zero, zero, np.ones(2)), weights, of_row).value == 0.0


def test_an_average_weighs_its_parts_alike_and_leaves_out_what_does_not_exist() -> None:
    weights, of_row = draw_weights(["a", "b"], 100, 0)
    half, all_of_it = Ratio(np.array([1.0, 0]), np.ones(2)), Ratio(np.array([9.0, 0]), np.array([9.0, 0]))
    absent = Ratio(np.zeros(2), np.zeros(2))
    assert estimate(Average((half, all_of_it)), weights, of_row).value == 0.75
    assert estimate(Average((half, all_of_it, absent)), weights, of_row).value == 0.75


@pytest.mark.parametrize(("groups", "share"), [(5, 0.0010), (10, 0.0086), (30, 0.0188), (1000, 0.0248)])
def test_few_groups_look_further_out(groups: int, share: float) -> None:
    assert tail(groups) == pytest.approx(share, abs=0.0005)


@pytest.mark.parametrize("groups", [12, 40, 150])
def test_intervals_cover_the_truth(groups: int) -> None:
    """Rows of a group share their luck, groups differ in size; the truth is what endless groups would give."""
    rng = np.random.default_rng(groups)
    inside = trials = 0
    for _ in range(1000):
        sizes = rng.integers(1, 8, groups)
        of_row = np.repeat(np.arange(groups), sizes)
        rate = rng.beta(4, 2, groups)  # the true mean is 2/3, whatever the sizes
        hits = rng.random(len(of_row)) < rate[of_row]
        weights, rows = draw_weights([str(g) for g in of_row], 400, int(rng.integers(1 << 30)))
        found = estimate(Ratio.mean(hits.astype(float).tolist()), weights, rows)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 2 / 3 <= found.high
        trials += 1
    assert 0.93 <= inside / trials <= 0.97


@pytest.mark.parametrize("groups", [15, 60])
def test_paired_intervals_cover_the_true_difference(groups: int) -> None:
    rng = np.random.default_rng(groups)
    inside = 0
    for _ in range(1000):
        of_row = np.repeat(np.arange(groups), rng.integers(1, 6, groups))
        luck = rng.normal(0, 1, groups)[of_row]
        base = luck + rng.normal(0, 0.5, len(of_row))
        tuned = luck + 0.2 + rng.normal(0, 0.5, len(of_row)) + rng.normal(0, 0.3, groups)[of_row]
        weights, rows = draw_weights([str(g) for g in of_row], 400, int(rng.integers(1 << 30)))
        found = difference(Ratio.mean(tuned.tolist()), Ratio.mean(base.tolist()), weights, rows)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0.2 <= found.high
    assert 0.93 <= inside / 1000 <= 0.97
