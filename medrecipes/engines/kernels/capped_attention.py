"""Attention with capped scores (Gemma 2) over padding-free rows, on a GPU: torch's flex attention, compiled once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecipes.core.notes import note

BLOCK = 128  # tokens whose visibility is noted together


def mask(ends: Tensor, tokens: int, window: int | None, *, causal: bool) -> Any:
    """Which tokens see which, block by block: those of their own row, before them where it is causal, within the window.

    Worked out on the GPU and without a wait for it, so that a CUDA graph holds it as well.
    """
    from torch.nn.attention.flex_attention import BlockMask

    blocks = -(-tokens // BLOCK)
    places = torch.arange(blocks * BLOCK, device=ends.device, dtype=ends.dtype)
    row = torch.searchsorted(ends[1:].contiguous(), places, right=True)
    ends = torch.cat((ends, places[-1:] + 1))  # of what stands behind the last row
    first, last = ends[row], places if causal else ends[row + 1] - 1
    if window:
        first = torch.maximum(first, places - (window - 1))
        last = last if causal else torch.minimum(last, places + (window - 1))

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= first[query]) & (key <= last[query])

    firsts, lasts = first.view(blocks, BLOCK), last.view(blocks, BLOCK)
    begins, finishes = places[::BLOCK], places[BLOCK - 1 :: BLOCK]
    some = (firsts.amin(1)[:, None] <= finishes) & (lasts.amax(1)[:, None] >= begins)
    every = (firsts.amax(1)[:, None] <= begins) & (lasts.amin(1)[:, None] >= finishes)
    (partly, where), (wholly, places_of) = (_listed(pairs[None, None]) for pairs in (some & ~every, every))
    return BlockMask.from_kv_blocks(partly, where, wholly, places_of, BLOCK, sees)


def _listed(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries sees, and which, these first."""
    return pairs.sum(-1).int(), pairs.int().argsort(dim=-1, descending=True, stable=True).int()


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Any, scale: float, cap: float) -> Tensor:
    """[tokens, heads, width] to the same; learned from as torch learns."""
    capped, tokens = _capping(cap, q.shape[1], q.device), len(q)
    # to whole blocks: other numbers of tokens would be compiled once more
    q, k, v = (pad(tensor, (0, 0, 0, 0, 0, -tokens % BLOCK)).transpose(0, 1)[None] for tensor in (q, k, v))
    out: Tensor = _compiled()(q, k, v, score_mod=capped, block_mask=seen, scale=scale, enable_gqa=True)
    return out[0].transpose(0, 1)[:tokens].contiguous()


@cache
def _capping(cap: float, heads: int, device: torch.device) -> Callable[..., Tensor]:
    caps = torch.full((heads,), cap, device=device)  # a number by itself would be a symbol, which does not compile

    def capped(score: Tensor, _batch: Tensor, head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        return torch.tanh(score / caps[head]) * caps[head]

    return capped


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    note("attention with capped scores is being compiled: some 20 seconds, once a run")
    return torch.compile(flex_attention, dynamic=True)  # of any number of tokens
