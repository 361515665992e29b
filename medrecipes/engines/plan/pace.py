"""How many tokens a second a GPU trains, reckoned before it starts: what its products, its memory and its processor allow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medrecipes.engines.plan.dimensions import Gpu, Shape
from medrecipes.engines.plan.memory import MicroBatch, by_rows, bytes_a_number
from medrecipes.recipe.schema import Recipe

# fitted to what was measured on an H200 (docs/performance.md): the shares of its matrix rate and of its bandwidth that
# are reached, a layer's launches forward and backward, an optimiser's time for a matrix
RATE, BANDWIDTH, LAUNCH_S, UPDATE_S = 0.77, 0.38, 4e-3, {"8bit": 75e-6, "other": 5e-6}
# bytes that are moved for a token and a word of the vocabulary, by fused head and other (fitted to Gemma 3 270M's shape), and
# that 8-bit floats move more for each number of an input or gradient (to three shapes)
WORD, OTHER_WORD, ROUNDED = 12.75, 14, 7
# bytes that are moved to decode a number of the base; those in 8 bits come by way of fp32
DECODED = {4: 2.5, 8: 11.0, 16: 0.0}
# attention: how many tokens one attended to where all this was fitted, and which share of a GPU's rate the kernels for short and
# for long rows reach (docs/performance.md, long rows)
REACH, SHORT_ROWS, LONG_ROWS = 300, 0.32, 0.53
LONG = 4096  # tokens of a row from which Hopper and newer have the latter (kernels/varlen_attention.py)
# how fast the other ways are against the fused one
SPEED = {"fused": 1.0, "library": 0.67, "unsloth": 0.95}
SPEED_BY_ROWS = 0.57  # of Unsloth without variable-length attention
# a CUDA graph (kernels/cuda_graphs.py): how many steps launched one by one its capture costs; what one size an octave adds
# to tokens on the average; the time to capture a layer, and what is lost when one is replayed
SIGHTS, FILLED, RECORD_S, PLAY_S = 6, 0.45, 0.01, 0.15e-3
OCTAVES = (8, 4, 2, 1)  # sizes an octave: few are soon captured, and fill tokens up the more
STEP = 128  # from one size to the next, at the least
SANDWICH = 1.3  # kernels of a layer with norms behind attention and perceptron, against one without
SLOW = 1.3  # processors differ: what waits for one that is this much slower than ours is captured, too


@dataclass(frozen=True)
class Graphs:
    """How steps are captured as CUDA graphs, each for one size."""

    largest: int  # tokens
    octave: int  # sizes from one number of tokens to its double
    sights: int  # how often a size is launched one by one before it is captured
    longest: int = 1 << 31  # tokens of the longest row

    @classmethod
    def of(cls, recipe: Recipe, largest: int, octave: int, micro_batches: int) -> Graphs:
        """With sizes that come again and again, the first time is soon enough."""
        sights = 1 if micro_batches > 4 * SIGHTS * _kinds(recipe, octave) else SIGHTS
        return cls(largest, octave, sights, recipe.data.max_tokens)

    def filled(self, tokens: int) -> int:
        """The size that so many tokens are filled up to."""
        return filled(tokens, self.octave)

    def longest_row(self, size: int) -> int:
        """How long a row of a size can be: one to train on, or the one that fills it up."""
        return min(size, max(self.longest, STEP, size // self.octave))


def _kinds(recipe: Recipe, octave: int) -> int:
    """How many sizes come up: packs are alike, and rows at a time hold about a quarter to all of the most."""
    return 2 if recipe.train.packing else 2 * octave


def speed(
    recipe: Recipe, shape: Shape, gpu: Gpu, at_once: MicroBatch, graphs: Graphs | None = None, steps: int = 1000
) -> float:
    """Tokens a second of a GPU that may be expected."""
    tokens, accumulation, shards = at_once.tokens, at_once.accumulation, at_once.shards
    computed = computing(recipe, shape, gpu, at_once)
    if not recipe.train.packing:
        computed *= uneven(recipe.train.batch, at_once.gpus)
    pace = SPEED_BY_ROWS if by_rows(at_once.way, gpu.varlen) else SPEED[at_once.way]
    # a micro-batch can be no faster than a processor launches its work
    launched = launching(recipe, shape, at_once) / tokens
    seconds = max(computed / pace, launched)
    if not recipe.train.packing:  # rows differ, and some micro-batches wait though the mean does not
        seconds = ((computed / pace) ** 4 + launched**4) ** 0.25
    if graphs:
        kinds, micro_batches = _kinds(recipe, graphs.octave), steps * accumulation
        more = graphs.filled(tokens) / tokens if recipe.train.packing else 1 + FILLED / graphs.octave  # packs are full
        played = computed * more + shape.layers * PLAY_S / tokens
        before = min(1.0, graphs.sights * kinds / micro_batches)  # the share that is launched one by one
        seconds = before * seconds + (1 - before) * played
        seconds += kinds * shape.layers * RECORD_S / (micro_batches * tokens)
    if shards > 1:  # layers travel while others are at work
        travelling = 2 * shape.matrices * bytes_a_number(recipe) * (shards - 1) / shards
        seconds = max(seconds, travelling / (gpu.link_gbps * 1e9) / tokens)
    update = UPDATE_S["8bit" if "8bit" in recipe.train.optim else "other"] * shape.layers * 2 * len(shape.modules)
    return 1 / (seconds + update / (tokens * accumulation))


def uneven(rows: int, gpus: int) -> float:
    """How much more than the mean the fullest of several GPUs has, which all wait for, of so many single rows a step.

    However they are dealt, one GPU has the longest: of rows whose lengths differ as much as those of questions and
    answers do (about as much as their mean), it is as long as so many of them.
    """
    if gpus == 1:
        return 1.0
    longest = sum(1 / number for number in range(1, rows + 1))
    return float((1 + (longest * gpus / rows) ** 2.5) ** 0.4)


def computing(recipe: Recipe, shape: Shape, gpu: Gpu, at_once: MicroBatch) -> float:
    """The seconds that a GPU works for a token, with so many at once."""
    way, tokens, share = at_once.way, at_once.tokens, at_once.recomputed / shape.layers
    fused = way == "fused"
    again = 2 * (shape.computed - shape.layers * shape.inner * shape.hidden * fused) * share
    # the fused head makes no logits on the way back (kernels/loss_head.py)
    operations = 4 * shape.computed + again + (4 if fused else 6) * shape.head
    rounded = 0.0
    if fused and recipe.train.compute == "fp8":  # which a GPU multiplies at twice the rate
        operations -= (4 + 2 * share) / 2 * shape.matrices
        forward = 2 * shape.hidden + shape.heads * shape.width + shape.inner
        back = (shape.heads + 2 * shape.kv_heads) * shape.width + 2 * shape.hidden + 2 * shape.inner
        rounded = ROUNDED * shape.layers * (forward * (1 + share) + back)
    moved = shape.layers * (51 * 2 * shape.hidden + 21 * 2 * shape.inner) * (1 + 0.4 * share)
    moved += (WORD if fused else OTHER_WORD) * shape.vocabulary
    moving = 0.0 if at_once.decode_once else DECODED[recipe.model.bits]
    decoded = (2 + share) * moving * shape.matrices / tokens
    read = (
        2 * (2 + share) * shape.matrices / tokens
    )  # the weights, on every way forward and backward, while others multiply
    products = max(operations / (gpu.tflops * 1e12 * RATE), read / (gpu.gbps * 1e9 * BANDWIDTH))
    return products + _attending(shape, gpu, at_once) + (moved + decoded + rounded) / (gpu.gbps * 1e9 * BANDWIDTH)


def _attending(shape: Shape, gpu: Gpu, at_once: MicroBatch) -> float:
    """The seconds for a token's attention to more tokens than where the rates were fitted; windows are not reckoned with."""
    more = max(0.0, at_once.reach - REACH)
    passes = 3.5 + at_once.recomputed / shape.layers  # forward, backward, and forward again
    operations = 4 * more * shape.heads * shape.width * shape.layers * passes
    hopper = any(name in gpu.name for name in ("h100", "h200", "b200"))
    long = hopper and at_once.way == "fused" and 2 * at_once.reach >= LONG
    return operations / (gpu.tflops * 1e12 * (LONG_ROWS if long else SHORT_ROWS))


def launching(recipe: Recipe, shape: Shape, at_once: MicroBatch) -> float:
    """The seconds that a processor takes to launch the work of a micro-batch, forward and backward."""
    decodes = not at_once.decode_once and recipe.model.bits != 16
    kernels = SANDWICH if shape.sandwich else 1.0
    return shape.layers * kernels * LAUNCH_S * (1 + 0.4 * at_once.recomputed / shape.layers + 0.4 * decodes)


def waiting(recipe: Recipe, shape: Shape, gpu: Gpu, most: MicroBatch, octave: int = 8) -> int:
    """The largest size, of micro-batches of up to so many tokens, with which a GPU waits for its processor; 0: with none."""
    launched = launching(recipe, shape, most)
    waits = (
        size
        for size in sizes(most.tokens, octave)
        if size * computing(recipe, shape, gpu, replace(most, tokens=size)) < SLOW * launched
    )
    return max(waits, default=0)


# answering by continuous batching over CUDA graphs, fitted to a 7B shape on one H200 with 8, 64 and 256 rows (docs/performance.md):
# a step's small kernels a layer, the share of the bandwidth that is reached, and the bytes moved to decode a 4-bit number
STEP_S, READ, DECODED_BYTES = 38e-6, 0.85, 3.1
ROWS = 512  # answered at once, where memory allows
DECODED_SHARE = 0.6  # of the free memory that decoded weights may take; the cache wants the rest
OPENING_S = 8.0  # before the first answer of a process: kernels are compiled, steps captured


def answering(recipe: Recipe, shape: Shape, gpu: Gpu, prompts: Sequence[int], free_gb: float) -> float | None:
    """Seconds to answer prompts of these lengths and to evaluate the loss of each, the longest answers supposed; None: not known.

    A step reads the weights and the cache, multiplies, and launches its small kernels; without variable-length attention,
    and in 8 bits, nothing was measured.
    """
    if recipe.model.bits == 8 or not gpu.varlen or not prompts:
        return None
    new, mean = recipe.eval.longest, sum(prompts) / len(prompts)
    decodes = recipe.model.bits == 4 and 2 * shape.matrices > DECODED_SHARE * free_gb * 1e9  # anew in every step
    free = free_gb - (0 if decodes or recipe.model.bits == 16 else 2 * shape.matrices / 1e9)
    batch = answered_at_once(recipe, shape, prompts, free)
    read = 2 * (shape.matrices + shape.head) + batch * (mean + new / 2) * cached(shape)
    products = 2 * (shape.computed + shape.head) / (gpu.tflops * 1e12 * RATE)
    step = read / (gpu.gbps * 1e9 * READ) + batch * products + shape.layers * STEP_S
    if decodes:
        step += DECODED_BYTES * shape.matrices / (gpu.gbps * 1e9 * BANDWIDTH)
    # prompts once, and prompts with their answers once more for the loss
    passes = products * sum(2 * prompt + new for prompt in prompts)
    return math.ceil(len(prompts) / batch) * new * step + passes + OPENING_S


def answered_at_once(recipe: Recipe, shape: Shape, prompts: Sequence[int], free_gb: float) -> int:
    """Rows of a batch of answers: those the recipe names, or as many as the rest of the memory caches."""
    mean = (sum(prompts) / len(prompts) + recipe.eval.longest) * cached(shape)
    return max(1, min(recipe.eval.at_once(ROWS), len(prompts), int(free_gb * 1e9 / mean)))


def cached(shape: Shape) -> int:
    """Bytes of the cache of keys and values, a token, in half precision."""
    return 2 * 2 * shape.layers * shape.kv_heads * shape.width


def sizes(most: int, octave: int) -> Iterator[int]:
    """What is captured of micro-batches up to so many tokens: so many sizes an octave, multiples of STEP."""
    size = 0
    while size < most:
        size = filled(size + 1, octave)
        yield size


def filled(tokens: int, octave: int) -> int:
    """The size that so many tokens are filled up to."""
    step = max(STEP, (1 << max(0, tokens.bit_length() - 1)) // octave)
    return -(-tokens // step) * step
