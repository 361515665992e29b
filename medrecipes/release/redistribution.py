"""Whether what a recipe would push may be passed on: known before a run begins, by the licences of its sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from medrecipes.core.errors import RecipeError
from medrecipes.data.reading import source_of
from medrecipes.recipe.rules.data import entries
from medrecipes.recipe.schema import Recipe, source_names


def withheld(recipe: Recipe, at: Callable[[str], str]) -> Iterator[str]:
    """The sources that `publish.push` contradicts; `at` names a key with the file and line that set it."""
    known = source_names()
    for place, entry in entries(recipe.data):
        if not recipe.publish.push or entry.source not in known:
            continue
        source = source_of(entry)
        if source.redistributable != "yes":
            why = "states no licence" if source.licence == "unknown" else f"is under {source.licence}, which does not let it be passed on"  # fmt: skip
            own = f"state it as {place}.licence, such as 'CC-BY-4.0', or " if source.licence == "unknown" and entry.source == "jsonl" else "leave it out, or "  # fmt: skip
            yield (
                f"{at('publish.push')} contradicts {at(f'{place}.source')} = {entry.source!r}: {source.title} {why}; {own}set "
                "publish.push = false and release by hand with `medrecipes publish RUN --push --waive licence`"
            )


def require_redistributable(recipe: Recipe, at: Callable[[str], str] = str) -> None:
    """Raise now if the end of the run would refuse to push it."""
    if problems := list(withheld(recipe, at)):
        raise RecipeError(problems)
