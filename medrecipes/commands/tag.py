"""Mark entities in texts with a finished tagging run."""

from __future__ import annotations

import argparse
from pathlib import Path

from medrecipes.commands import _options as options

EXAMPLE = """example:
  medrecipes tag runs/tiny_bio_ner-* "Aspirin helps against headache."
"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.run_folder(parser)
    parser.add_argument("text", nargs="*", metavar="TEXT", help="left out: --file, or standard input, a text a line")
    parser.add_argument("--file", type=Path, metavar="FILE", help='JSON lines of {"text": …}, or a text a line')
    options.trust_remote_code(parser)
    options.as_json(parser, "a line of JSON a text: spans with start, end, text, type, probability")


def do(arguments: argparse.Namespace) -> None:
    """Mark entities in texts."""
    from medrecipes.core.console import Console
    from medrecipes.use.tag_text import tag

    tag(arguments.run, arguments.text, arguments.file, Console(), as_json=arguments.json)
