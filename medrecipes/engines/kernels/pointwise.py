"""What lies between a layer's matrix products: written plainly, fused by the compiler on a GPU; and for a CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from medrecipes.core.notes import note
from medrecipes.engines.kernels import torch_private


def norm(x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (scaled * (1.0 + weight.float())).to(x.dtype) if gemma else weight * scaled.to(x.dtype)


def norm_back(grad: Tensor, x: Tensor, weight: Tensor, eps: float, gemma: bool, residual: Tensor | None) -> Tensor:
    """The gradient of the norm's input, with what reached it past the norm, if anything did."""
    wide = x.float()
    rate = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    unit = wide * rate
    out = grad.float() * ((1.0 + weight.float()) if gemma else weight.float())
    found = rate * (out - unit * (out * unit).mean(-1, keepdim=True))
    return (found if residual is None else residual.float() + found).to(x.dtype)


def norm_added(x: Tensor, weight: Tensor, eps: float, gemma: bool, residual: Tensor) -> Tensor:
    """A norm of what a block makes, added to what went past the block."""
    return residual + norm(x, weight, eps, gemma)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, of the first numbers of a head where not all turn; with the sine's sign changed, their inverse."""
    turned = cos.shape[-1]
    wide, half = x[..., :turned].float(), turned // 2
    swapped = torch.cat((-wide[..., half:], wide[..., :half]), dim=-1)
    out = (wide * cos.float()[:, None] + swapped * sin.float()[:, None]).to(x.dtype)
    return out if turned == x.shape[-1] else torch.cat((out, x[..., turned:]), dim=-1)


def heads(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The one product cut into turned queries, turned keys and values."""
    tokens = qkv.shape[0]
    q, k, v = qkv.view(tokens, heads + 2 * kv_heads, -1).split((heads, kv_heads, kv_heads), dim=1)
    return _turn(q, cos, sin), _turn(k, cos, sin), v.contiguous()


def heads_back(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.cat((_turn(dq, cos, -sin), _turn(dk, cos, -sin), dv), dim=1).flatten(1)


def heads_normed(
    qkv: Tensor, cos: Tensor, sin: Tensor, counts: tuple[int, int], norms: tuple[Tensor, Tensor], how: tuple[float, bool]
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same with a norm of each query and each key before it turns; `how`: its eps, and whether it is Gemma's."""
    tokens, (heads, kv_heads) = qkv.shape[0], counts
    q, k, v = qkv.view(tokens, heads + 2 * kv_heads, -1).split((heads, kv_heads, kv_heads), dim=1)
    q, k = norm(q, norms[0], *how), norm(k, norms[1], *how)
    return _turn(q, cos, sin), _turn(k, cos, sin), v.contiguous()


def turned_back(dq: Tensor, dk: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of queries and keys before they turned.

    A function of its own: joined with the norms, the compiler makes one kernel that writes these gradients to memory and reads
    them again with no barrier between. Another thread may read before they are written.
    """
    return _turn(dq, cos, -sin), _turn(dk, cos, -sin)


def heads_normed_back(
    grads: tuple[Tensor, Tensor, Tensor], qkv: Tensor, norms: tuple[Tensor, Tensor], how: tuple[float, bool]
) -> Tensor:
    """The gradient of the one product by those of its parts, before they turned."""
    dq, dk, dv = grads
    heads, kv_heads = dq.shape[1], dk.shape[1]
    q, k, _ = qkv.view(qkv.shape[0], heads + 2 * kv_heads, -1).split((heads, kv_heads, kv_heads), dim=1)
    return torch.cat(
        (norm_back(dq, q, norms[0], *how, None), norm_back(dk, k, norms[1], *how, None), dv), dim=1
    ).flatten(1)


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


def eight_bit(*parts: Tensor) -> tuple[Tensor, Tensor]:
    """Tensors side by side, rounded to e4m3 with one scale a row, and these scales."""
    wide = [part.float() for part in parts]
    most = torch.stack([part.abs().amax(-1) for part in wide]).amax(0) if len(wide) > 1 else wide[0].abs().amax(-1)
    scales = (most / E4M3).clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    rounded = [(part / scales).to(torch.float8_e4m3fn) for part in wide]
    return rounded[0] if len(rounded) == 1 else torch.cat(rounded, dim=-1), scales


E4M3 = torch.finfo(torch.float8_e4m3fn).max


def words(logits: Tensor, target: Tensor, cap: float | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the words that may follow each token: how likely the right one is, the entropy, whether it is the first choice,
    and how the first of these changes with each word's logit."""
    wide = logits.float()
    if cap is not None:
        bent = torch.tanh(wide / cap)
        wide = bent * cap
    number = torch.arange(logits.shape[-1], device=logits.device)
    found = wide.gather(-1, target)
    total = wide.logsumexp(-1, keepdim=True)
    share = (wide - total).exp()
    before = wide.masked_fill(number >= target, -math.inf).amax(-1, keepdim=True)  # of equals the first is chosen
    first = (found >= wide.amax(-1, keepdim=True)) & (found > before)
    slope = (number == target).float() - share
    if cap is not None:
        slope = slope * (1.0 - bent.square())
    return found - total, total - (share * wide).sum(-1, keepdim=True), first, slope.to(logits.dtype)


def activate(gate: Tensor, gemma: bool) -> Tensor:
    """What stands between gate and up."""
    return torch.nn.functional.gelu(gate, approximate="tanh") if gemma else torch.nn.functional.silu(gate)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(function)
    return compiled


# The same for a CPU, by the kernels that torch has for it: each pass over a tensor costs about as much as a small product.


def _rate(wide: Tensor, eps: float) -> Tensor:
    """What a norm multiplies each token by."""
    return torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(wide.shape[-1]).add_(eps).rsqrt_()


def _norm_on_cpu(x: Tensor, weight: Tensor, eps: float, gemma: bool) -> Tensor:
    wide = x.float()
    scaled = wide * _rate(wide, eps)
    return scaled.mul_(1.0 + weight.float()).to(x.dtype) if gemma else scaled.to(x.dtype).mul_(weight)


def _norm_back_on_cpu(
    grad: Tensor, x: Tensor, weight: Tensor, eps: float, gemma: bool, residual: Tensor | None
) -> Tensor:  # fmt: skip
    wide = x.float()
    rate = _rate(wide, eps)
    unit = wide * rate
    out = grad.float() * ((1.0 + weight.float()) if gemma else weight.float())
    along = torch.linalg.vecdot(out, unit)[..., None].div_(x.shape[-1])
    found = out.addcmul_(unit, along, value=-1).mul_(rate)
    return (found if residual is None else found.add_(residual)).to(x.dtype)


def _norm_added_on_cpu(x: Tensor, weight: Tensor, eps: float, gemma: bool, residual: Tensor) -> Tensor:
    return _norm_on_cpu(x, weight, eps, gemma).add_(residual)


def _turn_on_cpu(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned, half = cos.shape[-1], cos.shape[-1] // 2
    if turned < x.shape[-1]:
        return torch.cat((_turn_on_cpu(x[..., :turned], cos, sin), x[..., turned:]), dim=-1)
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    signed = torch.cat((-sin[:, :half], sin[:, half:]), dim=-1)
    return (x * cos[:, None]).addcmul_(swapped, signed[:, None])


def _heads_on_cpu(
    qkv: Tensor, cos: Tensor, sin: Tensor, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    both, v = qkv.view(len(qkv), heads + 2 * kv_heads, -1).split((heads + kv_heads, kv_heads), dim=1)
    q, k = _turn_on_cpu(both, cos, sin).split((heads, kv_heads), dim=1)
    return q, k, v


def _heads_back_on_cpu(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.cat((_turn_on_cpu(torch.cat((dq, dk), dim=1), cos, -sin), dv), dim=1).flatten(1)


def _heads_normed_on_cpu(
    qkv: Tensor, cos: Tensor, sin: Tensor, counts: tuple[int, int], norms: tuple[Tensor, Tensor], how: tuple[float, bool]
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    heads, kv_heads = counts
    q, k, v = qkv.view(len(qkv), heads + 2 * kv_heads, -1).split((heads, kv_heads, kv_heads), dim=1)
    q, k = _norm_on_cpu(q, norms[0], *how), _norm_on_cpu(k, norms[1], *how)
    return _turn_on_cpu(q, cos, sin), _turn_on_cpu(k, cos, sin), v


def _turned_back_on_cpu(dq: Tensor, dk: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return _turn_on_cpu(dq, cos, -sin), _turn_on_cpu(dk, cos, -sin)


def _heads_normed_back_on_cpu(
    grads: tuple[Tensor, Tensor, Tensor], qkv: Tensor, norms: tuple[Tensor, Tensor], how: tuple[float, bool]
) -> Tensor:
    dq, dk, dv = grads
    heads, kv_heads = dq.shape[1], dk.shape[1]
    q, k, _ = qkv.view(len(qkv), heads + 2 * kv_heads, -1).split((heads, kv_heads, kv_heads), dim=1)
    dq, dk = (_norm_back_on_cpu(d, x, norm, *how, None) for d, x, norm in zip((dq, dk), (q, k), norms, strict=True))
    return torch.cat((dq, dk, dv), dim=1).flatten(1)


def _gate_on_cpu(both: Tensor, gemma: bool) -> Tensor:
    gate, up = both.chunk(2, dim=-1)
    return activate(gate, gemma).mul_(up)


def _gate_back_on_cpu(grad: Tensor, both: Tensor, gemma: bool) -> tuple[Tensor, Tensor, Tensor]:
    gate, up = both.chunk(2, dim=-1)
    active = activate(gate, gemma)
    out = grad * up
    if gemma:
        gate_grad = torch.ops.aten.gelu_backward(out, gate, approximate="tanh")
    else:
        gate_grad = torch.ops.aten.silu_backward(out, gate)
    return gate_grad, grad * active, active.mul_(up)


_ON_CPU: dict[Callable[..., Any], Callable[..., Any]] = {
    norm: _norm_on_cpu, norm_back: _norm_back_on_cpu, norm_added: _norm_added_on_cpu, heads: _heads_on_cpu,
    heads_back: _heads_back_on_cpu, heads_normed: _heads_normed_on_cpu, turned_back: _turned_back_on_cpu,
    heads_normed_back: _heads_normed_back_on_cpu,
    gate: _gate_on_cpu, gate_back: _gate_back_on_cpu, eight_bit: eight_bit, words: words,
}  # fmt: skip


def run(function: Callable[..., Any], *values: Any) -> Any:
    """Compiled on a GPU, by a CPU's own kernels on a CPU."""
    first = values[0][0] if isinstance(values[0], tuple) else values[0]
    return _on_gpu(function, values, len(first)) if first.is_cuda else _ON_CPU[function](*values)


# What the compiler makes is checked: after each compilation, some tokens of the result are compared with those of the plain
# function. One that differs runs uncompiled from then on.

# of how many tokens, and of fewer where these have so many numbers together; how far apart, as a share of their size
TOKENS, NUMBERS, APART = 512, 2**24, 0.03
_written: set[Callable[..., Any]] = set()  # functions that are used as they are written


def _on_gpu(function: Callable[..., Any], values: tuple[Any, ...], tokens: int) -> Any:
    if function in _written:
        return function(*values)
    before = torch_private.compilations()
    found = _compiled(function)(*values)
    if torch_private.compilations() == before:
        return found
    apart = _apart(function, values, found, tokens)
    if apart <= APART:
        return found
    _written.add(function)
    note(
        f"{function.__name__}, as torch {torch.__version__} compiles it here, lies {apart:.0%} from what it should compute: "
        "it runs uncompiled, which is slower"
    )
    return function(*values)


def _apart(function: Callable[..., Any], values: tuple[Any, ...], found: Any, tokens: int) -> float:
    """How far what was computed lies from the function as it is written, for some tokens; each is computed by itself."""
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        return 0.0  # where nothing may be looked at; what is captured was run before

    def of_tokens(value: Any) -> bool:
        return isinstance(value, Tensor) and value.dim() > 1 and len(value) == tokens

    widest = max((value[0].numel() for value in values if of_tokens(value)), default=1)
    step = -(-tokens // max(1, min(TOKENS, NUMBERS // widest)))

    def some(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(some, value))
        return value[::step] if of_tokens(value) else value

    wanted = function(*map(some, values))
    pairs = zip(some(found), wanted, strict=True) if isinstance(found, tuple) else ((some(found), wanted),)
    worst = 0.0
    for ours, written in pairs:
        size = float(written.float().norm())
        if size and math.isfinite(size):  # else the step itself will tell
            far = float((ours.float() - written.float()).norm()) / size
            worst = max(worst, far if math.isfinite(far) else math.inf)
    return worst
