"""Print the resolved recipe, each value with the file and line that set it."""

from __future__ import annotations

import argparse

from medrecipes.commands import _options as options
from medrecipes.core.errors import printable

EXAMPLE = """example:
  medrecipes show demo"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.recipe(parser)
    options.as_json(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> None:
    """Print the resolved recipe."""
    from medrecipes.recipe.load import load
    from medrecipes.recipe.show import show, show_json

    loaded = load(arguments.recipe, arguments.set)
    for line in [show_json(loaded)] if arguments.json else show(loaded):
        print(printable(line))
