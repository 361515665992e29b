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
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a check was skipped (offline, or data not at hand)")  # fmt: skip
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> int:
    """Print what each recipe gives; what is wrong is an error, and so is what was skipped where that is asked for."""
    from medrecipes.core.console import Console
    from medrecipes.pipeline.check import check_all

    checked = check_all(arguments.recipes, arguments.set, Console(), schema_only=arguments.schema_only)
    if checked.problems:
        raise RecipeError(checked.problems)
    return int(arguments.strict and bool(checked.skipped))
