"""A fused decoder layer: one function with a forward pass and a backward pass of its own, for a frozen base with LoRA.

The layers of Mistral, Llama and Gemma are the same but for two details, so one function serves them. Against the
library's own layers it multiplies q, k and v (gate and up) at once, adds the update in place, keeps no activation that
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

from medrecipes.engines import plan
from medrecipes.engines.kernels import pointwise, varlen_attention
from medrecipes.engines.kernels.projections import Projection
from medrecipes.engines.kernels.torch_private import copy_all
from medrecipes.engines.multi_gpu.shared_layers import Shards
from medrecipes.recipe.schema import Recipe

Way = Callable[[Tensor, Tensor, Tensor, varlen_attention.Rows], Tensor]
GROUPS = (
    ("self_attn", ("q_proj", "k_proj", "v_proj")),
    ("self_attn", ("o_proj",)),
    ("mlp", ("gate_proj", "up_proj")),
    ("mlp", ("down_proj",)),
)


@dataclass
class Layer:
    """What a layer is made of, and what it keeps."""

    norms: tuple[Tensor, Tensor]
    eps: float
    gemma: bool
    heads: int
    kv_heads: int
    scale: float
    window: int | None
    projections: tuple[Projection, ...]
    keep: bool  # all that is dear to make again, or the input alone
    lent: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)  # the matrices, for the way back

    @classmethod
    def of(
        cls, layer: Any, config: Any, dtype: torch.dtype, keep: bool,
        project: Callable[[Sequence[Any], torch.dtype], Projection] = Projection,
    ) -> Layer:  # fmt: skip
        """Read a layer of transformers, with peft's updates on it."""
        norms = (layer.input_layernorm, layer.post_attention_layernorm)
        return cls(
            norms=(norms[0].weight, norms[1].weight),
            eps=config.rms_norm_eps,
            gemma=config.model_type == "gemma",
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            scale=layer.self_attn.scaling,
            window=getattr(config, "sliding_window", None),
            projections=tuple(
                project([getattr(getattr(layer, part), name) for name in names], dtype) for part, names in GROUPS
            ),
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
            q, k, v, low_before = self.before(first, cos, sin)
            attended, lse = varlen_attention.attend(q, k, v, rows, self.scale, self.window)
            middle, low_middle = self.middle(x, attended)
            second = self.norm(middle, 1)
            both, low_both = self.both(second)
            out, low_down = self.projections[3].times(pointwise.run(pointwise.gate, both, self.gemma))
            out.add_(middle)
        kept = [q, k, v, low_before, attended, lse, middle, low_middle, both, low_both] if self.keep else []
        if self.keep and not x.is_cuda:  # where memory is to spare, and a norm takes as long as a product
            kept += [first, second]
        return out, [x, cos, sin, low_down, *kept]

    def back(
        self, grad: Tensor, kept: Sequence[Tensor], rows: varlen_attention.Rows, *, needs_x: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """The gradients of its input and of the updates' weights."""
        x, cos, sin, low_down, *kept = kept
        with torch.autocast(x.device.type, enabled=False), self.lent():
            if kept:
                q, k, v, low_before, attended, lse, middle, low_middle, both, low_both, *normed = kept
                del kept
            else:  # all but the last product
                normed = []
                q, k, v, low_before = self.before(self.norm(x, 0), cos, sin)
                attended, lse = varlen_attention.attend(q, k, v, rows, self.scale, self.window)
                middle, low_middle = self.middle(x, attended)
                both, low_both = self.both(self.norm(middle, 1))

            # what is done with is let go at once: the layer at work decides the peak
            before, across, gate, down = self.projections
            grad = grad.contiguous()
            d_product, low_grad = down.back([grad])
            d_gate, d_up, product = pointwise.run(pointwise.gate_back, d_product, both, self.gemma)
            d_down = down.back_updates([grad], low_grad, product, low_down)
            del d_product, both, product
            d_normed, low_grad = gate.back([d_gate, d_up])
            d_gates = gate.back_updates(
                [d_gate, d_up], low_grad, normed.pop() if normed else self.norm(middle, 1), low_both
            )
            del d_gate, d_up
            d_middle = self.norm_back(d_normed, middle, 1, grad)
            del d_normed, middle, grad
            d_attended, low_grad = across.back([d_middle])
            d_across = across.back_updates([d_middle], low_grad, attended.flatten(1), low_middle)
            assert d_attended is not None
            d_heads = varlen_attention.attend_back(
                d_attended.view_as(attended), q, k, v, attended, lse, rows, self.scale, self.window
            )
            del d_attended, q, k, v, attended, lse
            d_before = pointwise.run(pointwise.heads_back, *d_heads, cos, sin)
            del d_heads
            d_normed, low_grad = before.back([d_before], needs_x=needs_x)
            d_befores = before.back_updates(
                [d_before], low_grad, normed.pop() if normed else self.norm(x, 0), low_before
            )
            dx = self.norm_back(d_normed, x, 0, d_middle) if needs_x else None
        return dx, [*d_befores, *d_across, *d_gates, *d_down]

    # the steps of the way forth, each taken again on the way back where nothing of it was kept

    def before(self, normed: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values."""
        product, low = self.projections[0].times(normed)
        q, k, v = pointwise.run(pointwise.heads, product, cos, sin, self.heads, self.kv_heads)
        return q, k, v, low

    def middle(self, x: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """The stream after attention."""
        product, low = self.projections[1].times(attended.flatten(1))
        return product.add_(x), low

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
    return plan.unfit(recipe, model.config.model_type, cpu=cpu) or differs(model)


def differs(model: Any) -> str | None:
    """What a model has that the function does not; None where it is the same."""
    if model.config.model_type not in plan.FUSED_FAMILIES:
        return f"{model.config.model_type} layers are built otherwise"
    curve = torch.linspace(-4, 4, 33)
    wanted = pointwise.activate(curve, model.config.model_type == "gemma")
    if not torch.allclose(model.get_decoder().layers[0].mlp.act_fn(curve), wanted, atol=1e-6):
        return f"its activation is {getattr(model.config, 'hidden_act', 'another')}"
    names = {name for _, group in GROUPS for name in group}
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in names and getattr(module, "bias", None) is not None:
            return f"{name} has a bias"
    return None


@contextmanager
def layers(
    model: Any, dtype: torch.dtype, keep: Sequence[bool], *, decode_once: bool, shards: Shards | None = None,
    recorded: Callable[[Sequence[Layer]], Way] | None = None,
) -> Iterator[None]:  # fmt: skip
    """Inside, the model's layers train as the function above; answering and evaluating go the library's own way.

    `recorded` makes all of them one way, which the first then goes.
    """
    layers = list(model.get_base_model().model.layers)
    owns = [Layer.of(layer, model.config, dtype, kept) for layer, kept in zip(layers, keep, strict=True)]
    projections = [projection for own in owns for projection in own.projections]
    if shards:
        for number, own in enumerate(owns):
            own.lent = partial(shards.lent, number)
    if decode_once:
        for projection in projections:
            projection.decode()
    copies = [pair for projection in projections for pair in projection.copies]
    places, weights = [place for place, _ in copies], [weight for _, weight in copies]

    def refresh() -> None:
        with torch.no_grad():
            copy_all(places, weights)

    ways: list[Way] = [recorded(owns), *[_nothing] * (len(owns) - 1)] if recorded else list(owns)
    for number, (layer, way) in enumerate(zip(layers, ways, strict=True)):
        layer.forward = _forward(layer, way, layer.forward, (lambda: None) if number else refresh)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _nothing(x: Tensor, cos: Tensor, sin: Tensor, rows: varlen_attention.Rows) -> Tensor:
    """What is left to a layer whose work the first has done."""
    return x


def _forward(layer: Any, own: Way, library: Callable[..., Any], first: Callable[[], None]) -> Callable[..., Any]:
    def forward(hidden_states: Tensor, *values: Any, **named: Any) -> Any:
        if not layer.training or named.get("cu_seq_lens_q") is None:
            return library(hidden_states, *values, **named)
        first()
        cos, sin = named["position_embeddings"]
        causal = bool(getattr(layer.self_attn, "is_causal", True))
        rows = varlen_attention.Rows(named["cu_seq_lens_q"], named["max_length_q"], causal)
        return own(hidden_states, cos, sin, rows)

    return forward
