"""A fused decoder layer: one function with a forward pass and a backward pass of its own, for a frozen base with LoRA.

The decoder layers of most families differ in a few traits alone, read off the layer: norms of queries and keys, norms
behind attention and perceptron, biases, windows, which numbers turn with the position. One function serves them all.
Against the library's own layers it multiplies q, k and v (gate and up) at once, adds the update in place, keeps no activation that
is cheap to make again, and computes no gradient of a frozen weight. What it keeps for the backward pass is chosen layer
by layer, which is what checkpointing is here. On padding-free rows; tests hold it equal to the library's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecipes.engines import plan
from medrecipes.engines.kernels import capped_attention, pointwise, varlen_attention
from medrecipes.engines.kernels.projections import Projection
from medrecipes.engines.kernels.torch_private import copy_all
from medrecipes.engines.multi_gpu.shared_layers import Shards
from medrecipes.engines.opening import without_peft
from medrecipes.recipe.schema import Recipe

Way = Callable[[Tensor, Tensor, Tensor, varlen_attention.Rows], Tensor]


@dataclass(frozen=True)
class Found:
    """What the first layer found out about a forward pass for all of them."""

    cos: Tensor
    sin: Tensor
    rows: varlen_attention.Rows
    tokens: int  # that are no filling


# the projections of a layer in the order of their use: apart, or as one where the base has them so (Phi)
GROUPS = (
    (("q_proj", "k_proj", "v_proj"), ("qkv_proj",)),
    (("o_proj",),),
    (("gate_proj", "up_proj"), ("gate_up_proj",)),
    (("down_proj",),),
)


def projections(layer: Any) -> list[list[Any]]:
    """The modules of a layer that multiply the same input, in the order of their use."""
    parts = (layer.self_attn, layer.self_attn, layer.mlp, layer.mlp)
    return [
        [getattr(part, name) for name in next(names for names in ways if hasattr(part, names[0]))]
        for part, ways in zip(parts, GROUPS, strict=True)
    ]


@dataclass
class Layer:
    """What a layer is made of, and what it keeps."""

    norms: tuple[Tensor, Tensor]  # before attention and before the perceptron
    after: tuple[Tensor, Tensor] | None  # of what attention and the perceptron make
    head_norms: tuple[Tensor, Tensor] | None  # of each query and each key
    eps: float
    gemma: bool  # norms count from one, and GELU stands in the perceptron
    turns: slice | None  # which part of the tables of positions turns its heads; None: none does
    heads: int
    kv_heads: int
    how: varlen_attention.How
    projections: tuple[Projection, ...]
    keep: bool  # all that is dear to make again, or the input alone
    lent: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)  # the matrices, for the way back

    @classmethod
    def of(
        cls, layer: Any, config: Any, dtype: torch.dtype, keep: bool,
        project: Callable[[Sequence[Any], torch.dtype], Projection] = Projection,
    ) -> Layer:  # fmt: skip
        """Read a layer of transformers, with peft's updates on it."""
        attention = layer.self_attn
        sandwich = hasattr(layer, "pre_feedforward_layernorm")
        second = layer.pre_feedforward_layernorm if sandwich else layer.post_attention_layernorm
        behind = (layer.post_attention_layernorm, layer.post_feedforward_layernorm) if sandwich else None
        return cls(
            norms=(layer.input_layernorm.weight, second.weight),
            after=(behind[0].weight, behind[1].weight) if behind else None,
            head_norms=(attention.q_norm.weight, attention.k_norm.weight) if hasattr(attention, "q_norm") else None,
            eps=config.rms_norm_eps,
            gemma=_is_gemma(config),
            turns=_turns(attention, config),
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            how=varlen_attention.How(
                attention.scaling,
                getattr(attention, "sliding_window", getattr(config, "sliding_window", None)),
                getattr(config, "attn_logit_softcapping", None),
            ),
            projections=tuple(project(modules, dtype) for modules in projections(layer)),
            keep=keep,
        )

    @property
    def parameters(self) -> list[Tensor]:
        """The updates' weights."""
        return [weight for projection in self.projections for weight in projection.parameters]

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, rows: varlen_attention.Rows) -> Tensor:
        out: Tensor = _Function.apply(self, rows, x[0], cos[0], sin[0], *self.parameters)
        return out[None]

    def forth(self, x: Tensor, cos: Tensor, sin: Tensor, rows: varlen_attention.Rows) -> tuple[Tensor, list[Tensor]]:
        """What the layer makes of its input, and what it keeps for the way back."""
        with torch.autocast(x.device.type, enabled=False):
            first = self.norm(x, 0)
            heads, q, k, v, low_before = self.before(first, cos, sin)
            attended, lse = varlen_attention.attend(q, k, v, rows, self.how)
            made, low_middle = self.projections[1].times(attended.flatten(1))
            middle = self.onto(x, made, 0)
            second = self.norm(middle, 1)
            both, low_both = self.both(second)
            product, low_down = self.projections[3].times(pointwise.run(pointwise.gate, both, self.gemma))
            out = self.onto(middle, product, 1)
        last = [product] if self.after else []  # which is made neither again nor of anything that is kept
        kept = []
        if self.keep:
            kept = [q, k, v] if heads is None else [heads]
            kept += [low_before, attended, lse, middle, low_middle, both, low_both, *([made] if self.after else [])]
            if not x.is_cuda:  # where memory is to spare, and a norm takes as long as a product
                kept += [first, second]
        return out, [x, cos, sin, low_down, *last, *kept]

    def back(
        self, grad: Tensor, kept: Sequence[Tensor], rows: varlen_attention.Rows, *, needs_x: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """The gradients of its input and of the updates' weights."""
        x, cos, sin, low_down, *kept = kept
        made = heads = None
        kept = list(kept)
        with torch.autocast(x.device.type, enabled=False), self.lent():
            last = kept.pop(0) if self.after else None
            if kept:
                if self.head_norms:
                    heads, *kept = kept
                    q, k, v = self.turned(heads, cos, sin)
                else:
                    q, k, v, *kept = kept
                low_before, attended, lse, middle, low_middle, both, low_both, *normed = kept
                made = normed.pop(0) if self.after else None
                del kept
            else:  # all but the last product
                normed = []
                heads, q, k, v, low_before = self.before(self.norm(x, 0), cos, sin)
                attended, lse = varlen_attention.attend(q, k, v, rows, self.how)
                made, low_middle = self.projections[1].times(attended.flatten(1))
                middle = self.onto(x, made, 0)
                both, low_both = self.both(self.norm(middle, 1))

            # what is done with is let go at once: the layer at work decides the peak
            before, across, gate, down = self.projections
            grad = grad.contiguous()
            d_last = self.behind_back(grad, last, 1)
            del last
            d_product, low_grad = down.back([d_last])
            d_gate, d_up, product = pointwise.run(pointwise.gate_back, d_product, both, self.gemma)
            d_down = down.back_updates([d_last], low_grad, product, low_down)
            del d_product, both, product, d_last
            d_normed, low_grad = gate.back([d_gate, d_up])
            d_gates = gate.back_updates(
                [d_gate, d_up], low_grad, normed.pop() if normed else self.norm(middle, 1), low_both
            )
            del d_gate, d_up
            d_middle = self.norm_back(d_normed, middle, 1, grad)
            del d_normed, middle, grad
            d_made = self.behind_back(d_middle, made, 0)
            del made
            d_attended, low_grad = across.back([d_made])
            d_across = across.back_updates([d_made], low_grad, attended.flatten(1), low_middle)
            assert d_attended is not None
            del d_made
            d_heads = varlen_attention.attend_back(
                d_attended.view_as(attended), (q, k, v, attended, lse), rows, self.how
            )
            del d_attended, q, k, v, attended, lse
            d_before = self.turned_back(d_heads, heads, cos, sin)
            del d_heads, heads
            d_normed, low_grad = before.back([d_before], needs_x=needs_x)
            d_befores = before.back_updates(
                [d_before], low_grad, normed.pop() if normed else self.norm(x, 0), low_before
            )
            dx = self.norm_back(d_normed, x, 0, d_middle) if needs_x else None
        return dx, [*d_befores, *d_across, *d_gates, *d_down]

    # the steps of the way forth, each taken again on the way back where nothing of it was kept

    def before(self, normed: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values; first as one product, where their norms want it on the way back."""
        product, low = self.projections[0].times(normed)
        return product if self.head_norms else None, *self.turned(product, cos, sin), low

    def turned(self, product: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, normed where these are and turned by their positions, and values."""
        cos, sin = self._tables(cos, sin)
        counts = self.heads, self.kv_heads
        found: tuple[Tensor, Tensor, Tensor]
        if self.head_norms is None:
            found = pointwise.run(pointwise.heads, product, cos, sin, *counts)
        else:
            how = self.eps, self.gemma
            found = pointwise.run(pointwise.heads_normed, product, cos, sin, counts, self.head_norms, how)
        return found

    def turned_back(
        self, grads: tuple[Tensor, Tensor, Tensor], product: Tensor | None, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """The gradient of that product."""
        cos, sin = self._tables(cos, sin)
        found: Tensor
        if self.head_norms is None:
            found = pointwise.run(pointwise.heads_back, *grads, cos, sin)
        else:
            turned = pointwise.run(pointwise.turned_back, *grads[:2], cos, sin)
            how = self.eps, self.gemma
            found = pointwise.run(pointwise.heads_normed_back, (*turned, grads[2]), product, self.head_norms, how)
        return found

    def _tables(self, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        if self.turns is None:
            return torch.ones_like(cos), torch.zeros_like(sin)
        return cos[:, self.turns], sin[:, self.turns]

    def onto(self, stream: Tensor, product: Tensor, which: int) -> Tensor:
        """The stream after attention or after the perceptron, whose product is used up where nothing norms it."""
        if self.after is None:
            return product.add_(stream)
        added: Tensor = pointwise.run(pointwise.norm_added, product, self.after[which], self.eps, self.gemma, stream)
        return added

    def behind_back(self, grad: Tensor, product: Tensor | None, which: int) -> Tensor:
        """The gradient of what attention or the perceptron made."""
        if self.after is None:
            return grad
        before: Tensor = pointwise.run(
            pointwise.norm_back, grad, product, self.after[which], self.eps, self.gemma, None
        )
        return before

    def both(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """Gate and up."""
        return self.projections[2].times(normed)

    def norm(self, x: Tensor, which: int) -> Tensor:
        """The first or the second norm."""
        return self.norm_by(self.norms[which], x)

    def norm_by(self, weight: Tensor, x: Tensor) -> Tensor:
        """A norm of this kind with these weights."""
        normed: Tensor = pointwise.run(pointwise.norm, x, weight, self.eps, self.gemma)
        return normed

    def norm_back(self, grad: Tensor | None, x: Tensor, which: int, residual: Tensor) -> Tensor:
        """The gradient before a norm, with what went past it."""
        before: Tensor = pointwise.run(pointwise.norm_back, grad, x, self.norms[which], self.eps, self.gemma, residual)
        return before


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: Layer, rows: varlen_attention.Rows, x: Tensor, cos: Tensor, sin: Tensor, *weights: Tensor) -> Tensor:  # fmt: skip
        out, kept = layer.forth(x, cos, sin, rows)
        ctx.layer, ctx.rows = layer, rows
        ctx.save_for_backward(*kept)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        dx, found = ctx.layer.back(grad, ctx.saved_tensors, ctx.rows, needs_x=ctx.needs_input_grad[2])
        return (None, None, dx, None, None, *found)


# --- putting it on a model ------------------------------------------------------------------------------------------------


def unfit(model: Any, recipe: Recipe, *, cpu: bool = False) -> str | None:
    """Why a model's layers cannot be replaced; None when they can."""
    return plan.unfit(recipe, decoder(model).config.model_type, cpu=cpu) or differs(model)


def differs(model: Any) -> str | None:
    """What a model has that the function does not; None where it is the same."""
    inner = decoder(model)
    config, first = inner.config, inner.layers[0]
    if config.model_type not in plan.FUSED_FAMILIES:
        return f"{config.model_type} layers are built otherwise"
    curve = torch.linspace(-4, 4, 33)
    function = getattr(first.mlp, "act_fn", None) or first.mlp.activation_fn
    if not torch.allclose(function(curve), pointwise.activate(curve, _is_gemma(config)), atol=1e-6):
        return f"its activation is {getattr(config, 'hidden_act', 'another')}"
    return None


def decoder(model: Any) -> Any:
    """The decoder of a model, its layers and what turns positions into tables; of one that sees, that of its language half."""
    causal = without_peft(model)
    found = causal.get_decoder()
    return found if hasattr(found, "layers") else causal.model


def tables(inner: Any, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions; of a base whose kinds of layers turn differently, those of all kinds side by side."""
    found = [inner.rotary_emb(x, places, kind) for kind in _kinds(inner.config)] or [inner.rotary_emb(x, places)]
    if len(found) == 1:
        only: tuple[Tensor, Tensor] = found[0]
        return only
    return torch.cat([cos for cos, _ in found], dim=-1), torch.cat([sin for _, sin in found], dim=-1)


def _kinds(config: Any) -> list[str]:
    """The kinds of layers that have a turning of their own."""
    parameters = getattr(config, "rope_parameters", None) or {}
    return sorted(kind for kind in set(getattr(config, "layer_types", None) or ()) if kind in parameters)


def _turns(attention: Any, config: Any) -> slice | None:
    if not getattr(attention, "use_rope", True):
        return None
    kinds = _kinds(config)
    if not kinds:
        return slice(None)
    place, width = kinds.index(attention.layer_type), config.head_dim
    return slice(place * width, (place + 1) * width)


def _is_gemma(config: Any) -> bool:
    return str(config.model_type).startswith("gemma")


@contextmanager
def layers(
    model: Any, dtype: torch.dtype, keep: Sequence[bool], *, project: Callable[..., Projection] = Projection,
    shards: Shards | None = None, recorded: Callable[[Sequence[Layer], Callable[[], None]], Way] | None = None,
) -> Iterator[None]:  # fmt: skip
    """Inside, the model's layers train as the function above; answering and evaluating go the library's own way.

    `project` makes the projections; `recorded` makes of all layers, and of what copies the updates' weights to their places
    before each pass, one way, which the first then goes.
    """
    inner = decoder(model)
    layers = list(inner.layers)
    owns = [Layer.of(layer, inner.config, dtype, kept, project) for layer, kept in zip(layers, keep, strict=True)]
    projections = [projection for own in owns for projection in own.projections]
    if shards:
        for number, own in enumerate(owns):
            own.lent = partial(shards.lent, number)
    copies = [pair for projection in projections for pair in projection.copies]
    # places that are cut out of others are copied by a kernel each, and would have the others copied so too
    whole = [pair for pair in copies if pair[0].is_contiguous()]
    cut = [pair for pair in copies if not pair[0].is_contiguous()]
    groups = [([place for place, _ in some], [weight for _, weight in some]) for some in (whole, cut) if some]

    def refresh() -> None:
        with torch.no_grad():
            for places, weights in groups:
                copy_all(places, weights)

    ways: list[Way] = [recorded(owns, refresh), *[_nothing] * (len(owns) - 1)] if recorded else list(owns)
    several = bool(_kinds(inner.config))
    found: list[Found] = []

    def begin(layer: Any, x: Tensor, named: dict[str, Any]) -> Tensor:
        """What the first layer does for all."""
        # worked out here where the library has a table a kind of layer
        turns = tables(inner, x, named["position_ids"]) if several else named["position_embeddings"]
        causal = bool(getattr(layer.self_attn, "is_causal", True))
        rows = varlen_attention.Rows(named["cu_seq_lens_q"], named["max_length_q"], causal)
        # capped scores are computed by whole blocks, to which each layer would fill up anew
        tokens = x.shape[1]
        short = -tokens % capped_attention.BLOCK if owns[0].how.cap and x.is_cuda else 0
        x, cos, sin = (pad(tensor, (0, 0, 0, short)) if short else tensor for tensor in (x, *turns))
        found[:] = [Found(cos, sin, rows, tokens)]
        if not recorded:
            refresh()
        return x

    for layer, way in zip(layers, ways, strict=True):
        layer.forward = _forward(layer, way, found, begin if layer is layers[0] else None, last=layer is layers[-1])
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _nothing(x: Tensor, cos: Tensor, sin: Tensor, rows: varlen_attention.Rows) -> Tensor:
    """What is left to a layer whose work the first has done."""
    return x


def _forward(
    layer: Any, own: Way, found: Sequence[Found], begin: Callable[[Any, Tensor, dict[str, Any]], Tensor] | None, *, last: bool
) -> Callable[..., Any]:  # fmt: skip
    library = layer.forward

    def forward(hidden_states: Tensor, *values: Any, **named: Any) -> Any:
        if not layer.training or named.get("cu_seq_lens_q") is None:
            return library(hidden_states, *values, **named)
        if begin:
            hidden_states = begin(layer, hidden_states, named)
        here = found[0]
        out = own(hidden_states, here.cos, here.sin, here.rows)
        return out[:, : here.tokens] if last and out.shape[1] != here.tokens else out

    return forward
