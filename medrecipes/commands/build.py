"""Make the processed datasets of a recipe, without a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from medrecipes.commands import _options as options

EXAMPLE = """example:
  medrecipes build tiny_mistral --format parquet"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.recipe(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("datasets"), metavar="DIR", help="where they go (default: datasets)"
    )
    parser.add_argument(
        "--format", action="append", default=[], choices=["jsonl", "parquet"], help="write the splits as files too"
    )
    parser.add_argument("--push", action="store_true", help="release every dataset that it made")
    parser.add_argument("--waive", action="append", default=[], metavar="GATE", help="with --push: as publish does")
    options.overrides(parser)
    options.machine(parser)


def do(arguments: argparse.Namespace) -> None:
    """Make datasets, and release them where that is asked for."""
    from medrecipes.pipeline.build import build
    from medrecipes.pipeline.build_tags import build_tagged
    from medrecipes.recipe.load import load

    console, recipe, folders, told = options.console(arguments), load(arguments.recipe, arguments.set).recipe, [], []
    tagged = recipe.task == "tag"
    made = iter([build_tagged(recipe, arguments.out, arguments.format)]) if tagged else build(recipe, arguments.out, arguments.format, console)  # fmt: skip
    with console.stage("build") as stage:
        for built in made:
            console.line(built.lines(console.width))
            folders.append(built.folder)
            told.append({"name": built.name, "folder": built.folder, "rows": built.report["rows"]})
        stage.says(f"{len(folders)} dataset{'s' if len(folders) != 1 else ''}")
    releases = []
    if arguments.push:
        from medrecipes.release.publish import publish

        releases = publish(folders, console, push=True, settings=recipe.publish, waived=arguments.waive)
    else:
        console.next_move("publish", *folders)
    options.outcome(arguments, {"datasets": told, "releases": releases})
