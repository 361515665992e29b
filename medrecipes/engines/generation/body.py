"""The model as generation runs it: tokens laid end to end go in, logits come out, and attention is told from outside.

`LibraryBody` is the base's own layers with the attention function exchanged; it serves every family whose attention goes
through transformers' `AttentionInterface`. `FusedBody` runs the fused layers where they fit. `agrees` holds either against
the library's plain forward before any answer is taken from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import AttentionInterface

from medrecipes.engines.generation.cache import Batch, Cache, attend_prompts
from medrecipes.engines.kernels import fused_layer, pointwise
from medrecipes.engines.kernels.projections import Projection, eight_bit_scales
from medrecipes.engines.kernels.torch_private import copy_all
from medrecipes.engines.kernels.varlen_attention import How, Rows
from medrecipes.engines.opening import without_peft
from medrecipes.engines.plan.dimensions import Shape

NAME = "medrecipes_generation"
Attend = Callable[[int, Tensor, Tensor, Tensor, How], Tensor]
Body = Callable[[Tensor, Tensor, Attend, Tensor | None], Tensor]


@dataclass(frozen=True)
class Prompts:
    """Attention of whole rows; keys and values are written to the cache, where there is one."""

    rows: Rows
    cache: Cache | None = None
    where: tuple[Tensor, ...] = ()

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """[tokens, heads, width] to the same."""
        if self.cache is not None:
            self.cache.put(layer, k, v, self.where)
        return attend_prompts(q, k, v, self.rows, how)


@dataclass(frozen=True)
class Next:
    """Attention of one more token a row over what the cache holds."""

    cache: Cache
    batch: Batch
    where: tuple[Tensor, ...]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """[rows, heads, width] to the same."""
        self.cache.put(layer, k, v, self.where)
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


@contextmanager
def _attending(attend: Attend) -> Iterator[None]:
    before, _Current.attend = _Current.attend, attend
    try:
        yield
    finally:
        _Current.attend = before


class LibraryBody:
    """The base's own layers."""

    def __init__(self, model: Any) -> None:
        self._causal = without_peft(model)

    def __call__(self, ids: Tensor, places: Tensor, attend: Attend, keep: Tensor | None) -> Tensor:
        """The logits behind the tokens `keep`, or behind all."""
        with _attending(attend):
            logits: Tensor = self._causal(
                input_ids=ids[None],
                position_ids=places[None],
                use_cache=False,
                logits_to_keep=0 if keep is None else keep,
            ).logits[0]
        return logits

    def stream(self, ids: Tensor, places: Tensor, attend: Attend) -> Tensor:
        """What stands behind the last layer, for each token."""
        with _attending(attend):
            hidden: Tensor = self._causal.model(input_ids=ids[None], position_ids=places[None], use_cache=False)[0][0]
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """What the base makes of its last layer, in fp32."""
        config = self._causal.config.get_text_config()
        found: Tensor = self._causal.lm_head(hidden).float()
        scale = _logit_scale(config)
        found = found if scale == 1 else found * scale
        cap = getattr(config, "final_logit_softcapping", None)
        return found if cap is None else cap * torch.tanh(found / cap)

    @property
    def vocabulary(self) -> int:
        """How many logits a token has."""
        return int(self._causal.config.get_text_config().vocab_size)

    @property
    def widths(self) -> int:
        """The numbers of a token's stream and of a perceptron."""
        shape = Shape.of(self._causal.config.to_dict())
        return shape.hidden + shape.inner

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside, the layers attend as they are told."""
        before = self._causal.config._attn_implementation
        self._causal.set_attn_implementation(NAME)
        try:
            yield
        finally:
            self._causal.set_attn_implementation(before)


MULTIPLIED, DIVIDED = ("logit_scale", "output_multiplier", "lm_head_multiplier"), "logits_scaling"


def _logit_scale(config: Any) -> float:
    """What a base multiplies its logits by: Cohere, Falcon-H1; Granite divides them."""
    for name in MULTIPLIED:
        if (found := getattr(config, name, None)) is not None:
            return float(found)
    divisor = getattr(config, DIVIDED, None)
    if divisor is None:
        return 1.0
    return float(divisor if config.model_type == "hyperclovax" else 1 / divisor)


class FusedBody:
    """The fused layers over weights that are decoded once, where memory allows."""

    def __init__(self, model: Any, dtype: torch.dtype, *, adapter: bool, decode: bool) -> None:
        self._causal = without_peft(model)
        self._inner = fused_layer.decoder(model)
        config = self._inner.config
        held: list[_Held] = []

        def project(modules: Sequence[Any], dtype: torch.dtype) -> Projection:
            own = modules if adapter else [getattr(m, "base_layer", m) for m in modules]
            held.append(_Held(own, dtype, decode=decode))
            return held[-1]

        self._layers = [
            fused_layer.Layer.of(layer, config, dtype, keep=False, project=project) for layer in self._inner.layers
        ]
        self._dtype = dtype
        self._across, self._down = held[1::4], held[3::4]
        copies = [pair for projection in held for pair in projection.copies]
        if copies:
            copy_all([place for place, _ in copies], [weight.detach() for _, weight in copies])

    def __call__(self, ids: Tensor, places: Tensor, attend: Attend, keep: Tensor | None) -> Tensor:
        """The logits behind the tokens `keep`, or behind all."""
        x = self._inner.embed_tokens(ids).to(self._dtype)
        cos, sin = (table[0] for table in fused_layer.tables(self._inner, x[None], places[None]))
        with torch.autocast(x.device.type, enabled=False):
            for number, layer in enumerate(self._layers):
                _, q, k, v, _ = layer.before(layer.norm(x, 0), cos, sin)
                attended = attend(number, q, k, v, layer.how)
                x = self._joined(layer, x, self._across[number], attended.flatten(1), 0)
                both, _ = layer.both(layer.norm(x, 1))
                x = self._joined(layer, x, self._down[number], pointwise.run(pointwise.gate, both, layer.gemma), 1)
            x = layer.norm_by(self._inner.norm.weight, x)
        logits: Tensor = self._causal.lm_head(x if keep is None else x[keep])
        if (cap := getattr(self._inner.config, "final_logit_softcapping", None)) is not None:
            logits = torch.tanh(logits / cap) * cap
        return logits

    @staticmethod
    def _joined(layer: fused_layer.Layer, x: Tensor, projection: _Held, values: Tensor, which: int) -> Tensor:
        """The stream with what a block makes of these values."""
        if layer.after is None:
            projection.onto(x, values)
            return x
        return layer.onto(x, projection.times(values)[0], which)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Nothing has to be exchanged."""
        yield


class _Held(Projection):
    """A projection that answers: unquantised matrices that multiply the same input are multiplied one by one, not stacked anew."""

    def decode(self) -> None:
        """Hold quantised weights decoded; others stay where they are, for captured training steps read them there."""
        if self.quantised:
            self.decoded = self.weight()

    def times(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x times weights and updates; the second is of no use here."""
        if self.decoded is not None or self.quantised or len(self.bases) == 1:
            out = linear(x, self.weight(), self.bias)
        else:
            biases = [None] * len(self.bases) if self.bias is None else self.bias.split(self._rows)
            parts = [linear(x, base.to(self.dtype), bias) for base, bias in zip(self.bases, biases, strict=True)]
            out = torch.cat(parts, dim=-1)
        if not self.blocks:
            return out, out
        low = x @ self.a.t()
        return out.addmm_(low, self.b.t(), alpha=self.scale), low

    def onto(self, stream: Tensor, x: Tensor) -> None:
        """Add x times weights and updates to the stream, in place."""
        stream.addmm_(x, self.weight().t())
        if self.bias is not None:
            stream.add_(self.bias)
        if self.blocks:
            stream.addmm_(x @ self.a.t(), self.b.t(), alpha=self.scale)


def fits_fused(model: Any, dtype: torch.dtype) -> bool:
    """Whether the fused layers can answer for this model as it is loaded."""
    causal = without_peft(model)
    if dtype not in (torch.bfloat16, torch.float16, torch.float32) or fused_layer.differs(causal):
        return False
    modules = (one for layer in fused_layer.decoder(causal).layers for one in chain(*fused_layer.projections(layer)))
    return all(map(_is_plain, modules))


def _is_plain(module: Any) -> bool:
    """Whether a projection is a matrix, in 4, 8 or 16 bits, with at most one LoRA adapter of the plain kind."""
    if (
        len(getattr(module, "lora_A", ())) > 1
        or getattr(module, "lora_variant", None)
        or getattr(module, "merged", False)
    ):
        return False
    base = getattr(module, "base_layer", module)
    if base.weight.device.type == "meta":
        return False
    packed = getattr(base.weight, "quant_state", None) is not None or eight_bit_scales(base) is not None
    return packed or base.weight.is_floating_point()


APART = {torch.float32: 2e-3, torch.bfloat16: 0.1, torch.float16: 0.03}  # of the logits' deviation from their mean


def expected(model: Any, ids: Sequence[int], device: torch.device) -> Tensor:
    """The library's own logits behind the first half of a text and a token more, and behind the last two tokens."""
    causal = without_peft(model)
    half, row = len(ids) // 2, torch.tensor([list(ids)], device=device)
    keep = torch.tensor([half - 1, half, len(ids) - 2, len(ids) - 1], device=device)
    logits: Tensor = causal(input_ids=row, use_cache=False).logits[0, keep]
    return logits.float()


def head_apart(body: LibraryBody, ids: Sequence[int], wanted: Tensor) -> float:
    """How far logits made of the last layer lie from what is expected, as `apart`."""
    row = torch.tensor(list(ids), device=wanted.device)
    ends = torch.tensor([0, len(row)], device=wanted.device).int()
    half, places = len(row) // 2, torch.arange(len(row), device=wanted.device)
    hidden = body.stream(row, places, Prompts(Rows(ends, len(row))))
    return _share(body.logits(hidden[[half - 1, half, len(row) - 2, len(row) - 1]]), wanted)


def apart(body: Body, cache: Cache, ids: Sequence[int], wanted: Tensor) -> float:
    """How far a body's logits lie from what is expected, as a share of their spread: two rows at once, and a token more of each."""
    row = torch.tensor(list(ids), device=wanted.device)
    half, last = len(row) // 2, len(row) - 1

    def whole(*values: int) -> Tensor:
        return torch.tensor(values, device=wanted.device)

    starts = whole(0, 1) if cache.moves else whole(1, 1 + len(row))
    places = torch.cat([torch.arange(half, device=wanted.device), torch.arange(last, device=wanted.device)])
    where = cache.where(starts.repeat_interleave(whole(half, last)), places)
    prompts = Prompts(Rows(whole(0, half, half + last).int(), last), cache, where)
    ends = whole(half, last)
    batch = Batch(torch.cat([starts, starts[:1]]).int(), ends.int() + 1, len(row))
    first = body(torch.cat([row[:half], row[:last]]), places, prompts, whole(half - 1, half + last - 1))
    second = body(row[ends], ends, Next(cache, batch, cache.where(starts, ends)), None)
    return _share(torch.stack([first[0], second[0], first[1], second[1]]).float(), wanted)


def _share(ours: Tensor, wanted: Tensor) -> float:
    """How far logits lie apart, as a share of their spread."""
    ours, wanted = (logits - logits.mean(-1, keepdim=True) for logits in (ours, wanted))
    return float((ours - wanted).norm() / wanted.norm().clamp(min=1e-12))
