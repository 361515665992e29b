"""Names of repositories: what a pattern gives, and what it may not be."""

from __future__ import annotations

import pytest

from medrecipes.core.errors import MedRecipesError
from medrecipes.recipe.repository_names import base_name, fill, pattern_problem

VALUES = {"user": "ann", "base": "mistral-7b-instruct-v0.2", "recipe": "my recipe", "timestamp": "20261121_101500"}


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{user}/{base}-medical", "ann/mistral-7b-instruct-v0.2-medical"),
        ("{user}/llama-3.2-3b-medical-ner-{timestamp}", "ann/llama-3.2-3b-medical-ner-20261121_101500"),
        ("hospital/{recipe}", "hospital/my-recipe"),
        ("hospital/--{recipe}..x.", "hospital/my-recipe.x"),
    ],
)
def test_a_pattern_is_filled_in(pattern: str, name: str) -> None:
    assert fill("publish.repo", pattern, VALUES) == name


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("unsloth/mistral-7b-instruct-v0.2-bnb-4bit", "mistral-7b-instruct-v0.2"),
        ("unsloth/Llama-3.2-3B-Instruct-unsloth-bnb-4bit", "llama-3.2-3b-instruct"),
        ("tiny:mistral", "tiny-mistral"),
        ("/models/My Base", "my base"),
    ],
)
def test_what_a_base_is_called(base: str, name: str) -> None:
    assert base_name(base) == name


@pytest.mark.parametrize(
    ("key", "pattern", "problem"),
    [
        ("publish.repo", "{user}/{bas}", "= '{user}/{bas}': {bas} is unknown; did you mean {base}?"),
        ("publish.repo", "{user}/{x}", "= '{user}/{x}': {x} is unknown; known: {user}, {base}, {recipe}, {timestamp}"),
        (
            "publish.repo",
            "{user}/{base",
            "= '{user}/{base': expected '}' before end of string; write a placeholder as {base}",
        ),
        ("publish.repo", "medical", "= 'medical': must be OWNER/NAME, such as '{user}/my-model'"),
        ("publish.dataset_repo", "{user}/{base}", "= '{user}/{base}': {base} is unknown; known: {user}, {name}"),
    ],
)
def test_a_wrong_pattern_is_one_line(key: str, pattern: str, problem: str) -> None:
    assert pattern_problem(key, pattern).startswith(problem)


def test_what_the_hub_would_not_take_as_a_name_is_one_line() -> None:
    with pytest.raises(MedRecipesError, match="which is no name of at most 96 characters; correct it"):
        fill("publish.repo", "{user}/" + "x" * 100, VALUES)
    with pytest.raises(MedRecipesError, match="gives ann/, which is no name"):
        fill("publish.repo", "{user}/---", VALUES)
