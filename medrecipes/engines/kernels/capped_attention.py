"""Attention with capped scores (Gemma 2) over padding-free rows, on a GPU: torch's flex attention, compiled.

Once for any number of tokens, and once more for each of the few numbers that come most, as packs do: kernels of one number are
faster by a third.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad

from medrecipes.core.errors import reason
from medrecipes.core.notes import note

BLOCK = 128  # to a multiple of so many tokens they are filled up
# from so many tokens, and of these from the third micro-batch on, kernels of one number are compiled, for so many numbers: torch
# keeps eight of a function
FEWEST, SIGHTS, NUMBERS = 2048, 3, 4

_sights: Counter[int] = Counter()
_numbers: set[int] = set()
_refused: set[Kernels] = set()  # whose settings do not compile here


def sight(tokens: int) -> None:
    """A micro-batch of so many tokens is about to be attended."""
    _sights[tokens] += 1
    if tokens >= FEWEST and _sights[tokens] >= SIGHTS and len(_numbers) < NUMBERS and tokens not in _numbers:
        _numbers.add(tokens)
        note(f"attention with capped scores is being compiled for {tokens:,} tokens: some seconds")


def comes_often(tokens: int) -> bool:
    """Whether so many tokens have kernels of their own."""
    return tokens in _numbers


@dataclass(frozen=True)
class Kernels:
    """How flex attention is told to compute: tokens whose visibility is noted together, and what else it is given."""

    block: int = BLOCK
    options: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, q: Tensor) -> Kernels:
        """The fastest where that was measured, heads of 256 numbers on Hopper; else as torch has them."""
        if q.shape[-1] != 256 or not q.is_cuda or torch.cuda.get_device_capability(q.device) != (9, 0):
            return cls()
        return cls(64, (("fwd_BLOCK_M", 64), ("fwd_BLOCK_N", 64), ("fwd_num_warps", 4), ("bwd_num_warps", 8)))


def mask(ends: Tensor, tokens: int, window: int | None, *, causal: bool, block: int = BLOCK) -> Any:
    """Which tokens see which, block by block: those of their own row, before them where it is causal, within the window.

    Worked out on the GPU and without a wait for it, so that a CUDA graph holds it as well.
    """
    blocks = -(-tokens // BLOCK) * BLOCK // block
    places = torch.arange(blocks * block, device=ends.device, dtype=ends.dtype)
    row = torch.searchsorted(ends[1:].contiguous(), places, right=True)
    ends = torch.cat((ends, places[-1:] + 1))  # of what stands behind the last row
    first, last = ends[row], places if causal else ends[row + 1] - 1
    if window:
        first = torch.maximum(first, places - (window - 1))
        last = last if causal else torch.minimum(last, places + (window - 1))

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= first[query]) & (key <= last[query])

    firsts, lasts = first.view(blocks, block), last.view(blocks, block)
    begins, finishes = places[::block], places[block - 1 :: block]
    some = (firsts.amin(1)[:, None] <= finishes) & (lasts.amax(1)[:, None] >= begins)
    every = (firsts.amax(1)[:, None] <= begins) & (lasts.amin(1)[:, None] >= finishes)
    (partly, where), (wholly, places_of) = (_listed(pairs[None, None]) for pairs in (some & ~every, every))
    return BlockMask.from_kv_blocks(partly, where, wholly, places_of, block, sees)


def _listed(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries sees, and which, these first."""
    return pairs.sum(-1).int(), pairs.int().argsort(dim=-1, descending=True, stable=True).int()


@dataclass(frozen=True)
class Scores:
    """What scores are multiplied by, what caps them, and whether there are kernels for as many tokens as there are."""

    scale: float
    cap: float
    often: bool = False


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Any, scores: Scores) -> Tensor:
    """[tokens, heads, width] to the same; learned from as torch learns."""
    tokens, heads, _ = q.shape
    # to whole blocks, which the compiler sees as such
    short = -tokens % BLOCK
    q, k, v = ((pad(t, (0, 0, 0, 0, 0, short)) if short else t).unflatten(0, (-1, BLOCK)) for t in (q, k, v))
    capped, kernels = _capping(scores.cap, heads, q.device, scores.often), Kernels.of(q)
    given, plain = ((q, k, v), capped, seen, scores.scale), replace(kernels, options=())
    try:
        out: Tensor = _compiled(scores.often, plain if kernels in _refused else kernels)(*given)
    except RuntimeError as error:  # what a GPU of this kind compiles is up to its driver and libraries
        if isinstance(error, torch.OutOfMemoryError) or kernels == plain or kernels in _refused:
            raise
        _refused.add(kernels)
        note(
            f"attention with capped scores is slower: its kernels do not compile as they were measured ({reason(error)})"
        )
        out = _compiled(scores.often, plain)(*given)
    return out[:tokens].contiguous()


@cache
def _capping(cap: float, heads: int, device: torch.device, often: bool) -> Callable[..., Tensor]:
    # where the number of tokens is a symbol, a number by itself would be one too, which does not compile
    caps = torch.full((heads,), cap, device=device)

    def capped(score: Tensor, _batch: Tensor, head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        most = cap if often else caps[head]
        return torch.sigmoid(score * (2 / most)) * (2 * most) - most  # which is most * tanh(score / most), and faster

    return capped


@cache
def _compiled(often: bool, kernels: Kernels) -> Any:
    """The kernels for any number of tokens; or for one, which are faster and compiled anew for each."""
    options = dict(kernels.options)

    def any_size(qkv: tuple[Tensor, ...], capped: Any, seen: Any, scale: float) -> Tensor:
        return _flex(qkv, capped, seen, scale, options)

    def one_size(qkv: tuple[Tensor, ...], capped: Any, seen: Any, scale: float) -> Tensor:
        return _flex(qkv, capped, seen, scale, options)  # a function of its own, whose kernels are not the other's

    if often:
        return torch.compile(one_size, dynamic=False)
    note("attention with capped scores is being compiled: some 20 seconds, once a run")
    return torch.compile(any_size, dynamic=True)


def _flex(qkv: tuple[Tensor, ...], capped: Any, seen: Any, scale: float, options: Any) -> Tensor:
    """[blocks, tokens, heads, width] each."""
    q, k, v = (tensor.flatten(0, 1).transpose(0, 1)[None] for tensor in qkv)
    found = flex_attention(
        q, k, v, score_mod=capped, block_mask=seen, scale=scale, enable_gqa=True, kernel_options=options or None
    )
    out: Tensor = found[0].transpose(0, 1)
    return out
