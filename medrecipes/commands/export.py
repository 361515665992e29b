"""Write the trained model in the form that its user runs, checked against the adapter."""

from __future__ import annotations

import argparse

from medrecipes.commands import _options as options

EXAMPLE = """example:
  medrecipes export runs/tiny_mistral-* --format merged-16bit"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.run_folder(parser)
    parser.add_argument("--format", required=True, choices=options.FORMATS, help="what is written, into RUN/export/FORMAT")  # fmt: skip
    parser.add_argument("--quant", choices=["q4_k_m", "q8_0", "f16"], help="with gguf: its number format (default: q4_k_m)")  # fmt: skip
    options.trust_remote_code(parser)
    options.machine(parser)
    parser.add_argument("--base", metavar="ID|DIR", help="the 16-bit base to merge on, where the run's own is published in 4 bits")  # fmt: skip


def do(arguments: argparse.Namespace) -> None:
    """Write the model in another form."""
    from medrecipes.core.files import read_json
    from medrecipes.release.export import export

    folder = export(arguments.run, arguments.format, arguments.quant, options.console(arguments), arguments.base)
    options.outcome(arguments, {"run": arguments.run, "folder": folder, **read_json(folder / "export.json")})
