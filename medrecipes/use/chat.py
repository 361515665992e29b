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
from medrecipes.recipe.schema import Eval, Recipe
from medrecipes.release.cards import DISCLAIMER
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.growing_text import Growing, Piece
from medrecipes.rendering.talk import KEYS, Talk

HELP = "/new begins anew, /quit or Ctrl-D ends, Ctrl-C stops an answer"
# a model may write what a terminal takes for a command
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
DIM, PLAIN = "\x1b[2m", "\x1b[0m"  # how a terminal shows reasoning, and what comes behind it


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

    def growing(self, longest: int, stops: Sequence[str] = ()) -> Growing:
        """An answer to come, of at most so many tokens where the recipe gives reasoning a budget of its own."""
        budget = self.recipe.eval.max_reasoning_tokens
        return Growing(self.template, stops, reasoning=budget, answer=longest if budget else 0)


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
            _answer(opened, talk, question, decoding, console)


def _answer(opened: Opened, talk: Talk, question: str, decoding: Decoding, console: Console) -> None:
    try:
        ids, gone = talk.ask(question, decoding.max_new_tokens)
    except MedRecipesError as error:  # a question that is too long ends no conversation
        console.line(str(error))
        return
    if gone:
        console.line(trimmed(gone))
    growing, stop = opened.growing(opened.recipe.eval.max_new_tokens), threading.Event()
    dims, thinks, told = console.rich.is_terminal and not console.rich.no_color, False, ""
    try:
        for piece in pieces(opened.engine.stream(ids, decoding, stop), growing):
            if piece.reasoning != thinks:
                _write(f"{DIM * dims}reasoning: " if piece.reasoning else f"{PLAIN * dims}\n\nanswer: ")
                thinks = piece.reasoning
            _write(UNPRINTABLE.sub(" ", piece.text))
        told = unanswered(growing, opened.recipe.eval)
    except KeyboardInterrupt:
        stop.set()
        _write(" (stopped)")
    finally:
        _write(PLAIN * (dims and thinks) + "\n")
    if told:
        console.line(told)
    talk.answered(growing.text, growing.thought)


def unanswered(growing: Growing, settings: Eval) -> str:
    """What a reader is told where reasoning left no room for an answer; nothing of any other."""
    if growing.text or growing.finished:
        return ""
    key = "eval.max_reasoning_tokens" if settings.max_reasoning_tokens else "eval.max_new_tokens"
    return f"(no answer: its reasoning did not end within {growing.reasoning:,} tokens; raise {key})"


def trimmed(gone: int) -> str:
    """What a reader is told when the oldest turns no longer fit."""
    if gone == 1:
        return "(the oldest turn no longer fits and is forgotten)"
    return f"(the oldest {gone} turns no longer fit and are forgotten)"


def pieces(tokens: Iterator[int], growing: Growing) -> Iterator[Piece]:
    """An answer as its tokens come, until it ends or has come to a limit of its own."""
    for token in tokens:
        yield from growing.add([token])
        if growing.ended:
            return
    yield from growing.end()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
