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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from medrecipes import __version__
from medrecipes.commands import handlers
from medrecipes.core import processes, trust
from medrecipes.core.errors import MedRecipesError, reason, shown, uncompiled, visible
from medrecipes.core.files import cache_root

# as in the schema, which is too slow to import for --help; a test compares the two
FORMATS = ("adapter", "merged-16bit", "merged-4bit", "gguf")
MOST_GPUS = 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the user's mistakes become one line and exit code 2, and so does what nobody foresaw."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an encoding that lacks what is printed is no reason to end
    debug = False
    try:
        arguments = _arguments(words)
        debug = arguments.debug
        with trust.granted(getattr(arguments, "trust_remote_code", ())):
            code = int(arguments.do(arguments) or 0)
        _flush()
        return code
    except KeyboardInterrupt:
        if processes.leads():
            print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except Exception as error:
        gone = isinstance(error, BrokenPipeError) and _unread()
        try:
            _flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries again, and complains, when it ends
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
    if more and arguments.do is handlers.tag and not any(word.startswith("-") for word in more):
        arguments.text += more
    elif more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    arguments.words = words  # for processes that do the same on a card each
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


def _unread() -> bool:
    """Whether standard output is a pipe whose reader has gone."""
    poll = select.poll()
    poll.register(1, 0)  # the end of a pipe is told without being asked for
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class _Parser(argparse.ArgumentParser):
    """argparse's own, whose messages cannot steer a terminal."""

    def error(self, message: str) -> NoReturn:
        """Say it and end."""
        super().error(visible(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("medrecipes", description="Medical fine-tuning recipes that prove what they do.")
    parser.add_argument("--version", action="version", version=f"medrecipes {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = _command(commands, "run", handlers.run, "train, evaluate and report a recipe")
    run.add_argument("recipe", metavar="RECIPE")
    run.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)"
    )
    run.add_argument("--fresh", action="store_true", help="start another run beside the one that exists")
    _cards(run, "train on")
    _trust(run)
    _overrides(run)

    check = _command(commands, "check", handlers.check, "say all that is wrong with recipes, without training")
    check.add_argument("recipes", nargs="+", metavar="RECIPE")
    check.add_argument("--schema-only", action="store_true", help="stop before anything that needs data or a tokenizer")
    _trust(check)
    _overrides(check)

    show = _command(
        commands, "show", handlers.show, "print the resolved recipe, each value with the file and line that set it"
    )
    show.add_argument("recipe", metavar="RECIPE")
    show.add_argument("--json", action="store_true", help="the same as JSON")
    _overrides(show)

    plan = _command(
        commands,
        "plan",
        handlers.plan,
        "memory by part, what fits a card, and how long it takes, without loading weights",
    )
    plan.add_argument("recipe", metavar="RECIPE")
    plan.add_argument("--gpu", default="this", metavar="NAME", help="t4, rtx3050, a100-40, h100, h200 …, or e.g. 24GB (default: the one here)")  # fmt: skip
    plan.add_argument("--gpus", type=_whole(1, MOST_GPUS), default=1, metavar="N", help="how many of them (default: 1)")
    plan.add_argument("--json", action="store_true", help="the same as JSON")
    _trust(plan)
    _overrides(plan)

    sweep = _command(commands, "sweep", handlers.sweep, "run every combination of a recipe's [sweep], and name the best on its dev rows")  # fmt: skip
    sweep.add_argument("recipe", metavar="RECIPE")
    sweep.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)"
    )
    _trust(sweep)
    _overrides(sweep)

    schema = _command(commands, "schema", handlers.schema, "print the JSON Schema of recipes, for editors")
    schema.add_argument("--markdown", action="store_true", help="the same as docs/recipe.md")

    build = _command(commands, "build", handlers.build, "make the processed datasets of a recipe, without a model")
    build.add_argument("recipe", metavar="RECIPE")
    build.add_argument(
        "--out", type=Path, default=Path("datasets"), metavar="DIR", help="where they go (default: datasets)"
    )
    build.add_argument(
        "--format", action="append", default=[], choices=["jsonl", "parquet"], help="write the splits as files too"
    )
    build.add_argument("--push", action="store_true", help="release every dataset that it made")
    build.add_argument("--waive", action="append", default=[], metavar="GATE", help="with --push: as publish does")
    _overrides(build)

    publish = _command(commands, "publish", handlers.publish, "show what would be released to the Hub, and with --push release it")  # fmt: skip
    publish.add_argument("folders", nargs="+", type=Path, metavar="RUN|DATASET")
    publish.add_argument("--push", action="store_true", help="release it: one commit a repository, read back after")
    publish.add_argument("--repo", metavar="OWNER/NAME", help="the repository, or a pattern such as {user}/{base}-medical")  # fmt: skip
    seen = publish.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_const", const=True, help="a private repository (the default, unless the recipe says otherwise)")  # fmt: skip
    seen.add_argument("--public", dest="private", action="store_const", const=False, help="a public repository")
    publish.add_argument("--revision", metavar="BRANCH", help="the branch that it goes to; made where it is missing")
    publish.add_argument("--create-pr", action="store_const", const=True, help="open a pull request instead")
    publish.add_argument("--tag", metavar="NAME", help="a tag for the release")
    publish.add_argument("--format", action="append", choices=FORMATS, help="what of a run: adapter, or what export made (may be repeated)")  # fmt: skip
    _cards(publish, "recompute the loss on")
    _trust(publish)
    publish.add_argument("--waive", action="append", default=[], metavar="GATE", help="release in spite of a gate; the card records it (may be repeated)")  # fmt: skip

    verify = _command(
        commands, "verify", handlers.verify, "hold what a release or a run claims against what its files give"
    )
    verify.add_argument("name", metavar="REPO|RUN", help="OWNER/NAME or datasets/OWNER/NAME on the Hub, or a run folder")  # fmt: skip
    verify.add_argument("--revision", metavar="REVISION", help="a branch, tag or commit of the repository")
    verify.add_argument("--strict", action="store_true", help="exit code 1 for what could not be checked, too")
    _cards(verify, "recompute the loss on")
    _trust(verify)
    _overrides(verify)

    preview = _command(commands, "preview", handlers.preview, "show examples token by token, what is learned in colour")
    preview.add_argument("recipe", nargs="?", metavar="RECIPE")
    preview.add_argument("-n", type=_whole(1, 1_000_000), default=5, metavar="ROWS", help="how many rows (default: 5)")
    preview.add_argument("--row", metavar="ID", help="this row alone")
    preview.add_argument("--json", action="store_true", help="a line of JSON a conversation: text, ids, labels")
    preview.add_argument("--template", metavar="NAME", help="in place of a recipe: the template")
    preview.add_argument("--tokenizer", type=Path, metavar="DIR", help="in place of a recipe: a tokenizer's folder")
    preview.add_argument("--file", type=Path, metavar="FILE", help='in place of a recipe: lines of {"messages": [...]}')
    _trust(preview)
    _overrides(preview)

    score = _command(commands, "score", handlers.score, "score a predictions file, without a model")
    score.add_argument("file", type=Path, metavar="FILE", help="a line of JSON an answer: id, group, task, prompt, gold, prediction")  # fmt: skip
    score.add_argument("--model", metavar="NAME", help="whose answers, where the file holds those of several models")
    score.add_argument("--filter", choices=("none", "in_text"), default="none", help="in_text: a second score, without items that the text does not contain")  # fmt: skip
    score.add_argument("--tagged", type=Path, metavar="FILE", help="turn lists of chemicals and diseases into spans of these tagged rows, and score those")  # fmt: skip
    score.add_argument(
        "--draws", type=_whole(1, 10_000), default=1000, metavar="N", help="bootstrap draws (default: 1000)"
    )
    score.add_argument(
        "--seed", type=_whole(0, 2**32 - 1), default=42, metavar="N", help="seed of the draws (default: 42)"
    )
    score.add_argument("--json", action="store_true", help="the report as JSON")

    judge = _command(
        commands, "eval", handlers.judge, "let a finished run's base and adapter answer again, or answer more"
    )
    judge.add_argument("run", type=Path, metavar="RUN")
    judge.add_argument("--fresh", action="store_true", help="answer everything anew, in a folder of its own")
    judge.add_argument(
        "--suite", metavar="lm-eval:TASKS", help="benchmarks by lm-evaluation-harness, or medical, or general"
    )
    judge.add_argument("--checkpoint", type=_whole(1, 10_000_000), metavar="N", help="the adapter of step N in place of the one that was kept")  # fmt: skip
    _cards(judge, "answer on")
    judge.add_argument("--include", type=Path, metavar="DIR", help="with --suite: a folder with task files of your own")
    _trust(judge)
    _overrides(judge)

    export = _command(commands, "export", handlers.export, "write the trained model in the form that its user runs, checked against the adapter")  # fmt: skip
    export.add_argument("run", type=Path, metavar="RUN")
    export.add_argument("--format", required=True, choices=FORMATS, help="what is written, into RUN/export/FORMAT")  # fmt: skip
    export.add_argument("--quant", choices=["q4_k_m", "q8_0", "f16"], help="with gguf: its number format (default: q4_k_m)")  # fmt: skip
    _trust(export)
    export.add_argument("--base", metavar="ID|DIR", help="the 16-bit base to merge on, where the run's own is published in 4 bits")  # fmt: skip

    chat = _command(commands, "chat", handlers.chat, "talk to a finished run, on the terminal or on a page")
    chat.add_argument("run", type=Path, metavar="RUN")
    chat.add_argument("--base", action="store_true", help="the base alone, without the adapter")
    chat.add_argument("--checkpoint", type=_whole(1, 10_000_000), metavar="N", help="the adapter of step N in place of the one that was kept")  # fmt: skip
    chat.add_argument(
        "--web", action="store_true", help="a page: base and tuned side by side, or the entities of a text (extra: web)"
    )
    chat.add_argument("--host", metavar="ADDRESS", help="with --web: where it listens (default: 127.0.0.1, this machine alone)")  # fmt: skip
    chat.add_argument("--port", type=_whole(1, 65_535), metavar="N", help="with --web: its port (default: 7860)")
    _trust(chat)
    _overrides(chat)

    tag = _command(commands, "tag", handlers.tag, "mark entities in texts with a finished tagging run")
    tag.add_argument("run", type=Path, metavar="RUN")
    tag.add_argument("text", nargs="*", metavar="TEXT", help="left out: --file, or standard input, a text a line")
    tag.add_argument("--file", type=Path, metavar="FILE", help='JSON lines of {"text": …}, or a text a line')
    _trust(tag)
    tag.add_argument("--json", action="store_true", help="a line of JSON a text: spans with start, end, text, type, probability")  # fmt: skip

    compare = _command(
        commands, "compare", handlers.compare, "lay runs side by side: losses, settings, figures, significance"
    )
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or a CSV with Step,Loss")
    compare.add_argument("--out", type=Path, default=Path("comparison"), metavar="DIR", help="where it goes (default: comparison)")  # fmt: skip
    compare.add_argument("--anyway", action="store_true", help="compare runs that were judged on different test sets or with different decoding, and mark it")  # fmt: skip
    return parser


def _whole(low: int, high: int) -> Callable[[str], int]:
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


def _command(commands: argparse._SubParsersAction[_Parser], name: str, do: object, help: str) -> argparse.ArgumentParser:  # fmt: skip
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(do=do)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _cards(parser: argparse.ArgumentParser, does: str) -> None:
    parser.add_argument("--gpus", type=_whole(1, MOST_GPUS), default=1, metavar="N", help=f"{does} so many cards of this machine (default: 1)")  # fmt: skip


def _trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(trust.OPTION, action="append", default=[], metavar="BASE@COMMIT", help="let this base run Python code of its own, at this commit, or of this folder (may be repeated)")  # fmt: skip


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the recipe, or a whole table",
    )
