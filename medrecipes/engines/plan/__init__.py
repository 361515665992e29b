"""How to train on a GPU, decided before it starts: what fits, how much is recomputed, and which of that is fastest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from medrecipes.engines.plan.dimensions import Gpu, Shape
from medrecipes.engines.plan.memory import SLACK, MicroBatch, Way, parts, recordings
from medrecipes.engines.plan.pace import OCTAVES, Graphs, speed, waiting
from medrecipes.recipe.schema import Recipe

TAG_TOKENS = 8192  # of a tagging run in a micro-batch on a GPU, padding included; halved when memory runs out
NO_VARLEN = "the GPU has no variable-length attention"
SHARED_FAMILIES = ("mistral", "llama", "gemma")  # whose layers were proved to train shared among GPUs
PROVED_FAMILIES = (*SHARED_FAMILIES, "gemma2", "gemma3_text", "qwen3")  # and through the fused layers on one
FUSED_FAMILIES = (*PROVED_FAMILIES, "gemma3", "qwen2", "smollm3", "phi3")


def unfit(recipe: Recipe, family: str, *, cpu: bool = False) -> str | None:
    """Why a recipe cannot train through the fused layers; None when it can. A CPU's compute in fp32 as well."""
    if family not in FUSED_FAMILIES:
        return f"{family or 'unknown'} layers are built otherwise"
    train = recipe.train
    barred = {
        "lora.dropout": recipe.lora.dropout or None,
        "lora.use_dora": "true" if recipe.lora.use_dora else None,
        "model.cpu_offload": "true" if recipe.model.cpu_offload else None,
        "model.trust_remote_code": "true" if recipe.model.trust_remote_code else None,
        "train.padding_free": None if train.padding_free or train.packing else "false",
        "train.precision": "fp32" if train.precision == "fp32" and not cpu else None,
    }
    return next((f"not with {key} = {value}" for key, value in barred.items() if value is not None), None)


@dataclass(frozen=True)
class Plan:
    """How to train on a GPU, and what that takes; `parts` in GB, the time estimated."""

    way: Way
    micro_batch: int
    recomputed: int  # layers that keep their input alone and compute the rest again
    decode_once: bool
    graphs: Graphs | None  # how steps are replayed from CUDA graphs; None: they are not
    shards: int  # among how many GPUs the layers are shared; 1: every GPU holds all
    parts: dict[str, float]
    limit_gb: float
    tokens_per_second: float

    @property
    def gb(self) -> float:
        """The peak."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the GPU holds it."""
        return self.gb <= self.limit_gb


@dataclass(frozen=True)
class Machine:
    """The GPUs that train, all alike, and what may be taken of each one's memory, where that is not all."""

    gpu: Gpu
    gpus: int = 1
    limit_gb: float | None = None


@dataclass(frozen=True)
class Rows:
    """What is trained: the most and the mean of tokens in a micro-batch of so many rows, for how many steps, and how many tokens
    one attends to."""

    tokens: Callable[[int], tuple[int, int]]
    steps: int = 1000
    reach: float = 0.0


def reach(lengths: Iterable[int]) -> float:
    """How many tokens a token of such rows attends to, on the average."""
    total = squares = 0
    for length in lengths:
        total, squares = total + length, squares + length * length
    return squares / (2 * total) if total else 0.0


def choose(
    recipe: Recipe, shape: Shape, machine: Machine, way: Way, rows: Rows, shared: bool | Literal["auto"] | None = None
) -> Plan:
    """The fastest way to train that fits; where nothing fits, the smallest."""
    gpu, gpus, steps = machine.gpu, machine.gpus, rows.steps
    limit = (gpu.gb if machine.limit_gb is None else machine.limit_gb) * (1 - SLACK[way])
    batch = max(1, recipe.train.batch // gpus)
    wanted = recipe.train.micro_batch
    sizes = [size for size in range(batch, 0, -1) if batch % size == 0] if wanted == "auto" else [min(wanted, batch)]
    taken_at_once = [(size, *rows.tokens(size)) for size in sizes]

    def among(shards: int) -> Iterator[Plan]:
        either = way == "fused" and shards == 1 and (recipe.model.bits != 16 or recipe.train.compute == "fp8")
        decoded = (True, False) if either else (False,)
        for (size, most, mean), decode_once, again in product(taken_at_once, decoded, _layers(recipe, shape)):
            fullest = MicroBatch(way, most, again, decode_once, batch // size, gpus, shards, rows.reach)
            held = parts(recipe, shape, fullest, varlen=gpu.varlen)
            for octave in (
                (0, *OCTAVES) if way == "fused" and shards == 1 else (0,)
            ):  # layers that travel are not captured
                taken, graphs = held, None
                if octave:
                    largest = waiting(recipe, shape, gpu, fullest, octave)
                    if largest < mean:
                        continue
                    graphs = Graphs.of(recipe, largest, octave, steps * (batch // size))
                    room = recordings(recipe, shape, MicroBatch(way, largest, again, decode_once))
                    taken = held | {"CUDA graphs": room}
                rate = speed(recipe, shape, gpu, replace(fullest, tokens=mean), graphs, steps)
                yield Plan(way, size, again, decode_once, graphs, shards, taken, limit, rate * gpus)

    # nothing is sent round that every GPU can hold
    shared = recipe.model.shard if shared is None else shared
    may = gpus > 1 and way == "fused" and shared is not False and recipe.model.bits != 8
    plans = [] if may and shared is True else list(among(1))
    fitting = [plan for plan in plans if plan.fits]
    if may and not fitting:
        plans += among(gpus)
        fitting = [plan for plan in plans if plan.fits]
    # of what is as fast as the fastest, nearly, the smallest; a quarter of the GPU is nothing to save
    if fitting:
        best = max(plan.tokens_per_second for plan in fitting)
        near = (plan for plan in fitting if plan.tokens_per_second >= 0.99 * best)
        return min(near, key=lambda plan: (max(plan.gb, limit / 4), -plan.tokens_per_second))
    return min(plans, key=lambda plan: plan.gb)


def tag_micro_batch(recipe: Recipe, longest: int) -> int:
    """How many windows of a tagging run a GPU takes at once; they are padded to the longest."""
    wanted, batch = recipe.train.micro_batch, recipe.train.batch
    if wanted != "auto":
        return min(wanted, batch)
    return max((n for n in range(1, batch + 1) if batch % n == 0 and n * longest <= TAG_TOKENS), default=1)


def _layers(recipe: Recipe, shape: Shape) -> list[int]:
    """How many layers may be recomputed."""
    wanted = recipe.train.checkpointing
    if wanted == "auto":
        return list(range(shape.layers + 1))
    if isinstance(wanted, bool):
        return [shape.layers if wanted else 0]
    return [min(wanted, shape.layers)]


def count_steps(rows: int, recipe: Recipe) -> int:
    """Optimiser steps of a training over so many rows, or packs."""
    return recipe.train.max_steps or math.ceil(recipe.train.epochs * math.ceil(rows / recipe.train.batch))
