"""Two processes that open a run together and answer with it, its engine in the place of a real one: what each of them did."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from medrecipes import engines
from medrecipes.commands import _options
from medrecipes.core import processes
from medrecipes.core.errors import EngineError
from medrecipes.engines.multi_gpu.leader import leading
from medrecipes.evaluation import reopen


class Noting:
    """An engine that notes what is asked of it, and whether with its adapter."""

    def __init__(self) -> None:
        self.name, self.choices = "noting", {}  # type: ignore[var-annotated]
        self.adapter, self.notes = True, [f"opened {processes.rank()}"]

    @contextmanager
    def base(self) -> Iterator[None]:
        self.adapter = False
        yield
        self.adapter = True

    def open_adapter(self, folder: Path) -> None:
        if folder.name == "torn" and not processes.leads():
            raise EngineError("the adapter of GPU 1 is torn")

    def generate(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        for prompt in prompts:
            self.notes.append(f"{'tuned' if self.adapter else 'base'} answers {prompt}")
            yield [*prompt]

    def answer_nats(self, examples: Sequence[Any]) -> list[float]:
        self.notes.append(f"{'tuned' if self.adapter else 'base'} evaluates {examples}")
        return processes.spread(examples, lambda rows: [float(row) + processes.rank() / 10 for row in rows])


def main() -> int:
    """As a command on two GPUs: the leader opens a torn adapter, which no process may have, then a whole one."""
    made: list[Noting] = []
    lines: list[str] = []

    def open_engine(*_: Any) -> Noting:
        made.append(Noting())
        return made[-1]

    def do() -> bool:
        for name in ("torn", "whole"):
            processes.share((None, Path(name)))
            try:
                engine = reopen._load(None, None, None, None, Path(name))  # type: ignore[arg-type]
            except EngineError as error:
                lines.append(str(error))
                continue
            with leading(engine) as led:
                with led.base():
                    assert list(led.generate([[1], [2]])) == [[1], [2]]
                lines.append(f"nats {led.answer_nats([3, 4, 5])}")  # type: ignore[list-item]
        return False

    def part() -> None:
        for notes in processes.gather([*lines, *(note for engine in made for note in engine.notes)]):
            if processes.leads():
                print("\n".join(notes))
        leave()

    leave, processes.part = processes.part, part
    processes.join = lambda: torch.distributed.init_process_group("gloo")
    engines.open_engine, engines.foundation = open_engine, lambda recipe, split: (None, None, None)  # type: ignore[assignment]
    reopen.prepare = lambda recipe: None  # type: ignore[assignment]
    return _options.on_gpus(Namespace(gpus=2), do)


if __name__ == "__main__":
    sys.exit(main())
