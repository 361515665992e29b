"""The likelihood of answers that others wrote: the loss of dev rows, and bits per byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from medrecipes.engines.generation.library import device_of, inference, portions
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, Example
from medrecipes.rendering.packing import collate, pack


def nats(
    model: Any, template: ChatTemplate, examples: Sequence[Example], batch: int, dtype: torch.dtype, *,
    in_step: bool = False,
) -> list[tuple[float, float]]:  # fmt: skip
    """The negative log-likelihood of each row's answers and of their stop tokens; logits are made for these only."""
    device = device_of(model)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    cap = getattr(causal.config.get_text_config(), "final_logit_softcapping", None)
    stops = torch.tensor(sorted(template.stop_ids), device=device)
    _, pad = template.pad
    packs = pack(examples, 0, packing=False)

    def some(rows: Sequence[int]) -> list[tuple[float, float]]:
        lists = collate([packs[i] for i in rows], pad, "padded")
        tensors = {name: torch.tensor(value, device=device) for name, value in lists.items()}
        labels = tensors["labels"][:, 1:]
        wanted = labels != MASKED
        with inference(device, dtype):
            hidden = causal.model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"])[0]
            logits = causal.lm_head(hidden[:, :-1][wanted]).float()
        if cap:
            logits = cap * torch.tanh(logits / cap)
        losses = torch.zeros(labels.shape, device=device)
        losses[wanted] = torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="none")
        stop = torch.isin(labels, stops)
        texts, ends = (losses * ~stop).sum(1).tolist(), (losses * stop).sum(1).tolist()
        return list(zip(texts, ends, strict=True))

    # the longest first: should memory run out, then at once
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i].input_ids))
    found = dict(zip(order, portions(order, batch, some, in_step=in_step), strict=True))
    return [found[i] for i in range(len(examples))]
