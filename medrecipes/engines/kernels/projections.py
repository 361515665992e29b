"""Frozen weights with their updates: stacked where they multiply the same input, decoded when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


class Projection:
    """Matrices that multiply the same input, one below the other, and their updates: all A stacked, all B along a diagonal.

    The updates' weights are trained in fp32; `copies` pairs each with its place in the stacks, which are of the number
    format of the computation and want to be copied anew after every step.
    """

    def __init__(self, modules: Sequence[Any], dtype: torch.dtype, *, decode: bool = False) -> None:
        self.dtype = dtype
        self.decoded: Tensor | None = None
        # of a base that GPUs share, these hold numbers in their layer's turn alone
        bases = [getattr(module, "base_layer", module) for module in modules]
        self.bases = [base.weight for base in bases]
        self._scales = [eight_bit_scales(base) for base in bases]
        biases = [base.bias for base in bases]
        self.bias: Tensor | None = None
        if any(bias is not None for bias in biases):
            parts = [self.bases[0].new_zeros(m.out_features, dtype=dtype) if b is None else b.detach().to(dtype)
                     for m, b in zip(modules, biases, strict=True)]  # fmt: skip
            self.bias = torch.cat(parts)
        self._rows = [module.out_features for module in modules]
        self._inputs = modules[0].in_features
        adapters = [_adapter(module) for module in modules]
        self.parameters = [weight for adapter in adapters if adapter for weight in adapter[:2]]
        self.scale = max((adapter[2] for adapter in adapters if adapter), default=1.0)
        assert all(adapter[2] == self.scale for adapter in adapters if adapter), "one rank and alpha for all modules"
        ranks = [adapter[0].shape[0] if adapter else 0 for adapter in adapters]
        device = self.bases[0].device
        self.a = torch.zeros((sum(ranks), self._inputs), dtype=dtype, device=device)
        self.b = torch.zeros((sum(self._rows), sum(ranks)), dtype=dtype, device=device)
        ends = zip(accumulate(self._rows), accumulate(ranks), self._rows, ranks, strict=True)
        self.blocks = [(slice(r - rows, r), slice(c - rank, c)) for r, c, rows, rank in ends if rank]
        places = [place for rows, columns in self.blocks for place in (self.a[columns], self.b[rows, columns])]
        self.copies = list(zip(places, self.parameters, strict=True))
        if decode:
            self.decode()

    @property
    def quantised(self) -> bool:
        """Whether any of them is held in 4 or 8 bits."""
        packed = (getattr(base, "quant_state", None) is not None for base in self.bases)
        return any(packed) or any(scales is not None for scales in self._scales)

    def decode(self) -> None:
        """Hold the weights decoded from now on; modules whose own are in 16 bits share them, so that none is there twice."""
        with torch.no_grad():
            self.decoded = self.weight()
        if self.quantised:
            return
        for part, base in zip(self.decoded.split(self._rows), self.bases, strict=True):
            base.data = part

    def weight(self) -> Tensor:
        """The stacked weights in the number format of the computation; those in 4 or 8 bits are decoded for the moment."""
        if self.decoded is not None:
            return self.decoded
        if len(self.bases) == 1 and not self.quantised:
            only: Tensor = self.bases[0].to(self.dtype)
            return only
        out = torch.empty((sum(self._rows), self._inputs), dtype=self.dtype, device=self.a.device)
        for part, base, scales in zip(out.split(self._rows), self.bases, self._scales, strict=True):
            state = getattr(base, "quant_state", None)
            if scales is not None:
                part.copy_(decode_8_bits(base, scales))
            elif state is None:
                part.copy_(base)
            elif state.dtype == self.dtype and part.is_cuda:
                decode_weight(base, state, part)
            else:
                part.copy_(decode_weight(base, state))
        return out

    def times(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x times weights and updates, and x times A alone, which the backward pass needs."""
        out = self.product(x)
        low = x @ self.a.t()
        if self.scale != 1:
            low.mul_(self.scale)
        return out.addmm_(low, self.b.t()) if self.blocks else out, low

    def product(self, x: Tensor) -> Tensor:
        """x times the weights."""
        return linear(x, self.weight(), self.bias)

    def product_back(self, grads: Sequence[Tensor]) -> Tensor:
        """The gradient of x by way of the weights."""
        first, *others = zip(grads, self.weight().split([grad.shape[1] for grad in grads]), strict=True)
        dx = first[0] @ first[1]
        for grad, weight in others:
            dx.addmm_(grad, weight)
        return dx

    def back(self, grads: Sequence[Tensor], *, needs_x: bool = True) -> tuple[Tensor | None, Tensor]:
        """The gradients of x and of x times A; `grads` is that of the product, whole or cut into its matrices."""
        dx = self.product_back(grads) if needs_x else None
        low_grad = None
        for grad, b in zip(grads, self.b.split([grad.shape[1] for grad in grads]), strict=True):
            low_grad = grad @ b if low_grad is None else low_grad.addmm_(grad, b)
        assert low_grad is not None
        if self.scale != 1:
            low_grad.mul_(self.scale)
        if dx is not None and self.blocks:
            dx.addmm_(low_grad, self.a)
        return dx, low_grad

    def back_updates(self, grads: Sequence[Tensor], low_grad: Tensor, x: Tensor, low: Tensor) -> list[Tensor]:
        """The gradients of the updates' weights, A and B in turn."""
        if not self.blocks:
            return []
        if len(self.blocks) < len(grads) and len(self.bases) == 1:
            grads = [torch.cat(list(grads), dim=1)]  # gate and up are one matrix
        begins = [0, *accumulate(grad.shape[1] for grad in grads)]
        da = _product(low_grad.t(), x)
        found = []
        for rows, columns in self.blocks:
            which = max(i for i in range(len(grads)) if begins[i] <= rows.start)
            grad = grads[which][:, rows.start - begins[which] : rows.stop - begins[which]]
            found += [da[columns], _product(grad.t(), low[:, columns])]
        return found


def _product(one: Tensor, other: Tensor) -> Tensor:
    """A matrix product as exact as it is added up: the gradients of weights in fp32."""
    if one.is_cuda and one.dtype != torch.float32:
        return torch.mm(one, other, out_dtype=torch.float32)
    return one @ other


def decode_weight(packed: Tensor, state: Any, out: Tensor | None = None) -> Tensor:
    """What 4-bit weights stand for."""
    from bitsandbytes.functional import dequantize_4bit

    decoded: Tensor = dequantize_4bit(packed.data, state, out=out)
    return decoded


def decode_8_bits(values: Tensor, scales: Tensor) -> Tensor:
    """What 8-bit weights stand for, in fp32."""
    from bitsandbytes.functional import int8_vectorwise_dequant

    decoded: Tensor = int8_vectorwise_dequant(values.data, scales)
    return decoded


def eight_bit_scales(module: Any) -> Tensor | None:
    """What each row of 8-bit weights is to be multiplied by; None where they are held otherwise."""
    if module.weight.dtype != torch.int8:
        return None
    found: Tensor | None = getattr(module.weight, "SCB", None)
    return module.state.SCB if found is None else found  # a layer that has answered once holds them elsewhere


def _adapter(module: Any) -> tuple[Tensor, Tensor, float] | None:
    """A, B and the scale of a module's update."""
    names = list(getattr(module, "lora_A", ()))
    if not names:
        return None
    return module.lora_A[names[0]].weight, module.lora_B[names[0]].weight, module.scaling[names[0]]
