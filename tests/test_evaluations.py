"""Dev evaluation within a budget: how often it is done, on which rows, and what is said of it."""

from __future__ import annotations

from collections import Counter

import pytest

from medrecipes.data.grouping import subset
from medrecipes.engines import Choice
from medrecipes.engines.plan.evaluations import Cost, at_most, schedule
from medrecipes.engines.trainer.attempt import plan_evaluations, with_all_dev
from medrecipes.recipe.schema import Recipe, Train

# MedQuAD as the shipped recipes split it: 10,714 rows to train on, 1,337 dev rows, 270 tokens each
ROWS, DEV, TOKENS = 10_714, 1_337, 270


def recipe(**train: object) -> Recipe:
    return Recipe(train=Train.model_validate({"batch": 8, **train}))


BUDGETS = [
    # epochs, dev tokens of an evaluation, of the first, of the final one; how many evaluations follow
    (1, 256, 256, 1_337, 2),  # (0.08 x 10,714 / 0.4 - 256 - 1,337) / 256 = 2.1
    (3, 256, 256, 1_337, 18),
    (1, 1_337, 1_337, 0, 0),  # all dev rows each time
    (1, 256, 0, 1_337, 3),  # none before the first step, as in a tagging run
    (10, 256, 256, 1_337, 77),
]


@pytest.mark.parametrize(("epochs", "each", "first", "final", "count"), BUDGETS)
def test_how_many_evaluations_a_tenth_of_training_affords_with_a_fifth_of_that_left_to_checkpoints(
    epochs: int, each: int, first: int, final: int, count: int
) -> None:
    cost = Cost(epochs * ROWS * TOKENS, each * TOKENS, first * TOKENS, final * TOKENS)
    assert cost.affordable == count
    assert cost.share(count) <= 0.08 or count == 0


def test_a_run_evaluates_four_to_ten_times_and_the_last_step_is_among_them() -> None:
    found = [schedule(recipe(epochs=e), ROWS, Cost(e * ROWS, 256, 256, DEV), 256) for e in (1.0, 3.0, 10.0)]
    assert [(f.eval_steps, f.save_steps) for f in found] == [(335, 335), (402, 402), (1340, 1340)]
    # 1,340 steps at 335, 4,020 at 402, 13,400 at 1,340
    assert found[0].why_eval == "4 evaluations of 256 dev rows, reckoned 10% of training"
    assert found[1].why_eval == "10 evaluations of 256 dev rows, reckoned 5% of training"
    assert found[2].why_eval == "10 evaluations of 256 dev rows, reckoned 2% of training"
    assert found[0].why_save == "a checkpoint with every evaluation"


def test_what_costs_more_than_a_tenth_at_its_fewest_says_so() -> None:
    found = schedule(recipe(), 216, Cost(216, 50, 50), 50)
    assert found.eval_steps == 7  # of 27 steps
    assert (
        found.why_eval == "4 evaluations of 50 dev rows, reckoned 46% of training, the fewest that choose a checkpoint"
    )


SCHEDULES = [
    # settings, dev rows, eval_steps, save_steps
    ({"max_steps": 3, "warmup_steps": 1}, 50, 1, 1),
    ({"max_steps": 100, "warmup_steps": 1}, 50, 25, 25),
    ({"max_steps": 100, "warmup_steps": 1, "eval_steps": 30}, 50, 30, 30),
    ({"max_steps": 100, "warmup_steps": 1, "eval_steps": 30, "save_steps": 60}, 50, 30, 60),
    ({"eval_steps": "epoch"}, 50, "epoch", "epoch"),
    ({"max_steps": 101, "warmup_steps": 1}, 0, None, 11),  # nothing to evaluate: ten checkpoints
    ({"max_steps": 2, "warmup_steps": 1}, 0, None, 1),
    ({"max_steps": 100, "warmup_steps": 1, "save_steps": 40}, 0, None, 40),
]


@pytest.mark.parametrize(("settings", "dev", "eval_steps", "save_steps"), SCHEDULES)
def test_what_the_recipe_says_holds_and_checkpoints_follow_evaluations(
    settings: dict[str, object], dev: int, eval_steps: int | str | None, save_steps: int | str
) -> None:
    found = schedule(recipe(**settings), 200, Cost(200, dev, dev), dev)
    assert (found.eval_steps, found.save_steps) == (eval_steps, save_steps)


def test_the_choices_of_a_run_count_tokens_not_rows() -> None:
    choices: dict[str, Choice] = {}
    # one dev row of 4,000 tokens is not evaluated while it trains, and once at the end
    dev = [100] * 10 + [4_000]
    twice_over = recipe(epochs=2.0)
    cost = Cost.of(twice_over, [100] * 1_600, dev, range(10), first=True)
    found = plan_evaluations(twice_over, cost, 1_600, len(dev), 10, choices)
    # (0.08 x 320,000 / 0.4 - 1,000 - 5,000) / 1,000 = 58, at most 10 of 400 steps
    assert (found.eval_steps, found.save_steps) == (40, 40)
    assert {name: choice.value for name, choice in choices.items()} == {
        "eval_rows": 10,
        "eval_steps": 40,
        "save_steps": 40,
    }
    assert choices["eval_rows"].reason == "of 11 dev rows, each source by its share"
    cost = Cost.of(twice_over, [100] * 100, dev, range(10), first=True, passes=2)
    twice = plan_evaluations(twice_over, cost, 100, len(dev), 10, {})
    assert twice.eval_steps == 7  # of 26 steps: the fewest evaluations
    few = recipe(max_steps=50)
    cost = Cost.of(few, [100] * 8, [], [], first=True)
    assert plan_evaluations(few, cost, 8, 0, 0, choices).eval_steps is None


def test_the_rows_of_the_curve_are_the_recipe_s_number_or_all() -> None:
    assert [at_most(recipe(eval_rows=wanted), 300) for wanted in (256, 1_000, "all", 1)] == [256, 300, 300, 1]


def test_a_subset_has_every_source_by_its_share_and_is_the_same_for_a_seed() -> None:
    kinds = ["a"] * 600 + ["b"] * 300 + ["c"] * 100
    ids = [f"row {number}" for number in range(1_000)]
    chosen = subset(ids, kinds, 250, 42)
    assert Counter(kinds[row] for row in chosen) == {"a": 150, "b": 75, "c": 25}
    assert chosen == sorted(set(chosen)) == subset(ids, kinds, 250, 42)
    assert chosen != subset(ids, kinds, 250, 43)
    # wherever a row stands
    order = list(reversed(range(1_000)))
    again = subset([ids[row] for row in order], [kinds[row] for row in order], 250, 42)
    assert {ids[order[row]] for row in again} == {ids[row] for row in chosen}


def test_what_does_not_divide_goes_to_the_largest_remainders() -> None:
    kinds = ["a"] * 7 + ["b"] * 2 + ["c"]
    chosen = subset([str(number) for number in range(10)], kinds, 5, 42)  # 3.5, 1 and 0.5 rows
    assert Counter(kinds[row] for row in chosen) == {"a": 4, "b": 1}
    assert subset(["x", "y"], ["a", "b"], 2, 42) == [0, 1]
    assert subset([], [], 0, 42) == []


def test_rows_that_come_later_move_few() -> None:
    kinds = ["a", "b", "b"] * 400
    ids = [f"row {number}" for number in range(1_200)]
    before = {ids[row] for row in subset(ids[:1_100], kinds[:1_100], 250, 42)}
    after = {ids[row] for row in subset(ids, kinds, 250, 42)}
    assert len(after) == 250
    assert len(before - after) <= 35  # of 100 new ones, a fifth enters


def test_the_final_figures_are_of_all_dev_rows() -> None:
    some = {"steps": 4, "at_best": {"loss": 2.0, "bits_per_byte": 1.0}}
    evaluated: list[int] = []

    def evaluate() -> dict[str, float]:
        evaluated.append(1)
        return {"eval_loss": 2.5, "eval_bits_per_byte": 1.25}

    whole = with_all_dev(dict(some), 10, 4, evaluate)
    assert whole.pop("all_dev_seconds") >= 0
    assert whole == {"steps": 4, "dev_rows": 4, "all_dev": {"rows": 10, "loss": 2.5, "bits_per_byte": 1.25}}
    # a curve of all of them is not evaluated again
    same = with_all_dev(dict(some), 10, 10, evaluate)
    assert same == {"steps": 4, "dev_rows": 10, "all_dev": {"rows": 10, "loss": 2.0, "bits_per_byte": 1.0}}
    assert with_all_dev({"steps": 4, "at_best": None}, 0, 0, evaluate) == {"steps": 4}
    assert len(evaluated) == 1
