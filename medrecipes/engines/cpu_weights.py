"""A 4-bit base on a CPU: its NF4 weights decoded once after loading, and LoRA added to them in one function a layer."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft.tuners import lora
from torch import Tensor

from medrecipes.engines import Choice
from medrecipes.engines.choices import DECODED, UNDECODED
from medrecipes.engines.plan.dimensions import Shape
from medrecipes.engines.plan.memory import GB, free_memory

ROOM = 0.5  # the share of the free memory that decoded weights may take; training wants the rest

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them
KEPT = 2**30


class Decoded(torch.nn.Linear):
    """A layer whose weight holds the values that NF4 stands for."""

    @classmethod
    def of(cls, quantised: Linear4bit, dtype: torch.dtype) -> Decoded:
        """The same layer with its weight decoded."""
        layer = cls(quantised.in_features, quantised.out_features, bias=False, device="meta")
        values = dequantize_4bit(quantised.weight.data, quantised.weight.quant_state)
        layer.weight = torch.nn.Parameter(values.to(dtype), requires_grad=False)
        layer.bias = quantised.bias
        return layer


def choose_weights(config: Mapping[str, Any], dtype: torch.dtype, free_gb: float | None = None) -> Choice:
    """Whether memory allows to decode all 4-bit weights once."""
    free = free_memory() / GB if free_gb is None else free_gb
    needs = Shape.of(config).matrices * dtype.itemsize / GB
    told = f"{needs:.1f} GB decoded, {free:.1f} GB of memory free"
    return Choice(DECODED if needs <= ROOM * free else UNDECODED, told)


def decode(model: Any, dtype: torch.dtype) -> None:
    """Put each 4-bit layer's decoded weight in its place; from then on the base is an ordinary one."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Linear4bit):
                setattr(parent, name, Decoded.of(child, dtype))
    # what transformers, TRL and peft ask to know whether layers are quantised
    model.is_loaded_in_4bit = model.is_quantized = False
    for name in ("hf_quantizer", "quantization_method"):
        vars(model).pop(name, None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # one position of many is not contiguous, and torch would copy the head's weights once a row to multiply with it
    model.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: given back after every layer, the kernel would hand out each page anew, zeroed, which
    costs a fifth of a training step."""
    with suppress(AttributeError, OSError):  # another libc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT)


class _Added(torch.autograd.Function):
    """x·W + s·(x·A)·B, the LoRA part added in place, in the number format of the base; gradients of A and B in their own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        ctx.shape, ctx.scale, ctx.given = x.shape, scale, a.dtype
        x, a, b = x.reshape(-1, x.shape[-1]), a.to(x.dtype), b.to(x.dtype)
        out, inner = x @ weight.t(), x @ a.t()
        out.addmm_(inner, b.t(), alpha=scale)
        ctx.save_for_backward(x, weight, a, b, inner)
        return out.view(*ctx.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, weight, a, b, inner = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        back = (grad @ b).mul_(ctx.scale)
        of_a, of_b = back.t() @ x, grad.t() @ inner
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (grad @ weight).addmm_(back, a).view(ctx.shape)
        return of_x, None, of_a.to(ctx.given), of_b.to(ctx.given).mul_(ctx.scale), None


class AddedLinear(lora.Linear):
    """peft's LoRA layer on a decoded weight: the plain case in one function, every other one as peft does it."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output, as peft's own forward gives it."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if self.disable_adapters or self.merged or args or kwargs or len(active) != 1 or not self._is_plain(active[0]):
            given: Tensor = super().forward(x, *args, **kwargs)
            return given
        [name] = active
        out: Tensor = _Added.apply(
            x, self.base_layer.weight, self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
        )
        return out

    def _is_plain(self, name: str) -> bool:
        drops = self.training and not isinstance(self.lora_dropout[name], torch.nn.Identity)
        biased = self.base_layer.bias is not None or self.lora_B[name].bias is not None
        return not (drops or biased or name in self.lora_variant)


def add_in_place(model: Any) -> Any:
    """Give the LoRA layers on decoded weights their one function; a model without such stays as it is."""
    for module in model.modules():
        if type(module) is lora.Linear and isinstance(module.base_layer, Decoded):
            module.__class__ = AddedLinear
    return model
