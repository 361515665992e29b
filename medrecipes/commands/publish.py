"""Show what would be released to the Hub, and with --push release it."""

from __future__ import annotations

import argparse
from pathlib import Path

from medrecipes.commands import _options as options

EXAMPLE = """example:
  medrecipes publish runs/tiny_mistral-*             what a release would be; --push makes it"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN|DATASET")
    parser.add_argument("--push", action="store_true", help="release it: one commit a repository, read back after")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="the repository, or a pattern such as {user}/{base}-medical")  # fmt: skip
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_const", const=True, help="a private repository (the default, unless the recipe says otherwise)")  # fmt: skip
    seen.add_argument("--public", dest="private", action="store_const", const=False, help="a public repository")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch that it goes to; made where it is missing")
    parser.add_argument("--create-pr", action="store_const", const=True, help="open a pull request instead")
    parser.add_argument("--tag", metavar="NAME", help="a tag for the release")
    parser.add_argument("--format", action="append", choices=options.FORMATS, help="what of a run: adapter, or what export made (may be repeated)")  # fmt: skip
    options.gpus(parser, "recompute the loss on")
    options.trust_remote_code(parser)
    parser.add_argument("--waive", action="append", default=[], metavar="GATE", help="release in spite of a gate; the card records it (may be repeated)")  # fmt: skip
    options.machine(parser)


def do(arguments: argparse.Namespace) -> int:
    """Show releases, or make them."""
    from medrecipes.release.publish import publish

    names = {"repo": "repo", "private": "private", "revision": "revision", "create_pr": "create_pr", "tag": "tag", "formats": "format"}  # fmt: skip
    changes = {key: value for key, name in names.items() if (value := getattr(arguments, name)) is not None}
    console, push, waived = options.console(arguments), arguments.push, arguments.waive

    def show() -> None:
        releases = publish(arguments.folders, console, push=push, changes=changes, waived=waived)
        options.outcome(arguments, {"releases": releases})

    return options.on_gpus(arguments, show)
