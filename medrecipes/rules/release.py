"""What holds of a release."""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.naming import pattern_problem
from medrecipes.recipe import Recipe, source_names
from medrecipes.rules.data import entries
from medrecipes.rules.where import Problem, Where
from medrecipes.sources import open_source


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


def shared(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """What the end of a run would refuse to push is said before it begins."""
    known = source_names()
    for place, entry in entries(recipe.data):
        if not recipe.publish.push or entry.source not in known:
            continue
        source, keys = open_source(entry.source), ("publish.push", f"{place}.source")
        if source.redistributable != "yes":
            why = "states no licence" if source.licence == "unknown" else f"is under {source.licence}, which does not let it be passed on"  # fmt: skip
            yield (
                keys,
                f"{at(keys[0])} contradicts {at(keys[1])} = {entry.source!r}: {source.title} {why}; leave it out, or set "
                "publish.push = false and release by hand with `medrecipes publish RUN --push --waive licence`",
            )
