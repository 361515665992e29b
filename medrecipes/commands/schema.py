"""Print the JSON Schema of recipes, for editors."""

from __future__ import annotations

import argparse
import json

EXAMPLE = """example:
  medrecipes schema > recipe.schema.json"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("--markdown", action="store_true", help="the same as docs/recipe.md")


def do(arguments: argparse.Namespace) -> None:
    """Print the schema."""
    from medrecipes.recipe.json_schema import json_schema, markdown

    print(markdown() if arguments.markdown else json.dumps(json_schema(), indent=2))
