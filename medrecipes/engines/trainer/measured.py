"""TRL's trainer without its waits: what it measures beside the loss is added up on the GPU, and read once a log."""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTTrainer

from medrecipes.engines.trainer.async_logging import Brisk


class MeasuredTrainer(Brisk, SFTTrainer):
    """TRL's loss and TRL's metrics; but no micro-batch waits for its numbers, nor for those of other GPUs."""

    _sums: torch.Tensor | None = None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The mean over the tokens that a step learns, on all GPUs together."""
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        learned = outputs.label_mask.sum()
        count = torch.as_tensor(learned if num_items_in_batch is None else num_items_in_batch)
        loss = -outputs.log_probs.sum() / count.clamp(min=1)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over the GPUs
        seen = inputs["attention_mask"].sum() if "attention_mask" in inputs else torch.full_like(learned, inputs["input_ids"].numel())  # fmt: skip
        measured = (seen, learned, outputs.entropy.detach().sum(), outputs.is_top1.sum())
        sums = torch.stack([number.double() for number in measured])
        self._sums = sums if self._sums is None else self._sums + sums
        found: torch.Tensor = loss
        return found

    def figures(self) -> list[torch.Tensor]:
        """Tokens, those learned, their entropy and how many were foretold."""
        sums, self._sums = self._sums, None
        assert sums is not None, "no step is logged before its first micro-batch"
        return list(sums)

    def take_in(self, figures: list[float]) -> None:
        """TRL's metrics of all micro-batches since the last log."""
        seen, learned, entropy, correct = figures
        self._total_train_tokens += int(seen)
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        self._metrics["train"]["entropy"] = [entropy / max(learned, 1)]
        self._metrics["train"]["mean_token_accuracy"] = [correct / max(learned, 1)]
