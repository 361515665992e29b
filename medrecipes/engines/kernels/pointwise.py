"""What lies between a layer's matrix products: written plainly, fused by the compiler on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor


def norm(x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (scaled * (1.0 + weight.float())).to(x.dtype) if gemma else weight * scaled.to(x.dtype)


def norm_back(grad: Tensor, x: Tensor, weight: Tensor, eps: float, gemma: bool, residual: Tensor) -> Tensor:
    """The gradient of the norm's input, with what reached it past the norm."""
    wide = x.float()
    rate = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    unit = wide * rate
    out = grad.float() * ((1.0 + weight.float()) if gemma else weight.float())
    return (residual.float() + rate * (out - unit * (out * unit).mean(-1, keepdim=True))).to(x.dtype)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions; with the sine's sign changed, their inverse."""
    wide, half = x.float(), x.shape[-1] // 2
    swapped = torch.cat((-wide[..., half:], wide[..., :half]), dim=-1)
    return (wide * cos.float()[:, None] + swapped * sin.float()[:, None]).to(x.dtype)


def heads(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The one product cut into turned queries, turned keys and values."""
    tokens = qkv.shape[0]
    q, k, v = qkv.view(tokens, heads + 2 * kv_heads, -1).split((heads, kv_heads, kv_heads), dim=1)
    return _turn(q, cos, sin), _turn(k, cos, sin), v.contiguous()


def heads_back(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.cat((_turn(dq, cos, -sin), _turn(dk, cos, -sin), dv), dim=1).flatten(1)


def gate(both: Tensor, gemma: bool) -> Tensor:
    gate, up = both.float().chunk(2, dim=-1)
    return (activate(gate, gemma) * up).to(both.dtype)


def gate_back(grad: Tensor, both: Tensor, gemma: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of gate and up, and the product itself once more."""
    gate, up = both.float().chunk(2, dim=-1)
    out = grad.float()
    active = activate(gate, gemma)
    backward = torch.ops.aten.gelu_backward if gemma else torch.ops.aten.silu_backward
    gate_grad = backward(out * up, gate, approximate="tanh") if gemma else backward(out * up, gate)
    return gate_grad.to(both.dtype), (out * active).to(both.dtype), (active * up).to(both.dtype)


def activate(gate: Tensor, gemma: bool) -> Tensor:
    """What stands between gate and up."""
    return torch.nn.functional.gelu(gate, approximate="tanh") if gemma else torch.nn.functional.silu(gate)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(function)
    return compiled


def run(function: Callable[..., Any], *values: Any) -> Any:
    """Compiled on a GPU, as written on a CPU."""
    return (_compiled(function) if values[0].is_cuda else function)(*values)
