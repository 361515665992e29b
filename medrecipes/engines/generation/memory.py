"""Memory that generation may take: what is free on the device, less what the forward passes themselves need."""

from __future__ import annotations

import torch

from medrecipes.engines.plan.memory import free_memory

SHARE = {"cuda": 0.92, "cpu": 0.3}  # of what is free, that is used


def free_bytes(device: torch.device) -> float:
    """What this process can still have: free on the device or held by torch and unused, within the limit that was set."""
    if device.type != "cuda":
        return SHARE["cpu"] * free_memory()
    free, whole = torch.cuda.mem_get_info(device)
    index = device.index if device.index is not None else torch.cuda.current_device()
    ours, reserved = torch.cuda.memory_allocated(index), torch.cuda.memory_reserved(index)
    limit = torch.cuda.get_per_process_memory_fraction(index) * whole - ours
    return SHARE["cuda"] * max(0.0, min(float(free + reserved - ours), float(limit)))


def reserve(rows: int, vocabulary: int, device: torch.device) -> float:
    """What logits, the forward pass over prompts and captured steps take beside weights and cache."""
    logits = 12.0 * rows * vocabulary
    return logits + (1.5e9 if device.type == "cuda" else 0.0)
