"""The model as generation runs it: tokens laid end to end go in, logits come out, and attention is told from outside.

`LibraryBody` is the base's own layers with the attention function exchanged; it serves every family whose attention goes
through transformers' `AttentionInterface`. `FusedBody` runs the fused layers where they fit. `agrees` holds either against
the library's plain forward before any answer is taken from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from medrecipes.engines.generation.cache import Batch, Cache, How, attend_prompts
from medrecipes.engines.kernels import fused_layer, pointwise
from medrecipes.engines.kernels.projections import Projection
from medrecipes.engines.kernels.torch_private import copy_all
from medrecipes.engines.kernels.varlen_attention import Rows

NAME = "medrecipes_generation"
Attend = Callable[[int, Tensor, Tensor, Tensor, How], Tensor]
Body = Callable[[Tensor, Tensor, Attend, Tensor | None], Tensor]


@dataclass(frozen=True)
class Prompts:
    """Attention of whole rows; keys and values are written to the cache, where there is one."""

    rows: Rows
    cache: Cache | None = None
    starts: Tensor | None = None
    places: Tensor | None = None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """[tokens, heads, width] to the same."""
        if self.cache is not None:
            assert self.starts is not None
            assert self.places is not None
            self.cache.put(layer, k, v, self.starts, self.places)
        return attend_prompts(q, k, v, self.rows, how)


@dataclass(frozen=True)
class Next:
    """Attention of one more token a row over what the cache holds."""

    cache: Cache
    batch: Batch
    starts: Tensor
    places: Tensor

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """[rows, heads, width] to the same."""
        self.cache.put(layer, k, v, self.starts, self.places)
        return self.cache.attend(layer, q, self.batch, how)


class _Current:
    """What the layers of the model that runs at present attend by; transformers hands nothing of the kind on."""

    attend: Attend | None = None


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float | None = None,
    softcap: float | None = None, s_aux: Tensor | None = None, **more: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """What transformers calls for every layer, with one line of tokens."""
    if s_aux is not None:
        raise NotImplementedError("attention sinks")
    assert _Current.attend is not None, "outside of generation"
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    window = more.get("sliding_window") or getattr(module, "sliding_window", None)
    how = How(scaling if scaling is not None else q.shape[-1] ** -0.5, window, softcap)
    out = _Current.attend(module.layer_idx, q, k, v, how)
    return out.to(query.dtype)[None], None


AttentionInterface.register(NAME, _attention)


class LibraryBody:
    """The base's own layers."""

    def __init__(self, model: Any) -> None:
        self._causal = model.get_base_model() if hasattr(model, "get_base_model") else model

    def __call__(self, ids: Tensor, places: Tensor, attend: Attend, keep: Tensor | None) -> Tensor:
        """The logits behind the tokens `keep`, or behind all."""
        before, _Current.attend = _Current.attend, attend
        try:
            logits: Tensor = self._causal(
                input_ids=ids[None], position_ids=places[None], use_cache=False, logits_to_keep=0 if keep is None else keep
            ).logits[0]
        finally:
            _Current.attend = before
        return logits

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside, the layers attend as they are told."""
        before = self._causal.config._attn_implementation
        self._causal.set_attn_implementation(NAME)
        try:
            yield
        finally:
            self._causal.set_attn_implementation(before)


class FusedBody:
    """The fused layers over weights that are decoded once, where memory allows."""

    def __init__(self, model: Any, dtype: torch.dtype, *, adapter: bool, decode: bool) -> None:
        self._causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._inner, config = self._causal.model, self._causal.config

        def project(modules: Sequence[Any], dtype: torch.dtype) -> Projection:
            return _Held(modules if adapter else [getattr(m, "base_layer", m) for m in modules], dtype)

        self._layers = [
            fused_layer.Layer.of(layer, config, dtype, keep=False, project=project) for layer in self._inner.layers
        ]
        self._dtype, self._gemma = dtype, config.model_type == "gemma"
        projections = [projection for layer in self._layers for projection in layer.projections]
        if decode:
            for projection in projections:
                projection.decode()
        copies = [pair for projection in projections for pair in projection.copies]
        with torch.no_grad():
            copy_all([place for place, _ in copies], [weight.detach() for _, weight in copies])

    def __call__(self, ids: Tensor, places: Tensor, attend: Attend, keep: Tensor | None) -> Tensor:
        """The logits behind the tokens `keep`, or behind all."""
        x = self._inner.embed_tokens(ids).to(self._dtype)
        cos, sin = (table[0] for table in self._inner.rotary_emb(x[None], places[None]))
        with torch.autocast(x.device.type, enabled=False):
            for number, layer in enumerate(self._layers):
                q, k, v, _ = layer.before(x, cos, sin)
                attended = attend(number, q, k, v, How(layer.scale, layer.window))
                x, _ = layer.middle(x, attended)
                both, _ = layer.both(x)
                out, _ = layer.projections[3].times(pointwise.run(pointwise.gate, both, self._gemma))
                x = out.add_(x)
            x = layer.norm_by(self._inner.norm.weight, x)
        logits: Tensor = self._causal.lm_head(x if keep is None else x[keep])
        return logits

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Nothing has to be exchanged."""
        yield


class _Held(Projection):
    """A projection that answers: unquantised matrices that multiply the same input are multiplied one by one, not stacked anew."""

    def times(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x times weights and updates; the second is of no use here."""
        if self.decoded is not None or self.quantised or len(self.bases) == 1:
            out = x @ self.weight().t()
        else:
            out = torch.cat([x @ base.to(self.dtype).t() for base in self.bases], dim=-1)
        if not self.blocks:
            return out, out
        low = x @ self.a.t()
        return out.addmm_(low, self.b.t(), alpha=self.scale), low


def fits_fused(model: Any, dtype: torch.dtype) -> bool:
    """Whether the fused layers can answer for this model as it is loaded."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if dtype not in (torch.bfloat16, torch.float16, torch.float32) or fused_layer.differs(causal):
        return False
    for layer in causal.model.layers:
        for part, names in fused_layer.GROUPS:
            if not all(_is_plain(getattr(getattr(layer, part), name)) for name in names):
                return False
    return True


def _is_plain(module: Any) -> bool:
    """Whether a projection is a matrix, in 4 bits or unquantised, with at most one LoRA adapter of the plain kind."""
    if len(getattr(module, "lora_A", ())) > 1 or getattr(module, "lora_variant", None) or getattr(module, "merged", False):
        return False
    base = getattr(module, "base_layer", module)
    if base.bias is not None or base.weight.device.type == "meta":
        return False
    return getattr(base.weight, "quant_state", None) is not None or base.weight.is_floating_point()


APART = {torch.float32: 2e-3, torch.bfloat16: 0.06, torch.float16: 0.02}  # of the logits' deviation from their mean


def expected(model: Any, ids: Sequence[int], device: torch.device) -> Tensor:
    """The library's own logits behind the last two tokens of a text."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    row = torch.tensor([list(ids)], device=device)
    logits: Tensor = causal(input_ids=row, use_cache=False, logits_to_keep=2).logits[0, -2:]
    return logits.float()


def apart(body: Body, cache: Cache, ids: Sequence[int], wanted: Tensor) -> float:
    """How far a body's logits lie from what is expected, as a share of its spread: behind a prompt, and a token more."""
    row = torch.tensor(list(ids), device=wanted.device)
    places = torch.arange(len(row), device=wanted.device)
    starts = torch.full_like(row, 0 if cache.moves else 1)
    last = len(row) - 1
    ends = torch.tensor([0, last], dtype=torch.int32, device=wanted.device)
    prompt = Prompts(Rows(ends, last), cache, starts[:-1], places[:-1])
    batch = Batch(starts[:2].int(), places[-1:].int(), len(row))
    found = [
        body(row[:-1], places[:-1], prompt, places[last - 1 : last]),
        body(row[-1:], places[-1:], Next(cache, batch, starts[:1], places[-1:]), None),
    ]
    ours = torch.cat(found).float()
    ours, wanted = (logits - logits.mean(-1, keepdim=True) for logits in (ours, wanted))
    return float((ours - wanted).norm() / wanted.norm().clamp(min=1e-12))
