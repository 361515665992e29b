"""Write a first recipe for your own file, folder or dataset of the Hub: columns guessed, a base that fits."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrecipes.core.console import Console
    from medrecipes.data.guess import Guess

EXAMPLE = """example:
  medrecipes init data/own_columns.tsv --yes
  medrecipes init data/own_columns.tsv --question frage --answer antwort --licence CC-BY-4.0 --out own.toml --yes"""
ROLES = {"question": "question", "answer": "answer", "document": "document", "type": "kind"}
NONE = "-"
WIDTH = 100  # characters of a row's text


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("data", metavar="FILE|FOLDER|OWNER/NAME", help="JSONL, JSON, CSV, TSV, Parquet or Excel, or a dataset of the Hub")  # fmt: skip
    parser.add_argument("--question", metavar="COLUMN", help="the column with the question (default: guessed)")
    parser.add_argument("--answer", metavar="COLUMN", help="the column with the answer (default: guessed)")
    parser.add_argument("--document", metavar="COLUMN", help="the column that names what a row was taken from; - for none (default: guessed)")  # fmt: skip
    parser.add_argument("--kind", metavar="COLUMN", dest="type", help="the column with the kind of question; - for none (default: guessed)")  # fmt: skip
    parser.add_argument("--licence", metavar="NAME", help="the licence of the rows, such as CC-BY-4.0; a release asks for one")  # fmt: skip
    parser.add_argument("--base", metavar="ID", help="the base model: a Hub id, a folder, or a file of recipes/base (default: one that fits)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="RECIPE", help="where the recipe goes (default: the data's name, here)")  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="take what was guessed, and ask nothing")


def do(arguments: argparse.Namespace) -> None:
    """Guess, show, ask where a person is there, and write the recipe."""
    from medrecipes.core.console import Console, called
    from medrecipes.core.notes import labelled
    from medrecipes.data import leakage, tally
    from medrecipes.data.guess import guess
    from medrecipes.data.split import prepare
    from medrecipes.engines.plan.nvidia_smi import first_gpu
    from medrecipes.pipeline import first_recipe

    console = Console()
    if arguments.out:
        first_recipe.require_free(arguments.out)
    own = first_recipe.find(arguments.data)
    out = arguments.out or Path(f"{own.name}.toml")
    first_recipe.require_free(out)
    typed = {role: getattr(arguments, role) for role in ROLES if getattr(arguments, role) is not None}
    said = {role: None if name == NONE else name for role, name in typed.items()}
    found = guess(own.path, said)
    _show(console, found)
    licence, base = arguments.licence, arguments.base
    if asks := not arguments.yes and sys.stdin.isatty():
        answered = _asked(found)
        if answered != {role: getattr(found.columns, role) for role in answered}:
            found = guess(own.path, {**said, **answered})
            _show(console, found)
        licence = licence or _ask("licence of the rows, such as CC-BY-4.0 (Enter: not known yet)", "")
    device = first_gpu()
    gpu = device.gpu if device else None
    chosen = first_recipe.named(base, found, gpu) if base else first_recipe.propose(found, gpu)
    console.line(labelled("base", f"{chosen.name}: {chosen.why}"))
    if asks and not base and (other := _ask("another base (Enter: this one)", "")):
        chosen = first_recipe.named(other, found, gpu)
        console.line(labelled("base", f"{chosen.name}: {chosen.why}"))
    draft = first_recipe.Draft(own, found, chosen, licence or None, out)
    split = prepare(draft.recipe())
    console.line(labelled("data", tally.parts(split.report)))
    if line := leakage.headline(split.report["leakage"]):
        console.line(labelled("leakage", line))
    draft.write()
    console.line(labelled("written", str(out)))
    console.line(labelled("next", f"{called()} check {out}"))
    console.line(labelled("", f"{called()} run {out}"))


def _show(console: Console, found: Guess) -> None:
    """The guess, and three rows of it."""
    from medrecipes.core.errors import short
    from medrecipes.core.notes import labelled
    from medrecipes.pipeline.first_recipe import shown, taken

    console.line(labelled("columns", taken(found)))
    if found.columns.document is None:
        console.line(labelled("note", "no column names what a row was taken from; rows of one document may stand on both sides of the split (--document COLUMN)"))  # fmt: skip
    for number, row in enumerate(shown(found), 1):
        for role, text in row:
            console.line(labelled(f"  {role}", short(" ".join(text.split()), WIDTH)))
        console.line() if number < 3 else None


def _asked(found: Guess) -> dict[str, str | None]:
    """What a person says the columns are, each with the guess as its default."""
    if found.turns:
        return {}
    told = {role: _ask(f"column with the {ROLES[role]}{'' if role in ('question', 'answer') else ', - for none'}", getattr(found.columns, role) or NONE) for role in ROLES}  # fmt: skip
    return {role: None if name == NONE else name for role, name in told.items()}


def _ask(what: str, default: str) -> str:
    """A line that a person types; Enter takes the default."""
    try:
        return input(f"{what}{f' [{default}]' if default else ''}: ").strip() or default
    except EOFError:
        print()
        return default
