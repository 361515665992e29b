"""List what there is: recipes, templates, sources, bases and runs."""

from __future__ import annotations

import argparse
import json

from medrecipes.commands import _options as options
from medrecipes.core.errors import printable

# as in pipeline/catalog.py, which is too slow to import for --help; a test compares the two
SECTIONS = ("recipes", "templates", "sources", "bases", "runs")
EXAMPLE = """example:
  medrecipes list
  medrecipes list bases --json"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(SECTIONS)} (default: all of them)")
    options.runs(parser)
    options.as_json(parser)


def do(arguments: argparse.Namespace) -> None:
    """Print the lists that are asked for."""
    from medrecipes.core.errors import MedRecipesError, did_you_mean, shown
    from medrecipes.pipeline.catalog import SECTIONS
    from medrecipes.scoring.tables import aligned

    for name in arguments.what:
        if name not in SECTIONS:
            raise MedRecipesError(f"list: {shown(name)} is none of {', '.join(SECTIONS)}{_hint(did_you_mean(name, SECTIONS))}")  # fmt: skip
    found = {name: SECTIONS[name](arguments.runs) for name in arguments.what or SECTIONS}
    if arguments.json:
        print(printable(json.dumps(found, indent=2)))
        return
    for number, (name, entries) in enumerate(found.items()):
        print(printable(f"{chr(10) if number else ''}{name}" + ("" if entries else f": none in {arguments.runs}")))
        for line in aligned([list(entry.values()) for entry in entries]) if entries else ():
            print(printable(f"  {line}"))


def _hint(hint: str) -> str:
    return hint if hint.startswith("; did") else ""
