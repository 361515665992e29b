"""Attention over rows that lie end to end, in one kernel: torch's own variable-length attention."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface

NAME = "medrecipes_varlen"


def available(dtype: torch.dtype) -> bool:
    """Whether this torch and this card have the kernel for this number format."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401
    except ImportError:
        return False
    half = dtype in (torch.bfloat16, torch.float16)
    return bool(half and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0))


def varlen(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
    scaling: float | None = None, cu_seq_lens_q: torch.Tensor | None = None, max_length_q: int | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """What transformers calls for every layer; the collator says where rows begin (`cu_seq_lens_q`)."""
    from torch.nn.attention.varlen import varlen_attn

    assert cu_seq_lens_q is not None, "only for batches that lie end to end"
    assert query.shape[0] == 1
    groups, given = query.shape[1] // key.shape[1], query.dtype
    if given == torch.float32:  # DoRA hands on fp32; the kernel computes in the number format of the training step
        half = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(half), key.to(half), value.to(half)
    # [1, heads, tokens, width] to [tokens, heads, width]; the kernel of torch 2.11 knows no shared key heads
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    # a window of (-1, 0) is what makes it causal: all that came before, nothing that comes after
    window = (-1, 0)
    if (sliding := getattr(module, "sliding_window", None)) and max_length_q and max_length_q > sliding:
        window = (sliding - 1, 0)
    out = varlen_attn(
        q.contiguous(), k.contiguous(), v.contiguous(), cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
        scale=scaling, window_size=window,
    )  # fmt: skip
    return out.unsqueeze(0).to(given), None


AttentionInterface.register(NAME, varlen)
