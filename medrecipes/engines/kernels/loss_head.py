"""The last step to the loss, without a wait: TRL's kernel is told which tokens are supervised, and nothing is looked up on the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from medrecipes.rendering.chat_template import MASKED

FIGURES = ("log_probs", "entropy", "is_top1")


def learned(labels: Tensor) -> Tensor:
    """Behind which tokens the next one is learned, as places in all lines together, one after the other."""
    wanted = labels != MASKED
    wanted[:, 0] = False  # before which there is none
    return wanted.flatten().nonzero()[:, 0] - 1


@contextmanager
def told(model: Any) -> Iterator[None]:
    """Inside, a model that is given `learned` foretells those tokens alone; as TRL does, which finds out on the GPU which they are."""
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
        log_probs, entropy, _, _, is_top1 = utils._ChunkedLogProbFunction.apply(
            hidden, weight, None, labels, 1.0, utils._CHUNKED_LOGPROB_CHUNK_SIZE, cap, 1.0, FIGURES
        )
        mask = torch.ones_like(labels, dtype=torch.bool)
        return utils.FusedCausalLMOutput(log_probs=log_probs, entropy=entropy, is_top1=is_top1, label_mask=mask)

    base.forward = forward
    try:
        yield
    finally:
        base.forward = usual
