"""The last step to the loss: for the supervised tokens alone, without a wait, and with its gradient found on the way forward.

TRL's kernel finds on the GPU which tokens are supervised, and makes all logits once more on the way back: one of three products
with the words, which of a small base with many words are most of its work. Memory stays bounded by so many tokens at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from medrecipes.engines.kernels import pointwise
from medrecipes.engines.plan.memory import HEAD_TOKENS
from medrecipes.rendering.chat_template import MASKED


def learned(labels: Tensor) -> Tensor:
    """Behind which tokens the next one is learned, as places in all lines together, one after the other."""
    wanted = labels != MASKED
    wanted[:, 0] = False  # before which there is none
    return wanted.flatten().nonzero()[:, 0] - 1


@contextmanager
def told(model: Any) -> Iterator[None]:
    """Inside, a model that is given `learned` foretells those tokens alone."""
    from trl.trainer import utils  # seconds to import, and what only answers never trains

    base = model.get_base_model()
    usual, cap = base.forward, getattr(base.config.get_text_config(), "final_logit_softcapping", None)

    def forward(*values: Any, learned: Tensor | None = None, **named: Any) -> Any:
        if learned is None:
            return usual(*values, **named)
        named.pop("fused_lm_head")
        labels = named.pop("labels").flatten().index_select(0, learned + 1)
        hidden = base.base_model(*values, **named).last_hidden_state.flatten(0, 1).index_select(0, learned)
        weight = base.get_output_embeddings().weight
        log_probs, entropy, is_top1 = _Words.apply(hidden, weight, labels, cap)
        mask = torch.ones_like(labels, dtype=torch.bool)
        return utils.FusedCausalLMOutput(log_probs=log_probs, entropy=entropy, is_top1=is_top1, label_mask=mask)

    base.forward = forward
    try:
        yield
    finally:
        base.forward = usual


class _Words(torch.autograd.Function):
    """How likely the right words are, the entropy, and whether they are the first choice. The words themselves do not train."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, weight: Tensor, labels: Tensor, cap: float | None) -> tuple[Tensor, ...]:
        found: list[tuple[Tensor, ...]] = []
        for some, right in zip(*(x.split(HEAD_TOKENS) for x in (hidden, labels[:, None])), strict=True):
            *figures, slope = pointwise.run(pointwise.words, some.to(weight.dtype) @ weight.t(), right, cap)
            found.append((*figures, slope @ weight))
        *figures, slopes = (torch.cat(column) for column in zip(*found, strict=True))
        context.save_for_backward(slopes)
        context.mark_non_differentiable(*figures[1:])
        return tuple(figure[:, 0] for figure in figures)

    @staticmethod
    def backward(context: Any, grad: Tensor, *_: Any) -> tuple[Tensor, None, None, None]:
        (slopes,) = context.saved_tensors
        return (grad[:, None] * slopes).to(slopes.dtype), None, None, None  # rounded once
