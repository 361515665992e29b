"""Tasks: what differs between chat and tagging in the one pipeline, from the rows to the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medrecipes.core.console import Console
from medrecipes.data.split import Parts
from medrecipes.data.tally import Said
from medrecipes.engines import Choice
from medrecipes.engines.bases import Base
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.runs.folder import RunDir


@dataclass(frozen=True)
class Foundation:
    """What rows are rendered for: a base, its chat template where the task has one, and the engine that will train it."""

    engine: Choice
    base: Base
    template: ChatTemplate | None
    said: str  # of the base, in a line
    loaded: Callable[[], object] = object  # waits for the engine's libraries


@dataclass(frozen=True)
class Rendered:
    """A split as the model sees it: the rows of each part, what data.json holds, and what is to be said of them."""

    train: Sequence[Any]
    dev: Sequence[Any]
    held_out: Sequence[Any]
    held_out_name: str
    data: Mapping[str, Any]
    said: str
    notes: Sequence[Said] = ()
    parts: Mapping[str, Any] = field(default_factory=dict)  # what the proofs look at, by the names of data.json


class Task(Protocol):
    """One task of one recipe; the pipeline asks it in this order."""

    supervised: str  # what the loss is over, as loss.png says it
    one_gpu: bool  # whether it trains in one process alone

    def require(self) -> None:
        """Raise now for what would fail after hours of training."""

    def split(self, console: Console | None = None) -> Parts[Any]:
        """The rows, cleaned and split by group."""

    def describe(self, split: Any) -> str:
        """The split in a line."""

    def foundation(self, split: Any) -> Foundation:
        """The base, opened once."""

    def render(self, foundation: Foundation, split: Any, console: Console | None = None) -> Rendered:
        """The rows of every part as the model sees them."""

    def estimate(self, foundation: Foundation, rendered: Rendered) -> str:
        """How long the whole run takes, in a line, where that is known."""

    def prove(self, foundation: Foundation, rendered: Rendered) -> Mapping[str, Any]:
        """What is proved of every part, row by row; a row that fails is an error."""

    def notes(self, foundation: Foundation) -> Sequence[str]:
        """What else a person should know of the rendering."""

    def open(self, foundation: Foundation, split: Any) -> Any:
        """The engine with the base loaded: `train`, `save`, `open_adapter`, and what answers."""

    def follow(self, rundir: RunDir) -> None:
        """What one of several processes does beside the leader."""

    def reference(self, engine: Any, foundation: Foundation, rendered: Rendered, run: Evaluation) -> Answers:
        """What is reached without training: by the untuned base, or by a dictionary."""

    def answers(self, engine: Any, foundation: Foundation, rendered: Rendered, run: Evaluation) -> Answers:
        """What the tuned model reaches on the same rows."""

    def report(self, split: Any, before: Answers, after: Answers, run: Evaluation) -> dict[str, Any]:
        """Figures with intervals, written into the run folder."""

    def summary(self, report: Mapping[str, Any], before: Answers, after: Answers, console: Console) -> None:
        """The report on the screen."""

    def next_move(self, path: Path) -> str:
        """The command that puts a finished run to use."""


@dataclass(frozen=True)
class Answers:
    """What a model answered to the held-out rows, and how many in words; `cases`: to hand-written ones besides."""

    rows: Any
    said: str
    cases: Sequence[Any] = ()


@dataclass(frozen=True)
class Evaluation:
    """Where answers go, how the base was computed, and the statistics of the training that they come from."""

    folder: Path
    console: Console
    stats: Mapping[str, Any] = field(default_factory=dict)
    computed: str | None = None
