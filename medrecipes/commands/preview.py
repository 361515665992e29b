"""Show examples token by token, what is supervised in colour; of a tag recipe words with tags and pieces."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from medrecipes.commands import _options as options
from medrecipes.core.errors import MedRecipesError, printable

if TYPE_CHECKING:
    from medrecipes.recipe.schema import Recipe

EXAMPLE = """example:
  medrecipes preview tiny_mistral -n 1"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.recipe(parser, optional=True)
    parser.add_argument("-n", type=options.whole(1, 1_000_000), default=5, metavar="ROWS", help="how many rows (default: 5)")  # fmt: skip
    parser.add_argument("--row", metavar="ID", help="this row alone")
    options.as_json(parser, "a line of JSON a row: text, ids, labels; of a tag recipe words, tags, pieces, windows")
    parser.add_argument("--template", metavar="NAME", help="in place of a recipe: the template")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="in place of a recipe: a tokenizer's folder")
    parser.add_argument("--file", type=Path, metavar="FILE", help='in place of a recipe: lines of {"messages": [...]}')
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> None:
    """Show examples of a recipe, or of a template, a tokenizer and a file."""
    from medrecipes.core.console import Console
    from medrecipes.rendering.chat_template import ChatTemplate
    from medrecipes.rendering.preview import choose, conversations_from_file, preview, preview_json

    if arguments.recipe:
        from medrecipes.core.files import cache_root
        from medrecipes.data.split import prepare
        from medrecipes.engines import tokenizer_base
        from medrecipes.recipe.load import load
        from medrecipes.rendering.base_template import base_template

        recipe = load(arguments.recipe, arguments.set).recipe
        if recipe.task == "tag":
            _tags(recipe, arguments)
            return
        data, whole, console = recipe.data, recipe.train.loss_on == "all", Console(sys.stderr)
        with console.working("preview"), console.quiet(cache_root() / "log.txt"):
            split = prepare(recipe)
            template = base_template(recipe, tokenizer_base(recipe, split).tokenizer, recipe.model.base, split.rows)
        rows = split.rows
    elif arguments.template and arguments.tokenizer and arguments.file:
        from medrecipes.rendering.tokenizer import Tokenizer

        data, whole, template = None, False, ChatTemplate(arguments.template, Tokenizer(arguments.tokenizer))
        rows = conversations_from_file(arguments.file)
    else:
        raise MedRecipesError("preview: give a RECIPE, or all of --template NAME --tokenizer DIR --file FILE")
    chosen = choose(rows, arguments.n, arguments.row)
    if arguments.json:
        _print(preview_json(template, chosen, whole=whole))
    else:
        preview(template, chosen, Console().rich, data, whole=whole)


def _tags(recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Show the words of a tag recipe with their tags and pieces."""
    from medrecipes.core.console import Console
    from medrecipes.core.files import cache_root
    from medrecipes.data.tagged_split import prepare_tagged
    from medrecipes.engines import tokenizer_base
    from medrecipes.rendering.preview import choose
    from medrecipes.rendering.preview_tags import preview_tags, tags_json

    split = prepare_tagged(recipe)
    with Console().quiet(cache_root() / "log.txt"):
        tokenizer = tokenizer_base(recipe, split).tokenizer
    chosen = choose([*split.train, *split.dev, *split.test], arguments.n, arguments.row)
    if arguments.json:
        _print(tags_json(tokenizer, chosen, split.labels, recipe))
    else:
        preview_tags(tokenizer, chosen, split.labels, recipe, Console().rich)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line))
