"""The command line: what can be typed, and what a mistake looks like."""

from __future__ import annotations

import argparse
import io
import os
import platform
import select
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from medrecipes import __version__
from medrecipes.core import processes, trust
from medrecipes.core.errors import MedRecipesError, reason, uncompiled, visible
from medrecipes.core.files import cache_root

# one file each in this folder, in the order of --help
COMMANDS = (
    "init", "run", "check", "show", "plan", "sweep", "schema", "build", "publish", "verify", "preview", "score", "eval", "export",
    "chat", "serve", "tag", "compare", "list", "runs", "doctor", "completion",
)  # fmt: skip
NO_COMMAND = "the following arguments are required: COMMAND"  # as argparse says it
FIRST = """first steps:
  medrecipes run demo                      train, evaluate and report a small model on a sample that is here
  medrecipes check data/own_columns.tsv    what a file of questions and answers holds; writes a first recipe for it
  medrecipes COMMAND --help                examples of a command"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the user's mistakes become one line and exit code 2, and so does what nobody foresaw."""
    words = [*(sys.argv[1:] if argv is None else argv)]  # `list` and `eval` are commands here, once they are imported
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an encoding that lacks what is printed is no reason to end
    debug = False
    try:
        arguments = _arguments(words)
        debug = arguments.debug
        with trust.granted(getattr(arguments, "trust_remote_code", ())), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # which libraries tell each other, and no user can heed
            code = int(arguments.do(arguments) or 0)
        _flush()
        return code
    except KeyboardInterrupt:
        if processes.leads():
            print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except SystemExit:  # argparse, which has helped or complained
        _let_go()
        raise
    except Exception as error:
        gone = isinstance(error, BrokenPipeError) and _unread()
        _let_go()
        if gone:
            return 141  # what a shell says of a program that wrote to a reader that had enough, as `| head` has
        if debug:
            raise
        line = _line(error, words)
        processes.let_the_leader_speak()
        print("\n".join(map(visible, line.split("\n"))), file=sys.stderr)
        return 2


def _arguments(words: list[str]) -> argparse.Namespace:
    """What was typed; texts to tag may stand behind an option too, where argparse looks for none any longer."""
    parser = _parser()
    arguments, more = parser.parse_known_args(words)
    if more and arguments.command == "tag" and not any(word.startswith("-") for word in more):
        arguments.text += more
    elif more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    arguments.words = words  # for processes that do the same on a GPU each
    return arguments


def _line(error: Exception, words: Sequence[str]) -> str:
    """What is said of an error; one that is nobody's mistake is written down whole, for a report of it."""
    if isinstance(error, MedRecipesError):
        return str(error)
    if isinstance(error, RuntimeError) and (line := uncompiled(error)):
        return line
    log = _log(words)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; correct the path, mend the permission, or free the space (the full log is at {log})"
    if isinstance(error, MemoryError):
        return f"memory ran out; ask for less (data.limit, train.micro_batch), or take a larger machine (the full log is at {log})"
    said = f"{type(error).__name__}: {reason(error)[:300]}"
    return f"internal error: {said}; the full log is at {log}; please report it with that file (--debug shows it here)"


def _log(words: Sequence[str]) -> Path:
    """A new file with the error at work, in the store, or with the temporary files where the store cannot be written."""
    text = (
        f"medrecipes {__version__}, Python {sys.version.split()[0]}, {platform.platform()}\n"
        f"{' '.join(map(shlex.quote, words))}\n\n{traceback.format_exc()}"
    )
    folder = cache_root() / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(".txt", "error-", folder)
    except OSError:
        handle, name = tempfile.mkstemp(".txt", "medrecipes-error-")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return Path(name)


def _flush() -> None:
    """Hand over what was printed, so that a reader that has gone is noticed here and not when Python ends."""
    if sys.stdout:
        sys.stdout.flush()


def _let_go() -> None:
    """The same where nobody may read: Python would try again, and complain, when it ends."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _unread() -> bool:
    """Whether standard output is a pipe whose reader has gone."""
    poll = select.poll()
    poll.register(1, 0)  # the end of a pipe is told without being asked for
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class _Parser(argparse.ArgumentParser):
    """argparse's own, whose messages cannot steer a terminal."""

    def error(self, message: str) -> NoReturn:
        """Say it and end; whoever types no command at all is shown those there are."""
        if message == NO_COMMAND:
            self.print_help(sys.stderr)
            self.exit(2)
        super().error(visible(message))

    def print_help(self, file: Any = None) -> None:
        """Not every patch of Python takes a reader that has gone for none of help's business."""
        with suppress(BrokenPipeError):
            super().print_help(file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "medrecipes", description="Medical fine-tuning recipes that prove what they do.", epilog=FIRST,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"medrecipes {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name in COMMANDS:
        command = import_module(f"{__name__}.{name}")
        told = str(command.__doc__).strip().rstrip(".")
        help = told[0].lower() + told[1:]
        part = commands.add_parser(
            name,
            help=help,
            description=help,
            epilog=command.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        part.set_defaults(do=command.do)
        part.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.add(part)
    return parser
