"""Weights while answers are generated: 4-bit ones decoded once where memory allows, LoRA applied in one function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from medrecipes.engines.kernels.projections import decode_weight


@contextmanager
def prepared(model: Any, dtype: torch.dtype, *, adapter: bool, decode: bool) -> Iterator[None]:
    """Inside, the linear layers of a model answer quicker and say the same; afterwards they are what they were."""
    changed: list[Any] = []
    try:
        for module in list(model.modules()):
            if forward := _forward(module, dtype, adapter=adapter, decode=decode):
                module.forward = forward
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def _forward(module: Any, dtype: torch.dtype, *, adapter: bool, decode: bool) -> Callable[..., Tensor] | None:
    """A quicker forward pass of a module; None where its own is as quick, or is not known."""
    if hasattr(module, "lora_A"):
        return _lora(module, dtype, decode=decode) if adapter and _is_plain(module) else None
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    if not decode or state is None or not isinstance(module, torch.nn.Linear) or "forward" in vars(module):
        return None
    weight, bias = _decoded(module, dtype), module.bias

    def forward(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return linear(x.to(dtype), weight, None if bias is None else bias.to(dtype))

    return forward


def _is_plain(module: Any) -> bool:
    """Whether peft would add nothing but one plain product to the base's."""
    names = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or module.merged or len(names) != 1 or names[0] in getattr(module, "lora_variant", {}):
        return False
    down, up = module.lora_A[names[0]], module.lora_B[names[0]]
    if not isinstance(down, torch.nn.Linear) or not isinstance(module.base_layer, torch.nn.Linear):
        return False
    return down.weight.is_cuda and "forward" not in vars(module) and up.bias is None


def _lora(module: Any, dtype: torch.dtype, *, decode: bool) -> Callable[..., Tensor]:
    [name] = [name for name in module.active_adapters if name in module.lora_A]
    down = module.lora_A[name].weight.detach().to(dtype)
    up = (module.lora_B[name].weight.detach().float() * module.scaling[name]).to(dtype).t().contiguous()
    inner = module.base_layer
    weight = _decoded(inner, dtype) if decode and getattr(inner.weight, "quant_state", None) is not None else None
    bias = inner.bias

    def forward(x: Tensor, *_: Any, **__: Any) -> Tensor:
        flat = x.to(dtype).flatten(0, -2)
        if weight is not None:
            out = linear(flat, weight, None if bias is None else bias.to(dtype))
        else:
            out = inner(flat).to(dtype)
        return out.addmm_(linear(flat, down), up).view(*x.shape[:-1], -1)

    return forward


def _decoded(module: Any, dtype: torch.dtype) -> Tensor:
    return decode_weight(module.weight, module.weight.quant_state).to(dtype)
