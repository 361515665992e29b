"""Run every combination of a recipe's [sweep], and name the best on its dev rows."""

from __future__ import annotations

import argparse

from medrecipes.commands import _options as options


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.recipe(parser)
    options.runs(parser)
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> None:
    """Run every combination."""
    from medrecipes.core.console import Console
    from medrecipes.pipeline.sweep import sweep

    sweep(arguments.recipe, arguments.set, arguments.runs, Console())
