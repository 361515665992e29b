"""The memory that a training takes before it starts, part by part."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medrecipes.engines.plan.dimensions import Shape
from medrecipes.recipe.schema import Recipe

GB = 1e9
# how the layers train: this project's own (see engines/fused.py), the libraries' own, Unsloth's
Way = Literal["fused", "library", "unsloth"]

# bytes a trained number by optimiser; the 8-bit ones keep two bytes and a little for their scales
OPTIMISER = {"8bit": 2.1, "lion": 4.0, "sgd": 0.0, "adagrad": 4.0, "rmsprop": 4.0, "adafactor": 0.1}
# what the GPU's allocator cannot use, as a share of the GPU; more where the parts were fitted and not counted
SLACK = {"fused": 0.04, "library": 0.1, "unsloth": 0.1}
# bytes that a layer keeps a token when nothing is recomputed, in hidden and in inner widths of two bytes;
# fused is counted below, the others are fitted to what was measured (docs/performance.md)
KEPT = {"library": (10.3, 4.0), "unsloth": (3.2, 2.8)}
HEAD_TOKENS = 1024  # whose words are weighed at once
BY_ROWS = 2.8  # hidden widths more, where Unsloth attends row by row


@dataclass(frozen=True)
class MicroBatch:
    """How tokens train at once: through whose layers, how many of these recomputed, and among how many GPUs."""

    way: Way
    tokens: int
    recomputed: int
    decode_once: bool  # whether quantised weights are decoded once, and kept
    accumulation: int = 1  # micro-batches in a step
    gpus: int = 1
    shards: int = 1  # among how many GPUs the layers are shared
    reach: float = 0.0  # how many tokens one attends to, on the average


def by_rows(way: Way, varlen: bool) -> bool:
    """Whether padding-free rows attend one after the other."""
    return way == "unsloth" and not varlen


def bytes_a_number(recipe: Recipe) -> float:
    """What a number of the base's layers takes, with its share of the scales."""
    scales = (1 / 64 + 4 / (64 * 256)) if recipe.model.double_quant else 4 / 64
    return {4: 0.5 + scales, 8: 1.0, 16: 2.0}[recipe.model.bits]


def parts(recipe: Recipe, shape: Shape, at_once: MicroBatch, *, varlen: bool = True) -> dict[str, float]:
    """The peak of one GPU, in GB."""
    model, lora, way, tokens = recipe.model, recipe.lora, at_once.way, at_once.tokens
    recomputed, decode_once, shards = at_once.recomputed, at_once.decode_once, at_once.shards
    layer = shape.matrices * bytes_a_number(recipe) / shape.layers
    held = -(-shape.layers // shards) + (2 if shards > 1 else 0)  # its own, the one at work and the next
    embeddings = 2 * shape.head * (1 if shape.tied else 2) + 2 * shape.per_layer
    trained = trainable(recipe, shape)
    state = next((size for name, size in OPTIMISER.items() if name in recipe.train.optim), 8.0)
    h, i = 2 * shape.hidden, 2 * shape.inner
    queries, keys = 2 * shape.heads * shape.width, 2 * shape.kv_heads * shape.width
    full: float
    if way == "fused":
        full = h + 2 * queries + 2 * keys + 4 * shape.heads + h + 2 * i + 2 * 7 * lora.rank + 2 * h * shape.sandwich
    else:
        full = KEPT[way][0] * h + KEPT[way][1] * i + (BY_ROWS * h if by_rows(way, varlen) else 0)
        if shape.capped:  # every token's weight for every other: in two bytes, in four, and once more before the cap
            full += 8 * shape.heads * recipe.data.max_tokens
    # Unsloth keeps the inputs of layers that are recomputed in the machine's own memory
    again_kept = 0 if way == "unsloth" else (1 + (way == "fused" and shape.sandwich)) * h
    kept = tokens * ((shape.layers - recomputed) * full + recomputed * again_kept)
    # the layer at work: gate and up, their gradients, the product and its gradient, and a few of the stream
    again = (4 if way == "unsloth" else 6) * i + 4 * h
    working = tokens * (6 * i + 4 * h if way == "fused" else max(full, again) if recomputed else 4 * i + 4 * h)
    # gate and up, decoded for the moment; those in 8 bits by way of fp32
    decoding = 0 if decode_once else {4: 4, 8: 8, 16: 0}[model.bits] * shape.inner * shape.hidden
    words = tokens * 4 * h + min(tokens, HEAD_TOKENS) * shape.vocabulary * 6
    return {
        "weights": (held * layer + embeddings + (2 * shape.matrices if decode_once else 0)) / GB,
        # several GPUs add gradients up in a place of its own
        "LoRA and gradients": (8 if at_once.gpus == 1 else 12) * trained / GB,
        "optimiser": state * trained / GB,
        "activations": kept / GB,
        "layer at work": (working + decoding) / GB,
        "words": words / GB,
    }


def recordings(recipe: Recipe, shape: Shape, largest: MicroBatch) -> float:
    """What CUDA graphs of steps up to so many tokens hold beside all else, in GB: all share the activations of the largest."""
    needs = parts(recipe, shape, largest)
    places = 4 * 2 * shape.hidden * largest.tokens  # what goes in and comes out
    return needs["activations"] + needs["layer at work"] + (places + 4 * trainable(recipe, shape)) / GB


def trainable(recipe: Recipe, shape: Shape) -> int:
    """The numbers that LoRA trains."""
    modules = shape.modules | {"lm_head": (shape.hidden, shape.vocabulary), "embed_tokens": (shape.vocabulary, shape.hidden)}  # fmt: skip
    wanted = shape.modules if recipe.lora.targets == ("all-linear",) else recipe.lora.targets
    per_layer = sum(sum(modules[name]) for name in wanted if name in shape.modules)
    once = sum(sum(modules[name]) for name in wanted if name in modules and name not in shape.modules)
    return recipe.lora.rank * (shape.layers * per_layer + once)


def free_memory() -> float:
    """The bytes that this machine or container can still give."""
    found = []
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            found.append(float(line.split()[1]) * 1024)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        ends = [*_lines(limit), *_lines(used)]
        if len(ends) == 2 and all(end.isdigit() for end in ends):
            found.append(float(ends[0]) - float(ends[1]))
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE") / 2)
    return min(found, default=8 * GB)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []
