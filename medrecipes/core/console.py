"""What a person sees: one line a stage, a bar while training, and a log file for what the libraries have to say."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from medrecipes.core.errors import printable
from medrecipes.core.files import writing
from medrecipes.core.notes import LABEL, heard_on, labelled

WHOLE = 100  # what a share of a stage is shown of
PLAIN_EVERY_S = 10.0  # how often a bar becomes a line where there is no terminal to draw on


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
    """Writes to the user's own standard output, also while the libraries' output goes elsewhere."""

    def __init__(self) -> None:
        self._out: TextIO = sys.stdout
        self.rich = _Screen(file=self._out, highlight=False, soft_wrap=True)
        self.stages: dict[str, float] = {}

    @classmethod
    def silent(cls) -> Console:
        """One that nobody reads."""
        console = cls()
        console._out = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process lives
        console.rich = _Screen(file=console._out, highlight=False, soft_wrap=True)
        return console

    @property
    def width(self) -> int:
        """Columns of the terminal, or 80 where there is none."""
        return self.rich.width

    def line(self, text: str = "") -> None:
        """Print a line as it is."""
        self.rich.print(text, markup=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage and say in one line what came out: `with console.stage("data") as stage: stage.says("…")`."""
        stage = Stage()
        started = time.monotonic()
        yield stage
        seconds = time.monotonic() - started
        self.stages[name] = round(seconds, 2)
        said = f"{stage.text}  " if stage.text else ""
        self.rich.print(Text.assemble((labelled(name, ""), "bold"), said, (f"{seconds:.1f} s", "dim")))

    @contextmanager
    def bar(self, name: str, total: int, done: int = 0) -> Iterator[Bar]:
        """A progress bar with free text after it; without a terminal, a line every few seconds."""
        if not self.rich.is_terminal:
            yield Bar(self, name, total)
            return
        progress = Progress(
            TextColumn(f"{name:<{LABEL}}"), BarColumn(24), MofNCompleteColumn(), TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(), console=self.rich, transient=True,
            redirect_stdout=False, redirect_stderr=False,  # what libraries print belongs in the log, not above the bar
        )  # fmt: skip
        with progress:
            task = progress.add_task(name, total=total, completed=done, text="")
            yield Bar(self, name, total, progress, task)

    @contextmanager
    def progress(self, name: str) -> Iterator[Progressing]:
        """A bar for work of several stages, each with the share of it that is done."""
        with self.bar(name, WHOLE) as bar:
            yield Progressing(bar)

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
        if own is sys.__stdout__:
            self.rich.file = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
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
    """Moves a progress bar, or prints a line now and then."""

    def __init__(
        self, console: Console, name: str, total: int, progress: Progress | None = None, task: Any = None
    ) -> None:
        self._console, self._name, self._total = console, name, total
        self._progress, self._task = progress, task
        self._spoke = time.monotonic()
        self._began: float | None = None

    def begin(self, text: str) -> None:
        """Begin again from nothing, with what comes next; a line without a terminal says how long it will take from then on."""
        self._began = time.monotonic()
        if self._progress:
            self._progress.reset(self._task, total=self._total, text=text)

    def at(self, done: int, text: str = "") -> None:
        """Say how far it is."""
        if self._progress:
            self._progress.update(self._task, completed=done, text=text)
        elif time.monotonic() - self._spoke >= PLAIN_EVERY_S:
            self._spoke = time.monotonic()
            self._console.line(labelled(self._name, f"{done}/{self._total} {text}{self._left(done)}"))

    def _left(self, done: int) -> str:
        """How long the stage will take, if that is known."""
        if self._began is None or not done:
            return ""
        seconds = (time.monotonic() - self._began) / done * (self._total - done)
        return f", {seconds / 60:.0f} min left" if seconds >= 60 else f", {seconds:.0f} s left"


class Progressing:
    """Tells a bar what is being done, and how far that is."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._stage = bar, ""

    @classmethod
    def silent(cls) -> Progressing:
        """One that nobody watches."""
        return cls(Bar(Console.silent(), "", WHOLE))

    def note(self, stage: str) -> None:
        """What begins now."""
        self._stage = stage
        self._bar.begin(stage)

    def done(self, share: float) -> None:
        """What share of it is done."""
        self._bar.at(int(WHOLE * share), self._stage)


def called() -> str:
    """How this program is called from here: by its name where that is on the path, else by its place beside Python."""
    beside = Path(sys.executable).with_name("medrecipes")
    if shutil.which("medrecipes") or not beside.exists():
        return "medrecipes"
    inside = beside.is_relative_to(Path.cwd())
    return shlex.quote(str(beside.relative_to(Path.cwd()) if inside else beside))
