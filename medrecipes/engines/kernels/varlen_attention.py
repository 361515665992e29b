"""Attention over padding-free rows, in one kernel: torch's own variable-length attention."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from medrecipes.core.errors import EngineError
from medrecipes.engines import has_varlen
from medrecipes.engines.kernels import capped_attention, torch_private
from medrecipes.engines.plan.dimensions import capped
from medrecipes.engines.plan.pace import LONG

NAME = "medrecipes_varlen"


ROUND = 1024  # to a multiple of which a row of LONG tokens or more is filled up: cuDNN plans each length anew


@dataclass(frozen=True)
class Stretch:
    """Rows that one call attends to, by their ends; one that is long, or some that are not."""

    start: int
    end: int
    ends: list[int]
    device: torch.device

    @cached_property
    def rows(self) -> Rows:
        """These rows by themselves; the same for all layers of a step."""
        lengths = [end - start for start, end in itertools.pairwise(self.ends)]
        return Rows(torch.tensor(self.ends, dtype=torch.int32, device=self.device), max(lengths))

    @property
    def long(self) -> bool:
        """Whether it is one row of LONG tokens or more."""
        return len(self.ends) == 2 and self.end - self.start >= LONG


@dataclass(frozen=True)
class Rows:
    """Where packed rows begin and end, e.g. `Rows(tensor([0, 3, 7]), 4)`: two rows, the longest of 4 tokens."""

    ends: Tensor
    longest: int
    causal: bool = True  # a tagging run may attend both ways
    fixed: bool = False  # in a CUDA graph, whose rows change while what is done with them does not

    @cached_property
    def lengths(self) -> list[int]:
        """The tokens of each that has any: torch's kernel for a CPU divides by them."""
        return [length for length in self.ends.diff().tolist() if length]

    @cached_property
    def stretches(self) -> list[Stretch]:
        """Rows from LONG tokens on each by itself, and what lies between them together."""
        ends, found = self.ends.tolist(), list[Stretch]()
        for start, end in itertools.pairwise(ends):
            if end - start < LONG and found and not found[-1].long:
                found[-1] = replace(found[-1], end=end, ends=[*found[-1].ends, end - found[-1].start])
            elif end > start:
                found.append(Stretch(start, end, [0, end - start], self.ends.device))
        return found

    def window(self, how: How) -> int | None:
        """How far back a token looks, where some row is longer than that."""
        return how.window if how.window and self.longest > how.window else None

    @cached_property
    def masks(self) -> dict[int | None, Any]:
        """What attention with capped scores sees, by the width of its window; the same for all layers of a step."""
        return {}


@dataclass(frozen=True)
class How:
    """How a layer attends: the scale of its scores, how far back it looks, and what caps its scores."""

    scale: float
    window: int | None = None
    cap: float | None = None


def available(dtype: torch.dtype, learns: int = 0) -> bool:
    """Whether this torch and this GPU have the kernel for this number format, and can learn with heads `learns` numbers wide."""
    if dtype not in (torch.bfloat16, torch.float16) or not torch.cuda.is_available():
        return False
    return has_varlen(learns) and torch_private.has_flash() and bool(torch.backends.cuda.is_flash_attention_available())


def exact(config: Mapping[str, Any]) -> str:
    """transformers' name of the attention that leaves nothing out: sdpa silently does not cap logits, as Gemma 2 wants, and
    has no place for the sinks of gpt-oss."""
    return "eager" if capped(config) or config.get("model_type") == "gpt_oss" else "sdpa"


def attend(q: Tensor, k: Tensor, v: Tensor, rows: Rows, how: How) -> tuple[Tensor, Tensor]:
    """Causal attention within each row, and the logarithm of each softmax's sum; [tokens, heads, width], keys shared.

    With capped scores on a GPU, in place of the sums the same once more, from which torch learns.
    """
    if how.cap is not None and q.is_cuda:
        graph = _capped(q, k, v, rows, how)
        return graph.detach(), graph
    if not q.is_cuda:
        if how.cap is None and rows.causal and torch_private.has_flash_on_cpu():
            return _flash_on_cpu(q, k, v, rows, how)
        return _attend_slowly(q, k, v, rows, how), q.new_empty(0)
    if _has_long(rows, how):
        return _attend_by_stretches(q, k, v, rows, how)
    out, lse, *_ = torch_private.flash_forward(
        q, k, v, rows.ends, rows.ends, rows.longest, rows.longest, 0.0, False, False, scale=how.scale,
        **_window(rows, how),
    )  # fmt: skip
    return out, lse


Kept = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # queries, keys, values, what came of them, and the sums


def attend_back(grad: Tensor, kept: Kept, rows: Rows, how: How) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values."""
    q, k, v, out, lse = kept
    if how.cap is None and not q.is_cuda and rows.causal and torch_private.has_flash_on_cpu():
        return _flash_back_on_cpu(grad, kept, rows, how)
    if how.cap is not None or not q.is_cuda:
        graph = lse
        if not q.is_cuda:
            q, k, v = (tensor.detach().requires_grad_() for tensor in (q, k, v))
            with torch.enable_grad():
                graph = _attend_slowly(q, k, v, rows, how)
        dq, dk, dv = torch.autograd.grad(graph, (q, k, v), grad)
        return dq, dk, dv
    if _has_long(rows, how):
        return _back_by_stretches(grad, kept, rows, how)
    state = torch.zeros(2, dtype=torch.uint64, device=q.device)  # of the dropout that there is not
    dq, dk, dv = torch_private.flash_backward(
        grad, q, k, v, out, lse, rows.ends, rows.ends, rows.longest, rows.longest, 0.0, False, state,
        torch.empty(0, device=q.device), scale=how.scale, **_window(rows, how),
    )  # fmt: skip
    return dq, dk, dv


def _has_long(rows: Rows, how: How) -> bool:
    """Whether some rows are attended by cuDNN; through a window they are not."""
    if rows.longest < LONG or rows.fixed or not rows.causal or rows.window(how):
        return False
    return torch_private.has_dense()


def _attend_by_stretches(q: Tensor, k: Tensor, v: Tensor, rows: Rows, how: How) -> tuple[Tensor, Tensor]:
    outs, sums = [], []
    for part in rows.stretches:
        some = q[part.start : part.end], k[part.start : part.end], v[part.start : part.end]
        if part.long:
            out, lse, *_ = torch_private.dense_forward(*_alone(*some), None, True, 0.0, True, False, scale=how.scale)
            out = out[0].transpose(0, 1)[: part.end - part.start]
        else:
            out, lse = attend(*some, part.rows, how)
        outs.append(out)
        sums.append(lse.flatten())
    return (outs[0].contiguous() if len(outs) == 1 else torch.cat(outs)), torch.cat(sums)


def _back_by_stretches(grad: Tensor, kept: Kept, rows: Rows, how: How) -> tuple[Tensor, Tensor, Tensor]:
    *tensors, sums = kept
    heads = tensors[0].shape[1]
    sizes = [-(-(p.end - p.start) // ROUND) * ROUND if p.long else p.end - p.start for p in rows.stretches]
    found = []
    for part, size, lse in zip(rows.stretches, sizes, sums.split([heads * size for size in sizes]), strict=True):
        tokens = part.end - part.start
        some = [tensor[part.start : part.end] for tensor in (grad, *tensors)]
        if part.long:
            none = torch.empty(
                0, dtype=torch.int64, device=grad.device
            )  # of the dropout and the bias that there are not
            parts = torch_private.dense_backward(
                *_alone(*some), lse.view(1, heads, size, 1), none, none, None, None, None, size, size, 0.0, True,
                scale=how.scale,
            )  # fmt: skip
            found.append([each[0].transpose(0, 1)[:tokens] for each in parts])
        else:
            d_out, *others = some
            found.append(list(attend_back(d_out, (*others, lse.view(heads, size)), part.rows, how)))
    dq, dk, dv = (torch.cat(parts) for parts in zip(*found, strict=True))
    return dq, dk, dv


def _alone(*tensors: Tensor) -> Iterator[Tensor]:
    """A row's tensors [tokens, heads, width] as [1, heads, tokens, width], filled up; what is causal does not see that."""
    for tensor in tensors:
        yield torch.nn.functional.pad(tensor, (0, 0, 0, 0, 0, -len(tensor) % ROUND)).transpose(0, 1)[None]


def _capped(q: Tensor, k: Tensor, v: Tensor, rows: Rows, how: How) -> Tensor:
    window = rows.window(how)
    if window not in rows.masks:
        block = capped_attention.Kernels.of(q).block
        rows.masks[window] = capped_attention.mask(rows.ends, len(q), window, causal=rows.causal, block=block)
        if not rows.fixed:  # nothing may be compiled while a CUDA graph is captured
            capped_attention.sight(len(q))
    assert how.cap is not None
    often = not rows.fixed and capped_attention.comes_often(len(q))
    scores = capped_attention.Scores(how.scale, how.cap, often)
    # always as where it is learned from, and in its own precision: what is compiled is compiled once
    with torch.enable_grad(), torch.autocast(q.device.type, enabled=False):
        q, k, v = (tensor.requires_grad_(q.is_cuda) for tensor in (q, k, v))
        return capped_attention.attend(q, k, v, rows.masks[window], scores)


def _window(rows: Rows, how: How) -> dict[str, int]:
    # a window without end on the left and none on the right is what makes it causal
    left = (rows.window(how) or 0) - 1
    return {"window_size_left": left, "window_size_right": 0 if rows.causal else left}


def _attend_slowly(q: Tensor, k: Tensor, v: Tensor, rows: Rows, how: How) -> Tensor:
    """The same row by row, where there is no kernel."""
    scale, sliding = how.scale, how.window
    found = []
    ends = rows.ends.tolist()
    for start, end in itertools.pairwise(ends):
        query, key, value = (tensor[start:end].transpose(0, 1)[None] for tensor in (q, k, v))
        mask = torch.ones(end - start, end - start, dtype=torch.bool, device=q.device)
        mask = mask.tril() if rows.causal else mask
        if sliding:
            mask = mask.triu(1 - sliding).tril(sliding - 1)
        if how.cap is not None:
            key, value = (tensor.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for tensor in (key, value))
            scores = torch.tanh(query @ key.transpose(-1, -2) * (scale / how.cap)) * how.cap
            shares = scores.masked_fill(~mask, -torch.inf).softmax(
                -1, dtype=torch.promote_types(q.dtype, torch.float32)
            )
            found.append((shares.to(v.dtype) @ value)[0].transpose(0, 1))
            continue
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale, enable_gqa=True
        )
        found.append(out[0].transpose(0, 1))
    return torch.cat(found)


def _flash_on_cpu(q: Tensor, k: Tensor, v: Tensor, rows: Rows, how: How) -> tuple[Tensor, Tensor]:
    """Row by row with torch's kernel for a CPU; in fp32, as the same kernel in bf16 takes four times as long backward."""
    found = [
        torch_private.flash_forward_on_cpu(*qkv, 0.0, mask is None, attn_mask=mask, scale=how.scale)
        for *qkv, mask in _by_row(rows, how.window, q, k, v)
    ]
    out = torch.cat([row[0].transpose(0, 1) for row, _ in found])
    return out.to(q.dtype), torch.cat([sums for _, sums in found], dim=-1)


def _flash_back_on_cpu(grad: Tensor, kept: Kept, rows: Rows, how: How) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v, out, lse = kept
    found = [
        torch_private.flash_backward_on_cpu(*each, sums, 0.0, mask is None, attn_mask=mask, scale=how.scale)
        for (*each, mask), sums in zip(
            _by_row(rows, how.window, grad, q, k, v, out), lse.split(rows.lengths, dim=-1), strict=True
        )
    ]
    dq, dk, dv = (torch.cat([row[0].transpose(0, 1) for row in part]).to(q.dtype) for part in zip(*found, strict=True))
    return dq, dk, dv


def _by_row(rows: Rows, sliding: int | None, *values: Tensor) -> Iterator[tuple[Any, ...]]:
    """Each row of tensors [tokens, heads, width] as [1, heads, tokens, width], no half precision, and its window's mask."""
    wide = [value.float() if value.dtype in (torch.bfloat16, torch.float16) else value for value in values]
    for row in zip(*(value.transpose(0, 1)[None].split(rows.lengths, dim=2) for value in wide), strict=True):
        tokens, mask = row[0].shape[2], None
        if sliding and sliding < tokens:
            hidden = torch.ones(tokens, tokens, dtype=torch.bool).tril().triu(1 - sliding).logical_not_()
            mask = torch.zeros(tokens, tokens, dtype=row[0].dtype).masked_fill_(hidden, -torch.inf)
        yield *row, mask


def _on_cpu(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, scale: float | None, sliding: int | None
) -> Tensor:  # fmt: skip
    """Row by row with torch's kernel for a CPU, [1, heads, tokens, width] to [1, tokens, heads, width]."""
    given = query.dtype
    if given == torch.bfloat16 and query.requires_grad:
        query, key, value = query.float(), key.float(), value.float()  # backward in bf16 takes four times as long
    lengths = ends.diff().tolist()
    found = []
    # split, not sliced: the gradient of a slice is a tensor of all rows
    for q, k, v in zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True):
        mask = None
        if sliding and sliding < q.shape[2]:
            mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril().triu(1 - sliding)
        attended = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
        )
        found.append(attended.transpose(1, 2))
    return torch.cat(found, dim=1).to(given)


class _Varlen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Rows, how: How) -> Tensor:
        q, k, v = q.detach(), k.detach(), v.detach()
        out, lse = attend(q, k, v, rows, how)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.rest = rows, how
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return (*attend_back(grad.contiguous(), ctx.saved_tensors, *ctx.rest), None, None)


def varlen(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None, max_length_q: int | None = None, **more: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers calls for every layer; the collator says where rows begin (`cu_seq_lens_q`)."""
    if more.get("s_aux") is not None:  # what the kernels would leave out, and say nothing
        raise EngineError("the attention of this base wants s_aux, which padding-free rows cannot have; set train.padding_free = false and train.packing = false")  # fmt: skip
    assert cu_seq_lens_q is not None, "only for padding-free batches"
    assert max_length_q is not None
    assert query.shape[0] == 1
    causal, cap = bool(getattr(module, "is_causal", True)), more.get("softcap")
    if not query.is_cuda and causal and cap is None:
        return _on_cpu(query, key, value, cu_seq_lens_q, scaling, getattr(module, "sliding_window", None)), None
    given = query.dtype
    if given == torch.float32:  # DoRA hands on fp32; the kernel computes in the number format of the training step
        half = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(half), key.to(half), value.to(half)
    # [1, heads, tokens, width] to [tokens, heads, width]
    q, k, v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
    scale = scaling if scaling is not None else q.shape[-1] ** -0.5
    how = How(scale, getattr(module, "sliding_window", None), cap)
    out: Tensor = _Varlen.apply(q, k, v, Rows(cu_seq_lens_q, max_length_q, causal), how)
    return out.unsqueeze(0).to(given), None


AttentionInterface.register(NAME, varlen)


def varlen_attn(
    q: Tensor, k: Tensor, v: Tensor, ends: Tensor, _ends: Tensor, longest: int, _longest: int, *,
    window_size: tuple[int, int], scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """Causal attention as torch's function of this name offers it from 2.12 on; before, heads could not share keys."""
    left, right = window_size
    assert right == 0, "only towards what came before"
    assert enable_gqa or q.shape[1] == k.shape[1]
    scale = scale if scale is not None else q.shape[-1] ** -0.5
    out: Tensor = _Varlen.apply(q, k, v, Rows(ends, longest), How(scale, left + 1 if left >= 0 else None))
    return out
