"""List all runs with state, figures, age and size; delete some, or watch them live on a page."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from medrecipes.commands import _options as options
from medrecipes.core.errors import MedRecipesError, printable

EXAMPLE = """example:
  medrecipes runs
  medrecipes runs --web
  medrecipes runs rm runs/tiny_llama3-* --yes"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("action", nargs="?", choices=("list", "rm"), default="list", help="list (the default), or rm: delete run folders")  # fmt: skip
    parser.add_argument("chosen", nargs="*", type=Path, metavar="RUN", help="the run folders to delete")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--web", action="store_true", help="a page over all runs, live while they train")
    parser.add_argument("--port", type=options.whole(1, 65_535), default=7870, metavar="N", help="the page's port (default: 7870)")  # fmt: skip
    options.runs(parser)
    options.as_json(parser)


def do(arguments: argparse.Namespace) -> None:
    """List, delete, or show on a page."""
    if arguments.action == "rm":
        _remove(arguments.chosen, ask=not arguments.yes)
        return
    if arguments.chosen:
        raise MedRecipesError(f"runs: {arguments.chosen[0]} is one word too many; `medrecipes runs rm RUN` deletes, `--runs DIR` lists another folder")  # fmt: skip
    if arguments.web:
        from medrecipes.core.console import Console
        from medrecipes.use.runs_page import serve

        serve(arguments.runs, Console(), arguments.port)
        return
    from medrecipes.runs.listing import list_runs

    found = list_runs(arguments.runs)
    if arguments.json:
        print(printable(json.dumps([run.to_json() for run in found], indent=2)))
    elif not found:
        print(printable(f"no runs in {arguments.runs}; `medrecipes run demo` makes one"))
    else:
        from medrecipes.runs.listing import table

        print(printable("\n".join(table(found))))


def _remove(chosen: Sequence[Path], *, ask: bool) -> None:
    """Delete run folders, all of which were looked at before the first is touched."""
    from medrecipes.runs.listing import at_work, in_words, remove, require_removable, size

    if not chosen:
        raise MedRecipesError("runs rm: name the run folders to delete; `medrecipes runs` lists them")
    for path in chosen:
        require_removable(path)
        if by := at_work(path):
            raise MedRecipesError(f"{path}: {by} is at work there; wait for it, or end it first")
    if ask:
        whole = f"{', '.join(map(str, chosen))} ({in_words(sum(map(size, chosen)))})"
        if not sys.stdin.isatty():
            raise MedRecipesError(f"runs rm: nobody is there to ask whether to delete {whole}; add --yes")
        if input(printable(f"delete {whole}? [y/N] ")).strip().lower() not in ("y", "yes"):
            print("nothing deleted")
            return
    for path in chosen:
        remove(path)
        print(printable(f"deleted {path}"))
