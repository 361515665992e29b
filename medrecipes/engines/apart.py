"""The proof, on every run, that rows which share a line do not see each other; made on the first micro-batch that has some."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from medrecipes.errors import EngineError
from medrecipes.rendering import MASKED

TOLERANCE = 1e-4  # as a share of the loss; rows that see each other are far beyond


class RowsApart:
    """What stands before a row on its line is changed, and the row's loss must stay what it was."""

    def __init__(self, family: str, *, packing: bool) -> None:
        self._family, self._packing = family, packing
        self.losses: tuple[float, float] | None = None

    def prove(self, batch: dict[str, Any], loss_of: Callable[[dict[str, Any]], Any]) -> None:
        """Look at a micro-batch unless one was looked at before; `loss_of` is the training's own way to a loss."""
        if self.losses is not None or (pair := neighbours(batch)) is None:
            return
        found = []
        cards = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=cards), torch.no_grad():
            for changed in pair:
                torch.manual_seed(0)  # dropout and noise are the same for both
                found.append(float(loss_of(changed)))
        one, other = self.losses = found[0], found[1]
        if not abs(one - other) <= TOLERANCE * abs(one):
            cure = "train.packing = false" if self._packing else "train.padding_free = false"
            raise EngineError(
                f"rows on one line see each other through the {self._family} layers of this engine (a row's loss is {one:.4f} or "
                f"{other:.4f}, depending on what stands before it); set {cure}"
            )


def neighbours(batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The micro-batch twice, one row alone learned, with other ids before it the second time; None where no rows share a line."""
    if "position_ids" not in batch:
        return None
    ids, labels = batch["input_ids"], batch["labels"]
    for line, positions in enumerate(batch["position_ids"]):
        starts = [*(positions == 0).nonzero().flatten().tolist(), len(positions)]
        for start, end in reversed(list(pairwise(starts))):
            if start and bool((labels[line, start:end] != MASKED).any()):
                alone, others = torch.full_like(labels, MASKED), ids.clone()
                alone[line, start:end] = labels[line, start:end]
                others[line, :start] = ids[line, :start].roll(1)
                return {**batch, "labels": alone}, {**batch, "labels": alone, "input_ids": others}
    return None
