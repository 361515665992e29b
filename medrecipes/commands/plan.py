"""Report memory by part, what fits a GPU, and how long it takes, without loading weights."""

from __future__ import annotations

import argparse
import json
import sys

from medrecipes.commands import _options as options
from medrecipes.core.errors import MedRecipesError, printable

EXAMPLE = """example:
  medrecipes plan mistral_medquad --gpu rtx4090
  medrecipes plan mistral_small_medquad --gpu h200 --gpus 2"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.recipe(parser)
    parser.add_argument("--gpu", default="this", metavar="NAME", help="t4, rtx3050, a100-40, h100, h200 …, or e.g. 24GB (default: the one here)")  # fmt: skip
    parser.add_argument("--gpus", type=options.whole(1, options.MOST_GPUS), default=1, metavar="N", help="how many of them (default: 1)")  # fmt: skip
    options.as_json(parser)
    options.trust_remote_code(parser)
    options.overrides(parser)


def do(arguments: argparse.Namespace) -> None:
    """Print what fits a GPU; what does not fit is an error."""
    from medrecipes.core.console import Console
    from medrecipes.core.files import cache_root
    from medrecipes.pipeline.plan_report import lines, outlook
    from medrecipes.recipe.load import load

    console = Console(sys.stderr)
    with console.working("plan"), console.quiet(cache_root() / "log.txt"):  # what libraries print is no plan
        found = outlook(load(arguments.recipe, arguments.set).recipe, arguments.gpu, arguments.gpus)
    print(printable(json.dumps(found, indent=2) if arguments.json else "\n".join(lines(found))))
    if not found["fits"]:
        raise MedRecipesError(f"{arguments.recipe}: {found['advice']}")
