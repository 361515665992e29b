"""Packing isolation and the training loss, proved on the first micro-batches: packed sequences do not see each other, and what is supervised is what is evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from medrecipes.core.errors import EngineError
from medrecipes.rendering.chat_template import MASKED

APART = 1e-4  # as a share of the loss: it is the same sum of the same numbers
LOOKS = 8  # a look waits for the GPU, and where rows share no line there is nothing to wait for
JUDGED = 0.02  # in nats, and as a share: half precision adds up otherwise in other layouts
STEADY = 64  # supervised tokens; the mean over fewer is as much less certain as the root of their number is smaller

Batch = dict[str, Any]


class Proving:
    """Holds the loss of one row against its loss after other rows, and against its loss by itself, as evaluating finds it."""

    def __init__(self, family: str, *, packing: bool, evaluate: Callable[[list[int], list[int]], float] | None) -> None:
        self._family, self._packing, self._evaluate_dev = family, packing, evaluate
        self.found: dict[str, float] = {}
        self._looks = 0

    @property
    def goes_on(self) -> bool:
        """Whether there is something left to prove, and a chance to see it."""
        return self._looks < LOOKS and "after others" not in self.found

    def look(self, batch: Batch, loss_of: Callable[[Batch], Any]) -> None:
        """Prove what this micro-batch allows and none before it did; `loss_of` is the training's own way to a loss."""
        self._looks += 1
        if (place := a_row(batch)) is None:
            return
        line, start, end = place
        apart = start > 0 and "after others" not in self.found
        evaluated = self._evaluate_dev is not None and "evaluated" not in self.found
        if not (apart or evaluated):
            return
        ids, labels = (batch[name][line, start:end].tolist() for name in ("input_ids", "labels"))
        alone = torch.full_like(batch["labels"], MASKED)
        alone[line, start:end] = batch["labels"][line, start:end]
        found = {"learned": _loss(loss_of, {**batch, "labels": alone})}
        if apart:
            others = batch["input_ids"].clone()
            others[line, :start] = others[line, :start].roll(1)
            found["after others"] = _loss(loss_of, {**batch, "labels": alone, "input_ids": others})
        if evaluated and self._evaluate_dev:
            found["evaluated"] = self._evaluate_dev(ids, labels)
        if all(map(math.isfinite, found.values())):  # else the step itself will tell
            self._hold(found, sum(label != MASKED for label in labels))
            self.found |= found

    def _hold(self, found: dict[str, float], tokens: int) -> None:
        learned, other, evaluated = (
            found.get(name, found["learned"]) for name in ("learned", "after others", "evaluated")
        )
        if abs(learned - other) > APART * learned:
            raise EngineError(
                f"packed sequences see each other through the {self._family} layers of this engine (a row's loss is {learned:.4f} "
                f"or {other:.4f}, depending on what stands before it); set train.{'packing' if self._packing else 'padding_free'} = false"
            )
        if abs(learned - evaluated) > JUDGED * (1 + evaluated) * max(1.0, math.sqrt(STEADY / tokens)):
            raise EngineError(
                f"a row that is evaluated with a loss of {evaluated:.4f} is learned with {learned:.4f}: the {self._family} layers of this "
                "engine train another model than the one that answers; set model.engine to the other one, trl or unsloth"
            )


def a_row(batch: Batch) -> tuple[int, int, int] | None:
    """The line of a row that learns, and where it begins and ends: one that others stand before, if there is any."""
    first = None
    for line, labels in enumerate(batch["labels"]):
        starts = [0, len(labels)]
        if "position_ids" in batch:
            starts = [*(batch["position_ids"][line] == 0).nonzero().flatten().tolist(), len(labels)]
        elif "attention_mask" in batch:
            starts = [0, int(batch["attention_mask"][line].sum())]
        for start, end in reversed(list(pairwise(starts))):
            if bool((labels[start:end] != MASKED).any()):
                if start:
                    return line, start, end
                first = first or (line, start, end)
    return first


def _loss(loss_of: Callable[[Batch], Any], batch: Batch) -> float:
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=gpus), torch.no_grad():
        torch.manual_seed(0)  # dropout and noise fall alike, and training's own dice stay as they were
        return float(loss_of(batch))
