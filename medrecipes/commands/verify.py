"""Hold what a release or a run claims against what its files give."""

from __future__ import annotations

import argparse

from medrecipes.commands import _options as options


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("name", metavar="REPO|RUN", help="OWNER/NAME or datasets/OWNER/NAME on the Hub, or a run folder")  # fmt: skip
    parser.add_argument("--revision", metavar="REVISION", help="a branch, tag or commit of the repository")
    parser.add_argument("--strict", action="store_true", help="exit code 1 for what could not be checked, too")
    options.gpus(parser, "recompute the loss on")
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> int:
    """Exit code 1 where a claim differs, and with --strict where one could not be checked."""
    from medrecipes.core.console import Console
    from medrecipes.release.verify import verify

    name, settings, revision, strict = arguments.name, arguments.set, arguments.revision, arguments.strict
    return options.on_gpus(arguments, lambda: not verify(name, settings, Console(), revision, strict=strict))
