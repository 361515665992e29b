"""Run every combination of a recipe's [sweep], and name the best on its dev rows."""

from __future__ import annotations

import argparse

from medrecipes.commands import _options as options

EXAMPLE = """example:
  medrecipes sweep tiny_sweep"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.recipe(parser)
    options.runs(parser)
    options.trust_remote_code(parser)
    options.overrides(parser)
    options.machine(parser)


def do(arguments: argparse.Namespace) -> None:
    """Run every combination."""
    from medrecipes.core.files import read_json
    from medrecipes.pipeline.sweep import sweep

    folder = sweep(arguments.recipe, arguments.set, arguments.runs, options.console(arguments))
    options.outcome(arguments, {"folder": folder, **read_json(folder / "sweep.json")})
