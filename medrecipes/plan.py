"""Memory and time of a training before it starts: what fits a card, how much is computed again, how long it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from medrecipes.dimensions import Card, Shape
from medrecipes.recipe import Recipe

GB = 1e9
# how the layers train: this project's own (see engines/fused.py), the libraries' own, Unsloth's
Way = Literal["fused", "library", "unsloth"]


NO_VARLEN = "the card has no variable-length attention"
FUSED_FAMILIES = ("mistral", "llama", "gemma")


def unfit(recipe: Recipe, family: str) -> str | None:
    """Why a recipe cannot train through the fused layers; None when it can."""
    if family not in FUSED_FAMILIES:
        return f"{family or 'unknown'} layers are built otherwise"
    train = recipe.train
    barred = {
        "lora.dropout": recipe.lora.dropout or None,
        "lora.use_dora": "true" if recipe.lora.use_dora else None,
        "model.bits": 8 if recipe.model.bits == 8 else None,
        "train.padding_free": None if train.padding_free or train.packing else "false",
        "train.precision": "fp32" if train.precision == "fp32" else None,
    }
    return next((f"not with {key} = {value}" for key, value in barred.items() if value is not None), None)


@dataclass(frozen=True)
class Plan:
    """How to train on a card, and what that takes; `parts` in GB, the time estimated."""

    way: Way
    micro_batch: int
    recomputed: int  # layers that keep their input alone and compute the rest again
    decode_once: bool
    shards: int  # among how many cards the layers are shared; 1: every card holds all
    parts: dict[str, float]
    limit_gb: float
    tokens_per_second: float

    @property
    def gb(self) -> float:
        """The peak."""
        return sum(self.parts.values())

    @property
    def recorded(self) -> bool:
        """Whether a step's work is played from a recording."""
        return RECORDINGS in self.parts

    @property
    def fits(self) -> bool:
        """Whether the card holds it."""
        return self.gb <= self.limit_gb


# bytes a trained number by optimiser; the 8-bit ones keep two bytes and a little for their scales
OPTIMISER = {"8bit": 2.1, "lion": 4.0, "sgd": 0.0, "adagrad": 4.0, "rmsprop": 4.0, "adafactor": 0.1}
# what the card's allocator cannot use, as a share of the card; more where the parts were fitted and not counted
SLACK = {"fused": 0.04, "library": 0.1, "unsloth": 0.1}
# bytes that a layer keeps a token when nothing is computed again, in hidden and in inner widths of two bytes;
# fused is counted below, the others are fitted to what was measured (docs/performance.md)
KEPT = {"library": (10.3, 4.0), "unsloth": (3.2, 2.8)}
BY_ROWS = 2.8  # hidden widths more, where Unsloth attends row by row


def by_rows(way: Way, varlen: bool) -> bool:
    """Whether rows that lie end to end attend one after the other."""
    return way == "unsloth" and not varlen


def bytes_a_number(recipe: Recipe) -> float:
    """What a number of the base's layers takes, with its share of the scales."""
    scales = (1 / 64 + 4 / (64 * 256)) if recipe.model.double_quant else 4 / 64
    return {4: 0.5 + scales, 8: 1.0, 16: 2.0}[recipe.model.bits]


def memory(
    recipe: Recipe, shape: Shape, way: Way, tokens: int, recomputed: int, *, decode_once: bool, gpus: int = 1,
    shards: int = 1, varlen: bool = True,
) -> dict[str, float]:  # fmt: skip
    """Peak memory by part of one card, in GB, with so many tokens at once."""
    model, lora = recipe.model, recipe.lora
    layer = shape.matrices * bytes_a_number(recipe) / shape.layers
    held = -(-shape.layers // shards) + (2 if shards > 1 else 0)  # its own, the one at work and the next
    embeddings = 2 * shape.head * (1 if shape.tied else 2)
    trained = trainable(recipe, shape)
    state = next((size for name, size in OPTIMISER.items() if name in recipe.train.optim), 8.0)
    h, i = 2 * shape.hidden, 2 * shape.inner
    queries, keys = 2 * shape.heads * shape.width, 2 * shape.kv_heads * shape.width
    full: float
    if way == "fused":
        full = h + 2 * queries + 2 * keys + 4 * shape.heads + h + 2 * i + 2 * 7 * lora.rank
    else:
        full = KEPT[way][0] * h + KEPT[way][1] * i + (BY_ROWS * h if by_rows(way, varlen) else 0)
        if shape.capped:  # every token's weight for every other: in two bytes, in four, and once more before the cap
            full += 8 * shape.heads * recipe.data.max_tokens
    # Unsloth keeps the inputs of layers that are computed again in the machine's own memory
    kept = tokens * ((shape.layers - recomputed) * full + (0 if way == "unsloth" else recomputed * h))
    # the layer at work: gate and up, their gradients, the product and its gradient, and a few of the stream
    again = (4 if way == "unsloth" else 6) * i + 4 * h
    working = tokens * (6 * i + 4 * h if way == "fused" else max(full, again) if recomputed else 4 * i + 4 * h)
    decoding = 0 if decode_once or model.bits != 4 else 2 * shape.inner * h
    words = tokens * 4 * h + min(tokens, HEAD_TOKENS) * shape.vocabulary * 6
    return {
        "weights": (held * layer + embeddings + (2 * shape.matrices if decode_once else 0)) / GB,
        "LoRA and gradients": (8 if gpus == 1 else 12)
        * trained
        / GB,  # several cards add theirs up in a place of its own
        "optimiser": state * trained / GB,
        "activations": kept / GB,
        "layer at work": (working + decoding) / GB,
        "words": words / GB,
    }


HEAD_TOKENS = 1024
RECORDED = 4096  # tokens at once above which no card waits for its processor; see engines/recorded.py
RECORDINGS, SHARED_BADLY = "recordings", 1.5
FILLED = 1.06  # what a recording's sizes add to them, on the average
RECORD_S, PLAY_S = 0.025, 0.15e-3  # to record a layer once, and the least that its kernels take: reckoned, not fitted


def recordings(recipe: Recipe, shape: Shape, recomputed: int, *, decode_once: bool) -> float:
    """What recordings may hold beside all else, in GB: more than the activations of their greatest size, for they share badly."""
    parts = memory(recipe, shape, "fused", RECORDED, recomputed, decode_once=decode_once)
    return SHARED_BADLY * (parts["activations"] + parts["layer at work"]) + 4 * trainable(recipe, shape) / GB


def trainable(recipe: Recipe, shape: Shape) -> int:
    """The numbers that LoRA trains."""
    modules = shape.modules | {"lm_head": (shape.hidden, shape.vocabulary), "embed_tokens": (shape.vocabulary, shape.hidden)}  # fmt: skip
    wanted = shape.modules if recipe.lora.targets == ("all-linear",) else recipe.lora.targets
    per_layer = sum(sum(modules[name]) for name in wanted if name in shape.modules)
    once = sum(sum(modules[name]) for name in wanted if name in modules and name not in shape.modules)
    return recipe.lora.rank * (shape.layers * per_layer + once)


# fitted to what was measured on an H200 (docs/performance.md): the shares of its matrix rate and of its bandwidth that
# are reached, a layer's launches forth and back, an optimiser's time for a matrix
RATE, BANDWIDTH, LAUNCH_S, UPDATE_S = 0.77, 0.38, 4e-3, {"8bit": 75e-6, "other": 5e-6}
# how fast the other ways are against the fused one
SPEED = {"fused": 1.0, "library": 0.67, "unsloth": 0.95}
SPEED_BY_ROWS = 0.57  # of Unsloth without variable-length attention


def speed(
    recipe: Recipe, shape: Shape, card: Card, way: Way, tokens: int, accumulation: int, recomputed: int, *,
    decode_once: bool, shards: int = 1, recorded: bool = False, steps: int = 1000,
) -> float:  # fmt: skip
    """Tokens a second of a card that may be expected, with so many in a micro-batch and so many of these in a step."""
    share = recomputed / shape.layers
    again = 2 * (shape.matrices - shape.layers * shape.inner * shape.hidden * (way == "fused")) * share
    operations = 4 * shape.matrices + again + 6 * shape.head
    moved = shape.layers * (51 * 2 * shape.hidden + 21 * 2 * shape.inner) * (1 + 0.4 * share)
    decoded = 0.0 if decode_once or recipe.model.bits != 4 else (2 + share) * 2.5 * shape.matrices / tokens
    read = 2 * (2 + share) * shape.matrices / tokens  # the weights, on every way forth and back, while others multiply
    products = max(operations / (card.tflops * 1e12 * RATE), read / (card.gbps * 1e9 * BANDWIDTH))
    seconds = products + (moved + decoded) / (card.gbps * 1e9 * BANDWIDTH)
    # a micro-batch can be no faster than a processor launches its work
    launches = 1 + 0.4 * share + (0.4 if decoded else 0.0)
    pace = SPEED_BY_ROWS if by_rows(way, card.varlen) else SPEED[way]
    if recorded:
        sizes = 2 if recipe.train.packing else 16
        seconds *= FILLED
        seconds += shape.layers * (PLAY_S + sizes * RECORD_S / (steps * accumulation)) / tokens
    else:
        seconds = max(seconds / pace, shape.layers * LAUNCH_S * launches / tokens)
    if shards > 1:  # layers travel while others are at work
        travelling = 2 * shape.matrices * bytes_a_number(recipe) * (shards - 1) / shards
        seconds = max(seconds, travelling / (card.link_gbps * 1e9) / tokens)
    update = UPDATE_S["8bit" if "8bit" in recipe.train.optim else "other"] * shape.layers * 2 * len(shape.modules)
    return 1 / (seconds + update / (tokens * accumulation))


def choose(
    recipe: Recipe, shape: Shape, card: Card, way: Way, tokens: Callable[[int], tuple[int, int]], *, gpus: int = 1,
    limit_gb: float | None = None, shared: bool | Literal["auto"] | None = None, steps: int = 1000,
) -> Plan:  # fmt: skip
    """The fastest way to train that fits; where nothing fits, the smallest. `tokens`: the most and the mean in a micro-batch of so many."""
    limit = (limit_gb if limit_gb is not None else card.gb) * (1 - SLACK[way])
    batch = max(1, recipe.train.batch // gpus)
    wanted = recipe.train.micro_batch
    sizes = [size for size in range(batch, 0, -1) if batch % size == 0] if wanted == "auto" else [min(wanted, batch)]

    def among(shards: int) -> list[Plan]:
        plans = []
        for size in sizes:
            most, mean = tokens(size)
            for decode_once in (True, False) if way == "fused" and recipe.model.bits == 4 and shards == 1 else (False,):
                for again in _layers(recipe, shape):
                    parts = memory(
                        recipe,
                        shape,
                        way,
                        most,
                        again,
                        decode_once=decode_once,
                        gpus=gpus,
                        shards=shards,
                        varlen=card.varlen,
                    )
                    ways = [parts]
                    if way == "fused" and gpus == 1 and mean <= RECORDED:
                        held = recordings(recipe, shape, again, decode_once=decode_once)
                        ways.append({**parts, RECORDINGS: held})
                    for taken in ways:
                        rate = speed(
                            recipe, shape, card, way, mean, batch // size, again, decode_once=decode_once,
                            shards=shards, recorded=RECORDINGS in taken, steps=steps,
                        )  # fmt: skip
                        plans.append(Plan(way, size, again, decode_once, shards, taken, limit, rate * gpus))
        return plans

    # nothing is sent round that every card can hold
    shared = recipe.model.shard if shared is None else shared
    may = gpus > 1 and way == "fused" and shared is not False
    plans = [] if may and shared is True else among(1)
    fitting = [plan for plan in plans if plan.fits]
    if may and not fitting:
        plans += among(gpus)
        fitting = [plan for plan in plans if plan.fits]
    # of what is as fast as the fastest, nearly, the smallest
    if fitting:
        best = max(plan.tokens_per_second for plan in fitting)
        return min((plan for plan in fitting if plan.tokens_per_second >= 0.99 * best), key=lambda plan: plan.gb)
    return min(plans, key=lambda plan: plan.gb)


def _layers(recipe: Recipe, shape: Shape) -> list[int]:
    """How many layers may be computed again."""
    wanted = recipe.train.checkpointing
    if wanted == "auto":
        return list(range(shape.layers + 1))
    if isinstance(wanted, bool):
        return [shape.layers if wanted else 0]
    return [min(wanted, shape.layers)]


def count_steps(rows: int, recipe: Recipe) -> int:
    """Optimiser steps of a training over so many rows, or packs."""
    return recipe.train.max_steps or math.ceil(recipe.train.epochs * math.ceil(rows / recipe.train.batch))
