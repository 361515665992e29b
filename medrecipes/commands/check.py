"""Report all that is wrong with recipes, without training."""

from __future__ import annotations

import argparse

from medrecipes.commands import _options as options
from medrecipes.core.errors import RecipeError


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("recipes", nargs="+", metavar="RECIPE")
    parser.add_argument(
        "--schema-only", action="store_true", help="stop before anything that needs data or a tokenizer"
    )
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> None:
    """Print what each recipe gives; what is wrong is an error."""
    from medrecipes.core.console import Console
    from medrecipes.pipeline.check import check_all

    if problems := check_all(arguments.recipes, arguments.set, Console(), schema_only=arguments.schema_only):
        raise RecipeError(problems)
