"""Hold what a release or a run claims against what its files give."""

from __future__ import annotations

import argparse
from pathlib import Path

from medrecipes.commands import _options as options

EXAMPLE = """example:
  medrecipes verify runs/tiny_mistral-*"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("name", metavar="REPO|RUN", help="OWNER/NAME or datasets/OWNER/NAME on the Hub, or a run folder")  # fmt: skip
    parser.add_argument("--revision", metavar="REVISION", help="a branch, tag or commit of the repository")
    parser.add_argument("--strict", action="store_true", help="exit code 1 for what could not be checked, too")
    options.gpus(parser, "recompute the loss on")
    options.trust_remote_code(parser)
    options.overrides(parser)
    options.machine(parser)


def do(arguments: argparse.Namespace) -> int:
    """Exit code 1 where a claim differs, and with --strict where one could not be checked."""
    from medrecipes.release.verify import holds, verify

    def look() -> bool:
        console = options.console(arguments)
        claims = verify(arguments.name, arguments.set, console, arguments.revision)
        held = holds(claims, strict=arguments.strict)
        if held and (Path(arguments.name) / "run.json").exists():
            console.next_move("publish", arguments.name)
        options.outcome(arguments, {"name": arguments.name, "holds": held, "claims": [vars(claim) for claim in claims]})
        return not held

    return options.on_gpus(arguments, look)
