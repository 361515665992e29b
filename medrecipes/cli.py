"""The command line: parses, calls, prints; holds no logic."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from medrecipes import __version__
from medrecipes.errors import MedRecipesError, RecipeError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the user's mistakes become one line and exit code 2."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.do(arguments) or 0)
    except MedRecipesError as error:
        if arguments.debug:
            raise
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("medrecipes", description="Medical fine-tuning recipes that prove what they do.")
    parser.add_argument("--version", action="version", version=f"medrecipes {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = _command(commands, "run", _run, "train, evaluate and report a recipe")
    run.add_argument("recipe", metavar="RECIPE")
    run.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)"
    )
    run.add_argument("--fresh", action="store_true", help="start another run beside the one that exists")
    _overrides(run)

    check = _command(commands, "check", _check, "say all that is wrong with recipes, without training")
    check.add_argument("recipes", nargs="+", metavar="RECIPE")
    check.add_argument("--schema-only", action="store_true", help="stop before anything that needs data or a tokenizer")
    _overrides(check)

    build = _command(commands, "build", _build, "make the processed datasets of a recipe, without a model")
    build.add_argument("recipe", metavar="RECIPE")
    build.add_argument(
        "--out", type=Path, default=Path("datasets"), metavar="DIR", help="where they go (default: datasets)"
    )
    build.add_argument(
        "--format", action="append", default=[], choices=["jsonl", "parquet"], help="write the splits as files too"
    )
    _overrides(build)

    preview = _command(commands, "preview", _preview, "show examples token by token, what is learned in colour")
    preview.add_argument("recipe", nargs="?", metavar="RECIPE")
    preview.add_argument("-n", type=int, default=5, metavar="ROWS", help="how many rows (default: 5)")
    preview.add_argument("--row", metavar="ID", help="this row alone")
    preview.add_argument("--json", action="store_true", help="a line of JSON a conversation: text, ids, labels")
    preview.add_argument("--template", metavar="NAME", help="in place of a recipe: the template")
    preview.add_argument("--tokenizer", type=Path, metavar="DIR", help="in place of a recipe: a tokenizer's folder")
    preview.add_argument("--file", type=Path, metavar="FILE", help='in place of a recipe: lines of {"messages": [...]}')
    _overrides(preview)
    return parser


def _command(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, do: object, help: str) -> argparse.ArgumentParser:  # fmt: skip
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(do=do)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of the recipe"
    )


def _run(arguments: argparse.Namespace) -> None:
    from medrecipes.console import Console
    from medrecipes.recipe import load
    from medrecipes.run import run

    run(load(arguments.recipe, arguments.set).recipe, arguments.runs, Console(), fresh=arguments.fresh)


def _check(arguments: argparse.Namespace) -> None:
    from medrecipes.recipe import load

    recipes, problems = [], []
    for path in arguments.recipes:
        try:
            recipes.append(load(path, arguments.set).recipe)
        except RecipeError as error:
            problems += error.problems
    if not problems and not arguments.schema_only:
        from medrecipes.check import check_all
        from medrecipes.console import Console

        problems = check_all(arguments.recipes, recipes, Console())
    if problems:
        raise RecipeError(problems)


def _build(arguments: argparse.Namespace) -> None:
    from medrecipes.build import build
    from medrecipes.console import Console
    from medrecipes.recipe import load

    console = Console()
    for built in build(load(arguments.recipe, arguments.set).recipe, arguments.out, arguments.format):
        console.line(built.lines())


def _preview(arguments: argparse.Namespace) -> None:
    from medrecipes.console import Console
    from medrecipes.preview import choose, conversations_from_file, preview, preview_json
    from medrecipes.rendering import ChatTemplate

    if arguments.recipe:
        from medrecipes.engines import recipe_base
        from medrecipes.prepare import prepare
        from medrecipes.recipe import load
        from medrecipes.store import cache_root

        recipe = load(arguments.recipe, arguments.set).recipe
        split = prepare(recipe)
        with Console().quiet(cache_root() / "log.txt"):
            tokenizer = recipe_base(recipe, split).tokenizer
        template = ChatTemplate(recipe.template.name, tokenizer, system=recipe.template.system)
        rows = [*split.train, *split.dev, *split.test]
    elif arguments.template and arguments.tokenizer and arguments.file:
        from medrecipes.tokens import Tokenizer

        template = ChatTemplate(arguments.template, Tokenizer(arguments.tokenizer))
        rows = conversations_from_file(arguments.file)
    else:
        raise MedRecipesError("preview: give a RECIPE, or all of --template NAME --tokenizer DIR --file FILE")
    chosen = choose(rows, arguments.n, arguments.row)
    if arguments.json:
        for line in preview_json(template, chosen):
            print(line)
    else:
        preview(template, chosen, Console().rich)


if __name__ == "__main__":
    sys.exit(main())
