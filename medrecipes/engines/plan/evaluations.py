"""Dev evaluation within a budget: how often dev rows are evaluated and checkpoints saved, known before training from counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from medrecipes.engines.plan import count_steps
from medrecipes.recipe.schema import Recipe

BUDGET = 0.1  # of training, for all evaluations of dev rows and all checkpoints
SAVING = 0.02  # of training, what of that is left to checkpoints: how long a disk takes is not known before
LEAST, MOST = 4, 10  # evaluations of a run, whatever they cost; the last is that of its last step
CHECKPOINTS = 10  # of a run without dev rows
# a token that is evaluated, against one that is trained: a third to a half of its operations, and 0.36 of its time
# where 1,114 dev rows took as long as 50 steps of 8 rows (7B shape, one H200)
FORWARD = 0.4


@dataclass(frozen=True)
class Cost:
    """Tokens of all training steps together, of one evaluation while it trains, of one before the first step, and of the last one of all dev rows."""

    training: float
    evaluation: float
    first: float = 0.0
    final: float = 0.0

    @classmethod
    def of(
        cls, recipe: Recipe, lengths: Sequence[int], dev: Sequence[int], chosen: Sequence[int], *, first: bool, passes: int = 1
    ) -> Cost:  # fmt: skip
        """Of a training over rows or packs of these lengths; `dev`: tokens of each dev row, `chosen`: those that are evaluated
        while it trains, `first`: before the first step, too, `passes`: how often a row goes through the model."""
        train = recipe.train
        times = train.max_steps * train.batch / len(lengths) if train.max_steps else train.epochs
        one, whole = passes * sum(dev[row] for row in chosen), passes * sum(dev)
        return cls(times * sum(lengths), one, one if first else 0, whole if len(chosen) < len(dev) else 0)

    def share(self, evaluations: int) -> float:
        """What so many evaluations take against training."""
        return FORWARD * (self.first + self.final + evaluations * self.evaluation) / max(1.0, self.training)

    @property
    def affordable(self) -> int:
        """How many evaluations stay within the budget."""
        left = (BUDGET - SAVING) * self.training / FORWARD - self.first - self.final
        return max(0, int(left / self.evaluation))


@dataclass(frozen=True)
class Schedule:
    """Steps between two evaluations and between two checkpoints, each with the reason."""

    eval_steps: int | Literal["epoch"] | None  # None: no dev rows
    save_steps: int | Literal["epoch"]
    why_eval: str
    why_save: str

    def times(self, steps: int, epochs: float) -> int:
        """How many evaluations a training of so many steps makes, that before the first one left out."""
        if self.eval_steps is None:
            return 0
        return math.ceil(epochs if self.eval_steps == "epoch" else steps / self.eval_steps)


def at_most(recipe: Recipe, dev: int) -> int:
    """How many of the dev rows are evaluated while it trains."""
    return dev if recipe.train.eval_rows == "all" else min(recipe.train.eval_rows, dev)


def schedule(recipe: Recipe, rows: int, cost: Cost, evaluated: int) -> Schedule:
    """When a training over so many rows, or packs, evaluates `evaluated` dev rows and saves."""
    steps, settings, said = count_steps(rows, recipe), recipe.train, "the recipe says so"
    every: int | Literal["epoch"] | None = None
    why = "no dev rows"
    if evaluated and settings.eval_steps != "auto":
        every, why = settings.eval_steps, said
    elif evaluated:
        every = between = math.ceil(steps / min(max(LEAST, min(MOST, cost.affordable)), steps))
        times = math.ceil(steps / between)
        share = cost.share(times)
        bound = "" if share <= BUDGET else ", the fewest that choose a checkpoint"
        why = f"{times} evaluation{'s' if times != 1 else ''} of {evaluated:,} dev rows, reckoned {_percent(share)} of training{bound}"
    if settings.save_steps != "auto":
        return Schedule(every, settings.save_steps, why, said)
    if every is None:
        return Schedule(
            None, math.ceil(steps / min(CHECKPOINTS, steps)), why, f"at most {CHECKPOINTS} checkpoints a run"
        )
    return Schedule(every, every, why, "a checkpoint with every evaluation")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"
