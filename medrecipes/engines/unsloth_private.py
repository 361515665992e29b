"""What Unsloth keeps to itself, in one place: where a release has it no longer, a line reports what is slower."""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch

from medrecipes.core.notes import note
from medrecipes.engines import Choice
from medrecipes.engines.choices import FLASH_ATTENTION, ONE_KERNEL
from medrecipes.engines.kernels import varlen_attention

DISPATCH = "unsloth.utils.attention_dispatch"  # its module that chooses what attends
KERNEL = "_TORCH_VARLEN_ATTN"  # its place there for torch's kernel
BY_ROWS = "row by row"
SKIPS = "_unsloth_skip_checkpoint"  # its mark of a layer that keeps its activations while others do not


def choose_attention(dtype: torch.dtype) -> Choice:
    """What padding-free rows attend with: the library that Unsloth finds, else torch's kernel, else one row after the other."""
    try:
        dispatch: Any = importlib.import_module(DISPATCH)
        backend, none, flash = dispatch.select_attention_backend(use_varlen=True), dispatch.SDPA, dispatch.FLASH_VARLEN
    except (ImportError, AttributeError) as error:
        return _slower(f"this Unsloth does not say what it attends with ({error})")
    if backend != none:
        return Choice(FLASH_ATTENTION if backend == flash else backend, "Unsloth found it")
    if os.environ.get("UNSLOTH_TORCH_VARLEN", "1").lower() in ("0", "false", "no", "off"):  # its own switch
        return Choice(BY_ROWS, "UNSLOTH_TORCH_VARLEN says so")
    if not varlen_attention.available(dtype):
        return Choice(BY_ROWS, "neither xformers nor flash-attention, and torch's kernel is not for this GPU and precision")  # fmt: skip
    if not hasattr(dispatch, KERNEL):
        return _slower("this Unsloth has no place for torch's kernel")
    if getattr(dispatch, KERNEL) is None:  # it asks for torch 2.12's function, 2.11's kernel can as much
        setattr(dispatch, KERNEL, varlen_attention.varlen_attn)
    return Choice(ONE_KERNEL, "torch's own, with neither xformers nor flash-attention")


def _slower(why: str) -> Choice:
    note(f"{why}: padding-free rows attend one after the other, which is slower")
    return Choice(BY_ROWS, why)


def recompute_all(layers: Any) -> bool:
    """Take its mark off the layers that kept their activations; whether any had it."""
    return bool([layer for layer in layers if vars(layer).pop(SKIPS, False)])
