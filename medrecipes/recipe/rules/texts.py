"""What holds of every text of a recipe, whatever its key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from medrecipes.recipe.rules.where import Problem, Where
from medrecipes.recipe.schema import Recipe

# files end names at the first of these, terminals obey the others; line ends and tabs are text
STEERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def texts(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """No text holds control characters."""
    for key, text in _texts(recipe.model_dump(mode="json"), ""):
        if found := STEERS.search(text):
            yield (key,), f"{at(key)} holds the character {found[0]!r}, which is no text; leave it out"


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text with its key, names of tables that the recipe itself gives included."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield key, name
            yield from _texts(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _texts(inner, f"{key}.{position}")
