"""What torch has under private names, in one place: where a release has it no longer, a line reports what is slower."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from medrecipes.core.notes import note


def _of(place: Any, name: str) -> Any:
    return getattr(place, name, None)


flash_forward: Any = _of(torch.ops.aten, "_flash_attention_forward")
flash_backward: Any = _of(torch.ops.aten, "_flash_attention_backward")
dense_forward: Any = _of(torch.ops.aten, "_scaled_dot_product_cudnn_attention")
dense_backward: Any = _of(torch.ops.aten, "_scaled_dot_product_cudnn_attention_backward")
flash_forward_on_cpu: Any = _of(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu")
flash_backward_on_cpu: Any = _of(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward")
_foreach_copy: Any = _of(torch, "_foreach_copy_")
_foreach_mul: Any = _of(torch, "_foreach_mul")
_foreach_add: Any = _of(torch, "_foreach_add_")


def has_flash() -> bool:
    """Whether there is the kernel for attention within each of several packed sequences; else rows are padded."""
    if flash_forward is None or flash_backward is None:
        _gone("variable-length flash attention", "rows are padded, and padding costs time and memory")
        return False
    return True


@lru_cache
def has_dense() -> bool:
    """Whether long rows are attended by cuDNN, on Hopper and newer nearly twice as fast as by flash attention."""
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (9, 0):
        return False
    if dense_forward is None or dense_backward is None or not torch.backends.cudnn.is_available():
        _gone("attention by cuDNN", "rows of 4,096 tokens and more are attended at half the pace")
        return False
    return True


def has_flash_on_cpu() -> bool:
    """Whether there is a CPU's own kernel for attention, with what its backward pass needs; else attention is computed twice."""
    if flash_forward_on_cpu is None or flash_backward_on_cpu is None:
        _gone("flash attention for a CPU", "attention is recomputed in the backward pass")
        return False
    return True


def copy_all(places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy many tensors to their places, by one kernel."""
    _on_all(_foreach_copy, "copy_", "copied", places, values)


def clone_all(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies of many tensors, by one kernel."""
    if _foreach_mul is not None:
        return list(_foreach_mul(tensors, 1.0))
    _gone("_foreach_mul", "tensors are copied one by one, by a kernel each")
    return [tensor.clone() for tensor in tensors]


def add_all(places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Add many tensors to others, by one kernel."""
    _on_all(_foreach_add, "add_", "added", places, values)


def _on_all(kernel: Any, name: str, done: str, places: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    if kernel is not None:
        kernel(places, values)
        return
    _gone(f"_foreach_{name}", f"tensors are {done} one by one, by a kernel each")
    for place, value in zip(places, values, strict=True):
        getattr(place, name)(value)


def compilations() -> int:
    """How many graphs torch has compiled in this process."""
    counters = _of(_of(_of(torch, "_dynamo"), "utils"), "counters")
    if counters is None:
        _gone("count of its compilations", "no compiled kernel is held against the function that it was made of")
        return 0
    return int(counters["stats"]["unique_graphs"])


@lru_cache
def _gone(what: str, slower: str) -> None:
    """Said once."""
    note(f"torch {torch.__version__} has no {what}: {slower}")
