"""What holds of a release."""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.recipe.repository_names import pattern_problem
from medrecipes.recipe.rules.where import Problem, Where
from medrecipes.recipe.schema import Recipe


def publish(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """What is released can be."""
    publish = recipe.publish
    for key, pattern in (("publish.repo", publish.repo), ("publish.dataset_repo", publish.dataset_repo)):
        if problem := pattern_problem(key, pattern):
            yield (key,), f"{at(key)} {problem}"
    if not publish.formats:
        yield ("publish.formats",), f"{at('publish.formats')} is empty, so nothing would be released; name 'adapter'"
    if publish.push and set(publish.formats) - {"adapter"}:
        keys = "publish.push", "publish.formats"
        text = "what is exported exists only after the run; release it by hand with `medrecipes publish RUN --push`"
        yield keys, f"{at(keys[0])} contradicts {at(keys[1])}: {text}"
    if publish.create_pr and publish.tag:
        keys = "publish.create_pr", "publish.tag"
        yield keys, f"{at(keys[0])} contradicts {at(keys[1])}: a tag stands at a commit of a branch; leave one out"
