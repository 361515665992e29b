"""Compare runs side by side: losses, settings, figures, significance."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """example:
  medrecipes compare runs/tiny_mistral-* runs/tiny_llama3-*"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or a CSV with Step,Loss")
    parser.add_argument("--out", type=Path, default=Path("comparison"), metavar="DIR", help="where it goes (default: comparison)")  # fmt: skip
    parser.add_argument("--anyway", action="store_true", help="compare runs that were evaluated on different test sets or with different decoding, and mark it")  # fmt: skip


def do(arguments: argparse.Namespace) -> None:
    """Compare runs side by side."""
    from medrecipes.core.console import Console
    from medrecipes.evaluation.compare import compare

    compare(arguments.runs, arguments.out, Console(), anyway=arguments.anyway)
