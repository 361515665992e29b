"""One engine on several GPUs: the leader says what is to be done, and every process does its share of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from medrecipes.core import processes
from medrecipes.core.console import Console
from medrecipes.engines import Decoding, Engine
from medrecipes.rendering.chat_template import Example
from medrecipes.runs.folder import RunDir


@contextmanager
def leading(engine: Engine) -> Iterator[Engine]:
    """An engine as the leader uses it; the others follow until the end."""
    if processes.size() == 1:
        yield engine
        return
    yield Leader(engine)
    processes.share(None)


def follow(engine: Engine, train: Callable[[], object] = lambda: None) -> None:
    """Do what the leader says, until there is no more."""
    with ExitStack() as without_adapter:
        while (asked := processes.share(None)) is not None:
            name, rows = asked
            if name == "train":
                train()
            elif name == "open_adapter":
                engine.open_adapter(rows)
            elif name == "base":
                without_adapter.enter_context(engine.base())
            elif name == "tuned":
                without_adapter.close()
            elif name == "generate":
                for _ in engine.generate(rows):
                    pass
            else:
                engine.answer_nats(rows)


class Leader:
    """An engine that tells the others before it begins."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.name, self.choices = engine, engine.name, engine.choices

    def train(
        self, train: Sequence[Example], dev: Sequence[Example], rundir: RunDir, console: Console
    ) -> dict[str, Any]:
        """Train together; the others have the rows already."""
        processes.share(("train", None))
        return self._engine.train(train, dev, rundir, console)

    def generate(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Answer together."""
        processes.share(("generate", prompts))
        yield from self._engine.generate(prompts)

    def answer_nats(self, examples: Sequence[Example]) -> list[float]:
        """Judge together."""
        processes.share(("answer_nats", examples))
        return self._engine.answer_nats(examples)

    def open_adapter(self, folder: Path) -> None:
        """Open it everywhere."""
        processes.share(("open_adapter", folder))
        self._engine.open_adapter(folder)

    @contextmanager
    def base(self) -> Iterator[None]:
        """Inside, all answer as the base does."""
        processes.share(("base", None))
        with self._engine.base():
            yield
        processes.share(("tuned", None))

    # what one process does by itself

    def stream(self, prompt: Sequence[int], decoding: Decoding, stop: threading.Event | None = None) -> Iterator[int]:
        """Its own."""
        return self._engine.stream(prompt, decoding, stop)

    def talking(self) -> AbstractContextManager[None]:
        """Its own."""
        return self._engine.talking()

    def shared(self, rows: int) -> Any:
        """Its own."""
        return self._engine.shared(rows)

    def save(self, folder: Path) -> None:
        """Its own."""
        self._engine.save(folder)
