"""Let a finished run's base and adapter answer again, or answer more."""

from __future__ import annotations

import argparse
from pathlib import Path

from medrecipes.commands import _options as options
from medrecipes.core.errors import MedRecipesError

EXAMPLE = """example:
  medrecipes eval runs/tiny_mistral-* --set eval.temperature=0.7"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.run_folder(parser)
    parser.add_argument("--fresh", action="store_true", help="answer everything anew, in a folder of its own")
    parser.add_argument(
        "--suite", metavar="lm-eval:TASKS", help="benchmarks by lm-evaluation-harness, or medical, or general"
    )
    options.checkpoint(parser)
    parser.add_argument(
        "--dev",
        action="store_true",
        help="answer the dev rows, by which settings are chosen, in place of the test rows",
    )
    options.gpus(parser, "answer on")
    parser.add_argument(
        "--include", type=Path, metavar="DIR", help="with --suite: a folder with task files of your own"
    )
    options.trust_remote_code(parser)
    options.overrides(parser)
    options.machine(parser)


def do(arguments: argparse.Namespace) -> int:
    """Let a finished run answer again."""
    from medrecipes.core.files import read_json
    from medrecipes.evaluation.reopen import Wanted, evaluate

    if arguments.suite and arguments.gpus > 1:
        raise MedRecipesError("--suite: the harness asks on one GPU; leave --gpus out, or the suite")

    def answer() -> None:
        wanted = Wanted(arguments.fresh, arguments.suite, arguments.include, arguments.checkpoint, arguments.dev)
        folder = evaluate(arguments.run, arguments.set, options.console(arguments), wanted)
        options.outcome(
            arguments, {"run": arguments.run, "folder": folder, "report": read_json(folder / "report.json")}
        )

    return options.on_gpus(arguments, answer)
