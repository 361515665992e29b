"""Attention with capped scores (Gemma 2) over padding-free rows, on a GPU: torch's flex attention, compiled once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from medrecipes.core.notes import note

BLOCK = 128  # tokens whose visibility is noted together


def mask(ends: Tensor, tokens: int, window: int | None, *, causal: bool) -> Any:
    """Which tokens see which, block by block: those of their own row, before them where it is causal, within the window.

    Worked out on the GPU and without a wait for it, so that a CUDA graph holds it as well.
    """
    from torch.nn.attention.flex_attention import BlockMask

    blocks = -(-tokens // BLOCK)
    places = torch.arange(blocks * BLOCK, device=ends.device, dtype=ends.dtype)
    row = torch.searchsorted(ends[1:].contiguous(), places, right=True, out_int32=True)
    first, last = row[::BLOCK], row[BLOCK - 1 :: BLOCK]
    whole = first == last
    block = torch.arange(blocks, device=ends.device)
    ahead = block[:, None] - block[None]  # by how many blocks a query comes behind a key
    some = (first[:, None] <= last[None]) & (first[None] <= last[:, None])
    every = whole[:, None] & whole[None] & (first[:, None] == first[None])
    if causal:
        some, every = some & (ahead >= 0), every & (ahead > 0)
    if window:
        some = some & ((ahead.abs() - 1) * BLOCK + 1 < window)
        every = every & ((ahead.abs() + 1) * BLOCK <= window)

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = row[query] == row[key]
        if causal:
            seen = seen & (key <= query)
        if window:
            seen = seen & ((query - key).abs() < window)
        return seen

    (partly, where), (wholly, places_of) = (_listed(pairs[None, None]) for pairs in (some & ~every, every))
    return BlockMask.from_kv_blocks(partly, where, wholly, places_of, BLOCK, sees, (tokens, tokens))


def _listed(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries sees, and which, these first."""
    return pairs.sum(-1).int(), pairs.int().argsort(dim=-1, descending=True, stable=True).int()


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Any, scale: float, cap: float) -> Tensor:
    """[tokens, heads, width] to the same; learned from as torch learns."""
    q, k, v = (tensor.transpose(0, 1)[None] for tensor in (q, k, v))
    out: Tensor = _compiled()(q, k, v, score_mod=_cap(cap), block_mask=seen, scale=scale, enable_gqa=True)
    return out[0].transpose(0, 1).contiguous()


@cache
def _cap(cap: float) -> Callable[..., Tensor]:
    def capped(score: Tensor, _batch: Tensor, _head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        return torch.tanh(score / cap) * cap

    return capped


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    note("attention with capped scores is being compiled: some 20 seconds, once a run")
    return torch.compile(flex_attention, dynamic=True)
