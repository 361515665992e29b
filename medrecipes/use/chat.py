"""`medrecipes chat RUN`: a conversation with a run, through the very template that it was trained with."""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError, RunError
from medrecipes.core.files import cache_root
from medrecipes.engines import Decoding, Engine
from medrecipes.evaluation.finished_run import open_run
from medrecipes.recipe.schema import Recipe
from medrecipes.release.cards import DISCLAIMER
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.talk import KEYS, Talk

HELP = "/new begins anew, /quit or Ctrl-D ends, Ctrl-C stops an answer"
# a model may write what a terminal takes for a command
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Opened:
    """A run that is ready to answer."""

    recipe: Recipe
    engine: Engine
    template: ChatTemplate
    name: str
    log: Path

    def talk(self) -> Talk:
        """A new conversation, as long as the engine reads: the recipe's data.max_tokens."""
        return Talk(self.template, self.recipe.data.max_tokens)


def open_chat(path: Path, overrides: Sequence[str], console: Console, *, base: bool, checkpoint: int | None) -> Opened:
    """Load a finished run, at a checkpoint or without its adapter; only settings of [eval] can be overridden."""
    run = open_run(path).require_chat("which holds no conversation; see its entities on a page with --web, or tag")
    if base and checkpoint is not None:
        raise RunError("--base has no checkpoint; leave one of the two out")
    adapter = run.adapter(checkpoint)
    recipe = run.pinned(run.with_eval(overrides, "eval.temperature=0.7"))
    with console.stage("load") as stage, console.quiet(cache_root() / "log.txt"):
        engine, template = run.open_model(recipe, None if base else adapter)
        with_what = "without an adapter" if base else f"with {adapter.relative_to(path)}"
        stage.says(f"{recipe.model.base} {with_what}, template {template.name}")
    return Opened(recipe, engine, template, path.name, cache_root() / "log.txt")


def typed() -> str:
    """A line from the terminal, with the lines before it on the arrow keys."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return input()
    with suppress(ImportError):
        importlib.import_module("readline")  # from then on `input` knows the keys
    return input("\001\r\002> ")  # it draws the prompt again whenever it draws the line


def chat(opened: Opened, console: Console, read: Callable[[], str] = typed) -> None:
    """Ask on the terminal and print answers as they are written, until the end of input."""
    decoding, talk = Decoding.of(opened.recipe), opened.talk()
    console.line(DISCLAIMER)
    console.line(HELP)
    with opened.engine.talking():
        _converse(opened, talk, decoding, console, read)


def _converse(opened: Opened, talk: Talk, decoding: Decoding, console: Console, read: Callable[[], str]) -> None:
    while True:
        _write("\n> ")
        try:
            question = KEYS.sub("", read()).strip()
        except (EOFError, KeyboardInterrupt):
            _write("\n")
            return
        if question == "/quit":
            return
        if question == "/new":
            talk = opened.talk()
            console.line("a new conversation")
        elif question.startswith("/"):
            console.line(f"{question} is no command; {HELP}")
        elif question:
            _answer(opened.engine, talk, question, decoding, console)


def _answer(engine: Engine, talk: Talk, question: str, decoding: Decoding, console: Console) -> None:
    try:
        ids, gone = talk.ask(question, decoding.max_new_tokens)
    except MedRecipesError as error:  # a question that is too long ends no conversation
        console.line(str(error))
        return
    if gone:
        console.line(trimmed(gone))
    said = ""
    try:
        for piece in _until_interrupted(engine, ids, decoding):
            said += piece
            _write(UNPRINTABLE.sub(" ", piece))
    finally:
        _write("\n")
    talk.answered(said)


def trimmed(gone: int) -> str:
    """What a reader is told when the oldest turns no longer fit."""
    if gone == 1:
        return "(the oldest turn no longer fits and is forgotten)"
    return f"(the oldest {gone} turns no longer fit and are forgotten)"


def _until_interrupted(engine: Engine, ids: Sequence[int], decoding: Decoding) -> Iterator[str]:
    """The pieces of an answer; Ctrl-C ends it early."""
    stop = threading.Event()
    pieces = engine.stream(ids, decoding, stop)
    while True:
        try:
            yield next(pieces)
        except StopIteration:
            return
        except KeyboardInterrupt:
            stop.set()
            _write(" (stopped)")
            return


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
