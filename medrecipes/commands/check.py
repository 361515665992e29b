"""Report all that is wrong with recipes, or with bare data, without training."""

from __future__ import annotations

import argparse
from os import listdir
from os.path import isdir

from medrecipes.commands import _options as options
from medrecipes.core.errors import MedRecipesError, RecipeError

EXAMPLE = """example:
  medrecipes check recipes/tiny_mistral.toml
  medrecipes check data/own_columns.tsv      what a file of questions and answers holds; writes a first recipe for it"""
# how the names of files with rows end, as data/sources/_files.py has it, which is too slow to import for --help; a test compares the two
DATA = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".xlsm")


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument(
        "recipes",
        nargs="+",
        metavar="RECIPE|DATA",
        help="a recipe, or a file of rows (.csv, .jsonl, .xlsx …) or a folder of them",
    )
    parser.add_argument(
        "--schema-only", action="store_true", help="stop before anything that needs data or a tokenizer"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a check was skipped (offline, or data not at hand)")  # fmt: skip
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> int:
    """Print what each recipe gives; what is wrong is an error, and so is what was skipped where that is asked for."""
    from medrecipes.core.console import Console

    if files := [name for name in arguments.recipes if _rows(name, folders=not arguments.schema_only)]:
        return _look(files, arguments)
    from medrecipes.pipeline.check import check_all

    console = Console()
    with console.working("check"):
        checked = check_all(arguments.recipes, arguments.set, console, schema_only=arguments.schema_only)
    if checked.problems:
        raise RecipeError(checked.problems)
    if len(arguments.recipes) == 1 and not (arguments.schema_only or checked.skipped):
        console.next_move("run", *arguments.recipes, *(word for value in arguments.set for word in ("--set", value)))
    return int(arguments.strict and bool(checked.skipped))


def _rows(name: str, *, folders: bool) -> bool:
    """Whether this is called as data is, or is a folder, and not one of recipes."""
    if isdir(name):
        return folders and not any(file.endswith(".toml") for file in listdir(name))
    return name.lower().removesuffix(".gz").endswith(DATA)


def _look(files: list[str], arguments: argparse.Namespace) -> int:
    """What data files hold, and a first recipe for each."""
    from pathlib import Path

    from medrecipes.core.console import Console
    from medrecipes.core.notes import labelled
    from medrecipes.pipeline.first_look import first_look

    if files != arguments.recipes or arguments.set or arguments.schema_only or arguments.trust_remote_code:
        raise MedRecipesError(
            "check: data files are checked by themselves; check recipes, and with options, in another command"
        )
    console = Console()
    for name in files:
        for label, text in first_look(Path(name)):
            console.line(labelled(label, text))
    return 0
