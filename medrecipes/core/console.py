"""What a person sees: a line or a bar for the stage at work, a line for what came out, and a log file for what the libraries have to say."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from medrecipes.core.errors import printable
from medrecipes.core.files import writing
from medrecipes.core.notes import heard_on, labelled
from medrecipes.core.progress import Work, at_work

WHOLE = 100  # what a share of a stage is shown of
TICK_S = 0.25  # how often the line of the stage at work is drawn on a terminal
PLAIN_FIRST_S = 1.0  # where there is none, a stage that lasts longer than this says that it began,
PLAIN_EVERY_S = 10.0  # and from then on now and then how far it is
BAR = 24  # columns


class _Screen(RichConsole):
    """Rich's console, past which nothing goes that steers a terminal but rich's own colours, whatever a name or a row holds."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what is shown."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printable(piece.text), piece.style)

    def on_broken_pipe(self) -> None:
        """Leave a reader that has gone to the command line, as where nothing but `print` is used."""
        raise BrokenPipeError


class Console:
    """Writes to the user's own standard output, or another file, also while the libraries' output goes elsewhere."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out: TextIO = out or sys.stdout
        self.rich = _Screen(file=self._out, highlight=False, soft_wrap=True)
        self.stages: dict[str, float] = {}
        self.file_lock = threading.Lock()  # held by whoever changes the file that is written to, and by signs of life
        self._heard = True

    @classmethod
    def silent(cls) -> Console:
        """One that nobody reads."""
        console = cls(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process lives
        console._heard = False
        return console

    @property
    def width(self) -> int:
        """Columns of the terminal, or 80 where there is none."""
        return self.rich.width

    def line(self, text: str = "") -> None:
        """Print a line as it is."""
        self.rich.print(text, markup=False)

    def next_move(self, *words: object) -> None:
        """Print the command that comes next."""
        self.line(labelled("next", f"{called()} {shlex.join(map(str, words))}"))

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Show a stage while it lasts and say in one line what came out: `with console.stage("data") as stage: stage.says("…")`."""
        stage = Stage()
        started = time.monotonic()
        with self._showing(Work(name)):
            yield stage
        seconds = time.monotonic() - started
        self.stages[name] = round(seconds, 2)
        said = f"{stage.text}  " if stage.text else ""
        self.rich.print(Text.assemble((labelled(name, ""), "bold"), said, (f"{seconds:.1f} s", "dim")))

    @contextmanager
    def bar(self, name: str, total: int, done: int = 0, *, at_once: bool = False) -> Iterator[Bar]:
        """A progress bar with free text and the time left; without a terminal, a line every few seconds."""
        work = Work(name, total, done, begins=False, at_once=at_once)
        with self._showing(work):
            yield Bar(work)

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """Show on a terminal that something is at work while it lasts, and leave no line of it."""
        with self._showing(Work(name)) if self._draws else nullcontext():
            yield

    @property
    def _draws(self) -> bool:
        """Whether a line can be drawn anew."""
        return self.rich.is_terminal and not self.rich.is_dumb_terminal

    @contextmanager
    def _showing(self, work: Work) -> Iterator[None]:
        """Show that this is at work; where something is shown already, this takes its place for as long as it lasts."""
        if not self._heard:
            yield
            return
        at_work.append(work)
        sign = _Sign(self) if len(at_work) == 1 else None
        try:
            if sign:
                sign.start()
            yield
        finally:
            at_work.remove(work)
            if sign:
                sign.end()

    def progress(self, name: str) -> AbstractContextManager[Bar]:
        """A bar for work of several parts, which begin one after the other, each with the share of it that is done."""
        return self.bar(name, WHOLE)

    @contextmanager
    def quiet(self, log: Path) -> Iterator[None]:
        """Send all that libraries print, from Python or below it, to a log file; the console keeps the real output."""
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        # the descriptors change, not sys.stdout: a library's log handler may hold on to that object for ever
        sys.stdout.flush()
        sys.stderr.flush()
        saved = os.dup(1), os.dup(2)
        own = self.rich.file
        with self.file_lock:
            if own in (sys.__stdout__, sys.__stderr__):
                self.rich.file = os.fdopen(os.dup(own.fileno()), "w", encoding="utf-8", buffering=1)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.close(sink)
        try:
            with heard_on(saved[1]):
                yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(saved, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            with self.file_lock:
                if self.rich.file is not own:
                    self.rich.file.close()
                self.rich.file = own


class Stage:
    """Collects what a stage has to say."""

    def __init__(self) -> None:
        self.text = ""

    def says(self, text: str) -> None:
        """Set the stage's line."""
        self.text = text


class Bar:
    """Moves a progress bar."""

    def __init__(self, work: Work) -> None:
        self._work = work

    @classmethod
    def silent(cls) -> Bar:
        """One that nobody watches."""
        return cls(Work("", WHOLE))

    def begin(self, text: str) -> None:
        """Begin again from nothing, with what comes next."""
        self._work.from_here(self._work.total, 0, text)

    def at(self, done: int, text: str = "") -> None:
        """Say how far it is."""
        self._work.done, self._work.text = done, text

    def share(self, done: float) -> None:
        """Say what share of it is done."""
        self._work.done = int((self._work.total or 0) * done)


class _Sign(threading.Thread):
    """Signs of life of what is at work: a line that is drawn anew on a terminal, else lines now and then."""

    def __init__(self, console: Console) -> None:
        super().__init__(name="progress", daemon=True)
        self._console, self._over = console, threading.Event()
        self._live: Live | None = None
        if console._draws:
            # what libraries print belongs in the log, not above the line
            self._live = Live(console=console.rich, get_renderable=self._drawn, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)  # fmt: skip
            self._live.start(refresh=True)
        self._spoke = time.monotonic()

    def run(self) -> None:
        """Until the work is done, or its reader has gone, which the next line of a stage meets too."""
        with suppress(OSError):
            while not self._over.wait(TICK_S):
                with self._console.file_lock:
                    if self._live:
                        self._live.refresh()
                    else:
                        self._speak()

    def end(self) -> None:
        """The work is done."""
        self._over.set()
        self.join()
        if self._live:
            self._live.stop()

    def _drawn(self) -> Text:
        work = next(reversed(at_work), None)
        if work is None:
            return Text()
        bar: list[tuple[str, str]] = []
        if work.total:
            filled = BAR * min(work.done, work.total) // work.total
            bar = [("━" * filled, "green"), ("━" * (BAR - filled) + " ", "dim")]
        drawn = Text.assemble((labelled(work.name, ""), "bold"), *bar, str(work), no_wrap=True, overflow="ellipsis")
        drawn.truncate(self._console.width - 1, overflow="ellipsis")
        return drawn

    def _speak(self) -> None:
        work = next(reversed(at_work), None)
        if work is None:
            return
        begins = work.begins and work.seconds >= PLAIN_FIRST_S
        if not begins and time.monotonic() - self._spoke < PLAIN_EVERY_S:
            return
        self._spoke = time.monotonic()
        self._console.line(labelled(work.name, "begins" if begins and not work.text else str(work)))
        for begun in at_work:  # nor is that said of a stage within which something else has been at work
            begun.begins = False


def called() -> str:
    """How this program is called from here: by its name where that is on the path, else by its place beside Python."""
    beside = Path(sys.executable).with_name("medrecipes")
    if shutil.which("medrecipes") or not beside.exists():
        return "medrecipes"
    inside = beside.is_relative_to(Path.cwd())
    return shlex.quote(str(beside.relative_to(Path.cwd()) if inside else beside))
