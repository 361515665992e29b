"""Print the resolved recipe, each value with the file and line that set it; of a mixture each dataset's share of the tokens too."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medrecipes.commands import _options as options
from medrecipes.core.errors import MedRecipesError, printable

if TYPE_CHECKING:
    from medrecipes.recipe.load import Loaded

EXAMPLE = """example:
  medrecipes show demo
  medrecipes show tiny_medical      a mixture: what share of the tokens each dataset has, too"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.recipe(parser)
    options.as_json(parser)
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> None:
    """Print the resolved recipe, then the shares of a mixture."""
    from medrecipes.recipe.load import load
    from medrecipes.recipe.show import as_json, show

    loaded = load(arguments.recipe, arguments.set)
    if arguments.json:
        print(printable(json.dumps(as_json(loaded) | _shares(loaded), indent=2, ensure_ascii=False)))
        return
    for line in show(loaded):
        print(printable(line))
    # the recipe is there at once; its rows take a moment
    for line in _said(_shares(loaded)):
        print(printable(line))


def _shares(loaded: Loaded) -> dict[str, Any]:
    """The shares of a mixture, or why they could not be counted; nothing of a recipe with one dataset."""
    recipe = loaded.recipe
    if recipe.task != "chat" or len(recipe.data.entries) < 2:
        return {}
    from medrecipes.core.console import Console
    from medrecipes.core.files import cache_root

    console = Console(sys.stderr)
    with console.working("show"), console.quiet(cache_root() / "log.txt"):
        from medrecipes.pipeline.mixture import shares

        try:
            return {"mixture": shares(recipe)}
        except MedRecipesError as error:
            return {"mixture": {"not_counted": str(error)}}


def _said(found: dict[str, Any]) -> Iterator[str]:
    """A line a dataset."""
    if not found:
        return
    from medrecipes.rendering.mixing import told

    yield "\n# the mixture, in the base's own tokens"
    if why := found["mixture"].get("not_counted"):
        yield f"# the shares were not counted: {why.splitlines()[0]}"
    for _, text in told(found["mixture"]):
        yield f"# {text}"
