"""Score a predictions file, without a model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from medrecipes.commands import _options as options
from medrecipes.core.errors import printable

EXAMPLE = """example:
  medrecipes score runs/tiny_mistral-*/eval/predictions.jsonl --model tuned"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a line of JSON an answer: id, group, task, prompt, gold, prediction")  # fmt: skip
    parser.add_argument("--model", metavar="NAME", help="whose answers, where the file holds those of several models")
    parser.add_argument("--filter", choices=("none", "in_text"), default="none", help="in_text: a second score, without items that the text does not contain")  # fmt: skip
    parser.add_argument("--tagged", type=Path, metavar="FILE", help="turn lists of chemicals and diseases into spans of these tagged rows, and score those")  # fmt: skip
    parser.add_argument(
        "--draws", type=options.whole(1, 10_000), default=1000, metavar="N", help="bootstrap draws (default: 1000)"
    )
    parser.add_argument(
        "--seed", type=options.whole(0, 2**32 - 1), default=42, metavar="N", help="seed of the draws (default: 42)"
    )
    options.as_json(parser, "the report as JSON")


def do(arguments: argparse.Namespace) -> None:
    """Score a predictions file."""
    from medrecipes.scoring.figures import score
    from medrecipes.scoring.predictions import one_model, read_predictions
    from medrecipes.scoring.tables import score_lines

    rows = one_model(arguments.file, read_predictions(arguments.file), arguments.model)
    if arguments.tagged:
        from medrecipes.pipeline.tags_as_questions import as_spans, read_tagged

        rows = as_spans(read_tagged(arguments.tagged), rows)
    report = score(rows, arguments.draws, arguments.seed, in_text=arguments.filter == "in_text")
    print(printable(json.dumps(report, indent=2) if arguments.json else "\n".join(score_lines(report))))
