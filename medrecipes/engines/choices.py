"""What a recipe leaves to us in training: the layout of batches, whose layers train, and what fits the GPU; each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from medrecipes.core import processes
from medrecipes.core.errors import EngineError
from medrecipes.engines import Choice, generation, has_varlen, plan, require_bf16
from medrecipes.engines.kernels import eight_bit, varlen_attention
from medrecipes.engines.kernels import fused_layer as fused
from medrecipes.engines.plan.dimensions import Gpu, Shape, data_sheet
from medrecipes.engines.plan.memory import GB, Way
from medrecipes.engines.plan.pace import Graphs
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.packing import Layout, Pack, row_lengths, tokens_of


@dataclass(frozen=True)
class Setting:
    """How to train: decided once, before the first step."""

    layout: Layout
    fused: bool
    micro_batch: int
    recomputed: int
    decode_once: bool
    graphs: Graphs | None = None  # how steps are replayed from CUDA graphs; None: they are not
    recordings_gb: float = 0.0  # what CUDA graphs are given


SMALL = 20_000_000  # parameters in the layers of a base, below which a CPU is no faster in half precision


def choose_precision(recipe: Recipe, config: Mapping[str, Any] | None = None) -> tuple[Choice, torch.dtype]:
    """The number format of the computation; `config`: of a base that a CPU may train in half precision."""
    dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if recipe.train.precision != "auto":
        return Choice(recipe.train.precision, "the recipe says so"), dtypes[recipe.train.precision]
    if not torch.cuda.is_available():
        if config is not None and not is_small(config):
            flag = native_bf16()
            return (
                (Choice("bf16", f"the CPU has {flag}"), torch.bfloat16)
                if flag
                else (Choice("fp32", "the CPU has no native bf16"), torch.float32)
            )
        return Choice("fp32", "a CPU gains nothing from half precision at this size"), torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice("bf16", "the GPU computes it natively"), torch.bfloat16
    return Choice("fp16", "the GPU has no native bf16"), torch.float16


def is_small(config: Mapping[str, Any]) -> bool:
    """Whether a base is so small that a CPU keeps it as it was loaded, in fp32."""
    return Shape.of(config).matrices < SMALL


def native_bf16() -> str | None:
    """The instructions with which this CPU computes in bf16, by the name of Linux; None where it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    return next((name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in flags), None)


def choose_shards(recipe: Recipe, config: Mapping[str, Any], dtype: torch.dtype) -> Choice:
    """Whether the GPUs share the base's layers; before any weight is loaded."""
    wanted, gpus, shape = recipe.model.shard, processes.size(), Shape.of(config)
    if gpus == 1:
        return Choice(False, "one GPU")
    reason = plan.unfit(recipe, shape.family) or (
        None if varlen_attention.available(dtype, shape.width) else plan.NO_VARLEN
    )
    if shape.family not in plan.SHARED_FAMILIES:
        reason = reason or f"{shape.family} layers were not proved to be shared"
    if recipe.model.bits == 8:
        reason = reason or "layers in 8 bits were not proved to be shared"
    if recipe.train.compute == "fp8":
        reason = reason or "each GPU keeps its matrices in 8-bit floats"
    if reason and wanted is True:
        raise EngineError(f"model.shard = true: only fused layers can be shared, and there are none: {reason}; set model.shard = false")  # fmt: skip
    if reason or wanted != "auto":
        return Choice(wanted is True, reason or SAID)
    longest = recipe.data.max_tokens
    rows = plan.Rows(lambda size: (size * longest, size * longest))
    whole = plan.choose(
        recipe, shape, plan.Machine(this_gpu(), gpus, recipe.train.memory_gb), "fused", rows, shared=False
    )
    whole = processes.share(whole)  # GPUs may differ by a few bytes in what is free
    needs = f"{whole.gb:.1f} GB planned with the whole base, {whole.limit_gb:.1f} available"
    return Choice(not whole.fits, needs)


class Trains(Protocol):
    """What is asked of an engine that trains."""

    @property
    def name(self) -> str: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def model(self) -> Any: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def choices(self) -> dict[str, Choice]: ...


def choose_setting(trains: Trains, packs: Sequence[Pack], *, shared: bool) -> Setting:
    """Layout, layers, micro-batch and what is recomputed; the reasons go into the engine's choices."""
    engine, recipe, model, dtype, choices = trains.name, trains.recipe, trains.model, trains.dtype, trains.choices
    on_cpu = generation.device_of(model).type == "cpu"
    shape = Shape.of(model.config.to_dict())
    decoded = on_cpu and "weights" in choices and choices["weights"].value == DECODED
    choices["layout"] = layout = _layout(engine, recipe, shape, dtype, on_cpu, decoded)
    if layout.value != "flat":
        choices.pop("attention", None)
    choices["layers"] = layers = _layers(engine, recipe, model, layout.value, decoded)
    own = layers.value == "fused"
    if recipe.train.compute == "fp8":
        choices["compute"] = _eight_bits(recipe, model, layers)
    if on_cpu:
        batch = recipe.train.batch // processes.size()
        wanted, again = recipe.train.micro_batch, recipe.train.checkpointing
        size = (
            Choice(batch, "a CPU has memory to spare") if wanted == "auto" else _micro_batch(min(wanted, batch), recipe)
        )
        some = (
            Choice(0, "a CPU has memory to spare and no time")
            if again == "auto"
            else Choice(shape.layers if again else 0, SAID)
        )
        choices["micro_batch"], choices["checkpointing"] = size, some
        return Setting(layout.value, own, int(size.value), int(some.value), decode_once=own)
    way: Way = "fused" if own else "unsloth" if engine == "unsloth" else "library"
    gpu = this_gpu()
    if "attention" in choices and choices["attention"].value not in (ONE_KERNEL, FLASH_ATTENTION):
        gpu = replace(gpu, varlen=False)
    lengths = sorted(tokens_of(packs), reverse=True)
    steps, reach = plan.count_steps(len(packs), recipe), plan.reach(row_lengths(packs))
    rows = plan.Rows(lambda size: _tokens(lengths, size, layout.value), steps, reach)
    machine = plan.Machine(gpu, processes.size(), recipe.train.memory_gb)
    found = plan.choose(recipe, shape, machine, way, rows, shared)
    found = processes.share(found)  # GPUs may differ by a few bytes in what is free
    fits = f"{found.gb:.1f} GB planned, {found.limit_gb:.1f} available"
    auto = recipe.train.micro_batch == "auto", recipe.train.checkpointing == "auto"
    choices["micro_batch"] = Choice(found.micro_batch, fits) if auto[0] else _micro_batch(found.micro_batch, recipe)
    choices["checkpointing"] = Choice(f"{found.recomputed} of {shape.layers} layers", fits if auto[1] else SAID)
    if own and recipe.train.compute == "fp8":
        choices["weights"] = Choice("rounded once" if found.decode_once else "rounded when needed", fits)
    elif own and recipe.model.bits != 16:
        choices["weights"] = Choice(DECODED if found.decode_once else UNDECODED, fits)
    if own:
        launches = Choice("one by one", "CUDA graphs would not pay here, or not fit")
        if graphs := found.graphs:
            what = f"as CUDA graphs up to {graphs.largest} tokens, {graphs.octave} sizes an octave"
            launches = Choice(what, "with so few at once the GPU would wait")
        choices["launches"] = launches
    room = found.parts.get("CUDA graphs", 0.0)
    return Setting(layout.value, own, found.micro_batch, found.recomputed, found.decode_once, found.graphs, room)


# what Unsloth may attend with and take no more memory than is planned
ONE_KERNEL, FLASH_ATTENTION = "one kernel", "flash-attention"
SAID = "the recipe says so"
# what becomes of 4-bit weights
DECODED, UNDECODED = "decoded once", "decoded when needed"


def _micro_batch(size: int, recipe: Recipe) -> Choice:
    """The micro-batch that the recipe names, or all that one of several GPUs has of a step, where that is less."""
    share = f"all that each of {processes.size()} GPUs has of train.batch = {recipe.train.batch}"
    return Choice(size, SAID if size == recipe.train.micro_batch else share)


def this_gpu() -> Gpu:
    """The GPU at hand, with the memory that is free or already ours."""
    free, _ = torch.cuda.mem_get_info()
    index = torch.cuda.current_device()
    ours = torch.cuda.memory_reserved(index)
    return data_sheet(torch.cuda.get_device_name(index), (free + ours) / GB, varlen=has_varlen())


def _tokens(lengths: Sequence[int], size: int, layout: Layout) -> tuple[int, int]:
    """The most tokens that a micro-batch of so many can hold, and what one holds on the average; longest first."""
    mean = size * sum(lengths) // len(lengths)
    return (lengths[0] * size if layout == "padded" else sum(lengths[:size])), mean


def _layout(engine: str, recipe: Recipe, shape: Shape, dtype: torch.dtype, on_cpu: bool, decoded: bool) -> Choice:
    if on_cpu and not decoded:
        return Choice("padded", "a CPU attends through a mask")
    if not (recipe.train.padding_free or recipe.train.packing):
        return Choice("padded", SAID)
    if shape.capped and (on_cpu or engine != "trl"):
        return Choice("padded", "this base caps its scores, which no kernel of Unsloth's for padding-free rows does")
    if decoded:
        return Choice("flat", "padding-free rows waste nothing on padding, and attend one after the other")
    if engine == "trl" and not varlen_attention.available(dtype, shape.width):
        return Choice("padded", "no variable-length attention for this torch, GPU, precision and width of heads")
    return Choice("flat", "padding-free rows waste nothing on padding")


def _eight_bits(recipe: Recipe, model: Any, layers: Choice) -> Choice:
    """That the frozen matrices are multiplied in 8-bit floats; raises where they cannot be."""
    why = None if layers.value == "fused" else layers.reason
    if why := why or eight_bit.unfit([fused.projections(layer) for layer in fused.decoder(model).layers]):
        require_bf16(recipe, why)
    return Choice("fp8", "the recipe says so; frozen matrices in e4m3, a scale for each row, all else in bf16")


def _layers(engine: str, recipe: Recipe, model: Any, layout: Layout, decoded: bool) -> Choice:
    """Whose decoder layers train; `decoded`: of a 4-bit base that a CPU has decoded."""
    if engine == "unsloth" and not decoded:
        return Choice("unsloth", "its own")
    if layout != "flat":
        return Choice("library", "the fused ones want padding-free rows")
    if reason := fused.unfit(model, recipe, cpu=decoded):
        return Choice("library", reason)
    return Choice("fused", "one function a layer, proved equal to the library's")
