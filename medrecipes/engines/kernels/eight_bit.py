"""Frozen matrices multiplied in 8-bit floats (FP8, e4m3): a scale for each row of both factors, sums in fp32.

For GPUs with such products (compute capability 8.9 and newer), which make them at about twice the rate of bf16. Weights
are held in e4m3 twice, as they are needed forward and backward; inputs and gradients are rounded row by row as they come.
The updates stay in the number format of the computation, and so do their gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import ScalingType, scaled_mm

from medrecipes.engines.kernels import pointwise
from medrecipes.engines.kernels.projections import Projection

DIVISOR = 16  # of both sides of a matrix

Rounded = tuple[Tensor, Tensor]  # numbers in e4m3, and what each row of them is to be multiplied by


def unfit(layers: Sequence[Sequence[Sequence[object]]]) -> str | None:
    """Why the matrices of some layers cannot be multiplied so; None where they can."""
    for module in (module for layer in layers for group in layer for module in group):
        rows, columns = module.out_features, module.in_features  # type: ignore[attr-defined]
        if rows % DIVISOR or columns % DIVISOR:
            return f"a matrix of {rows} x {columns} numbers, whose sides are no multiples of {DIVISOR}"
    return None


class EightBitProjection(Projection):
    """A projection whose frozen weights are multiplied in 8-bit floats."""

    def decode(self) -> None:
        """Round the weights once; the base's own stay as they are, to answer with."""
        with torch.no_grad():
            self._held = self._forward(), self._backward()

    _held: tuple[Rounded, Rounded] | None = None

    def _forward(self) -> Rounded:
        rounded: Rounded = pointwise.run(pointwise.eight_bit, self.weight())
        return rounded

    def _backward(self) -> Rounded:
        rounded: Rounded = pointwise.run(pointwise.eight_bit, self.weight().t().contiguous())
        return rounded

    def product(self, x: Tensor) -> Tensor:
        weight = self._held[0] if self._held else self._forward()
        return _times(pointwise.run(pointwise.eight_bit, x), weight, self.bias, x.dtype)

    def product_back(self, grads: Sequence[Tensor]) -> Tensor:
        weight = self._held[1] if self._held else self._backward()
        return _times(pointwise.run(pointwise.eight_bit, *grads), weight, None, grads[0].dtype)


def _times(values: Rounded, weight: Rounded, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    (x, x_scales), (w, w_scales) = values, weight
    row = ScalingType.RowWise
    return scaled_mm(
        x, w.t(), x_scales, row, w_scales.t(), row, bias=bias, output_dtype=dtype, use_fast_accum=True
    )  # fmt: skip
