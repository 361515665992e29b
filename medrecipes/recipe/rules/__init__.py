"""What no single key of a recipe can know: which values go together, and which names exist."""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.recipe.rules import data, model, release, texts, training
from medrecipes.recipe.rules.where import Problem, Where
from medrecipes.recipe.schema import Recipe

RULES = (
    model.base,
    model.bits,
    data.name,
    data.datasets,
    data.exclusion,
    data.mixture,
    data.templates,
    data.build,
    data.split,
    model.lora,
    training.names,
    training.steps,
    training.supervision,
    training.eight_bits,
    training.best,
    training.evaluation,
    training.task,
    release.publish,
    training.sweep,
    texts.texts,
)


def broken(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Every rule that the recipe breaks."""
    for rule in RULES:
        yield from rule(recipe, at)
