"""Options and steps that several commands share."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecipes.core import processes, trust
from medrecipes.core.errors import printable, shown

if TYPE_CHECKING:
    from medrecipes.core.console import Console

# as in the schema, which is too slow to import for --help; a test compares the two
FORMATS = ("adapter", "merged-16bit", "merged-4bit", "gguf")
MOST_GPUS = 1024


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number between two others."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # of 5,000 digits too
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{shown(text)}: must be a whole number from {low:,} to {high:,}")
        return value

    return read


def recipe(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """The recipe, a path or the name of one that ships."""
    parser.add_argument("recipe", metavar="RECIPE", nargs="?" if optional else None)


def runs(parser: argparse.ArgumentParser) -> None:
    """Where run folders go."""
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)"
    )


def run_folder(parser: argparse.ArgumentParser) -> None:
    """A finished run."""
    parser.add_argument("run", type=Path, metavar="RUN")


def checkpoint(parser: argparse.ArgumentParser) -> None:
    """Another adapter of the run than the one that was kept."""
    parser.add_argument("--checkpoint", type=whole(1, 10_000_000), metavar="N", help="the adapter of step N in place of the one that was kept")  # fmt: skip


def as_json(parser: argparse.ArgumentParser, help: str = "the same as JSON") -> None:
    """For machines."""
    parser.add_argument("--json", action="store_true", help=help)


def machine(parser: argparse.ArgumentParser) -> None:
    """How a long command speaks to a machine."""
    parser.add_argument("--quiet", action="store_true", help="print no progress and no summary, only notes and errors")
    as_json(parser, "print what came of it as one JSON object; progress goes to standard error")


def console(arguments: argparse.Namespace) -> Console:
    """Where a long command says what it does."""
    from medrecipes.core.console import Console

    if arguments.quiet:
        return Console.silent()
    return Console(sys.stderr if arguments.json else None)


def outcome(arguments: argparse.Namespace, value: dict[str, Any]) -> None:
    """What came of a long command, for a machine that asked."""
    if arguments.json:
        print(printable(json.dumps(value, indent=2, default=str, ensure_ascii=False)))


def gpus(parser: argparse.ArgumentParser, does: str) -> None:
    """On how many GPUs."""
    parser.add_argument("--gpus", type=whole(1, MOST_GPUS), default=1, metavar="N", help=f"{does} so many GPUs of this machine (default: 1)")  # fmt: skip


def trust_remote_code(parser: argparse.ArgumentParser) -> None:
    """The only way in which code of others may run."""
    parser.add_argument(trust.OPTION, action="append", default=[], metavar="BASE@COMMIT", help="let this base run Python code of its own, at this commit, or of this folder (may be repeated)")  # fmt: skip


def overrides(parser: argparse.ArgumentParser) -> None:
    """Values typed over those of the recipe."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the recipe, or a whole table",
    )


def launch(arguments: argparse.Namespace) -> int:
    """The same command, by a process for each GPU."""
    return processes.launch(["-m", "medrecipes", *arguments.words], arguments.gpus)


def on_gpus(arguments: argparse.Namespace, do: Callable[[], object]) -> int:
    """Do what opens a finished run: on one GPU, or on as many as asked for, where the others answer beside the leader."""
    if arguments.gpus > processes.size():
        return launch(arguments)
    processes.join()
    code = 0
    if processes.leads():
        code = int(bool(do()))
        processes.share(None)
    else:
        from medrecipes.core.console import Console
        from medrecipes.evaluation.reopen import assist

        with Console().quiet(Path(os.devnull)):
            assist()
    processes.part()
    return code
