"""4-bit weights on a CPU: decoded once, for bitsandbytes would decode them at every step; the numbers are those of 4 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

CPUINFO = Path("/proc/cpuinfo")
NATIVE = ("avx512_bf16", "amx_bf16")


def computes_bf16() -> bool:
    """Whether the CPU multiplies in bf16 itself; emulated, it is slower than fp32."""
    try:
        flags = next(line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")).split()
    except (OSError, StopIteration):
        return False
    return any(name in flags for name in NATIVE)


def decode_once(model: Any, dtype: torch.dtype) -> int:
    """Put plain layers with the decoded weights in the place of 4-bit ones; how many there were."""
    places = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, Linear4bit)
    ]
    for parent, name, layer in places:
        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
        plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        plain.weight = torch.nn.Parameter(weight, requires_grad=False)
        if layer.bias is not None:
            plain.bias = torch.nn.Parameter(layer.bias.data.to(dtype), requires_grad=False)
        setattr(parent, name, plain)
    return len(places)
