"""What `medrecipes plan` says: memory by part, what fits, and how long it takes, before any weight is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from medrecipes.core.errors import MedRecipesError, UnreachableError, did_you_mean
from medrecipes.core.trust import admit
from medrecipes.data.grouping import subset
from medrecipes.data.records import Conversation, kind
from medrecipes.data.split import prepare
from medrecipes.data.tagged_split import prepare_tagged
from medrecipes.engines import choose_engine
from medrecipes.engines.bases import Base, open_base
from medrecipes.engines.plan import NO_VARLEN, Machine, Plan, Rows, choose, count_steps, reach, tag_micro_batch, unfit
from medrecipes.engines.plan.dimensions import GPUS, Gpu, Shape
from medrecipes.engines.plan.evaluations import Cost, at_most, schedule
from medrecipes.engines.plan.memory import GB, SLACK, MicroBatch, Way, parts, trainable
from medrecipes.engines.plan.pace import answering
from medrecipes.engines.plan.shipped_bases import shape_of, tokens_of
from medrecipes.evaluation.answers import held_out
from medrecipes.recipe.rules.training import unshared
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.base_template import base_template
from medrecipes.rendering.chat_template import Example
from medrecipes.rendering.mixing import labels, mix
from medrecipes.rendering.overflow import fit_parts, told
from medrecipes.rendering.stored_examples import lengths_of
from medrecipes.rendering.word_windows import windows

HERE = "this"


def find_gpu(name: str) -> Gpu:
    """A GPU by name, by its memory (`24GB`), or the one in this machine."""
    if name == HERE:
        return _own()
    key = name.lower().replace(" ", "")
    if key in GPUS:
        return GPUS[key]
    if key.endswith("gb") and key.removesuffix("gb").replace(".", "", 1).isdigit():
        size = float(key.removesuffix("gb"))
        # the next smaller GPU that is known lends its speed
        like = max((c for c in GPUS.values() if c.gb <= size and c.varlen), key=lambda c: c.gb, default=GPUS["rtx3050"])
        return Gpu(f"{size:g} GB GPU, as fast as a {like.name}", size, like.tflops, like.gbps)
    raise MedRecipesError(f"--gpu {name} is unknown{did_you_mean(name, GPUS)}; one of {', '.join(GPUS)}, or e.g. 24GB")


def _own() -> Gpu:
    if (found := here()) is None:
        raise MedRecipesError(
            f"plan: this machine has no NVIDIA GPU; name one: --gpu {'|'.join(GPUS)}, or e.g. --gpu 24GB"
        )
    return found


def here() -> Gpu | None:
    """The GPU in this machine, if it has one."""
    import torch

    if not torch.cuda.is_available():
        return None
    from medrecipes.engines.choices import this_gpu

    return this_gpu()


def outlook(recipe: Recipe, name: str, gpus: int) -> dict[str, Any]:
    """The plan of a recipe for a GPU, as plain values."""
    gpu = find_gpu(name)
    if recipe.model.base.startswith("tiny:"):
        raise MedRecipesError(
            f"model.base = {recipe.model.base!r}: three million parameters fit any GPU; plan a real base"
        )
    if wrong := unshared(recipe.train.batch, recipe.train.micro_batch, gpus):
        raise MedRecipesError(f"--gpus {gpus}: {wrong}")
    base, shape, notes = _at_hand(recipe)
    if recipe.task == "tag":
        return _tagging(recipe, base, shape, gpu, notes)
    counted = _rows(recipe, base) if base else _estimated(recipe, shape)
    planned = _planned(recipe, shape, gpu, gpus, counted)
    found, tokens, way = planned.plan, planned.tokens, planned.way
    return {
        "base": recipe.model.base, "parameters": shape.parameters, "trained": trainable(recipe, shape),
        "GPU": gpu.name, "gpus": gpus, "engine": planned.engine, "layers": way, "why": planned.slow,
        "parts_gb": {name: round(size, 2) for name, size in found.parts.items()}, "gb": round(found.gb, 2),
        "limit_gb": round(found.limit_gb, 2), "fits": found.fits, "micro_batch": found.micro_batch,
        "accumulation": recipe.train.batch // found.micro_batch // gpus, "recomputed": found.recomputed,
        "of_layers": shape.layers, "decode_once": found.decode_once, "shards": found.shards, "recorded": found.graphs.largest if found.graphs else 0,
        "tokens_per_second": round(found.tokens_per_second),
        "tokens": tokens, "seconds": round(tokens / found.tokens_per_second) if tokens else None,
        "advice": advice(recipe, found), "notes": [*notes, *counted.notes],
        "stages": _stages(recipe, shape, gpu, counted, planned),
    }  # fmt: skip


def _at_hand(recipe: Recipe) -> tuple[Base | None, Shape, list[tuple[str, str]]]:
    """The base and its dimensions, or of one that a shipped recipe names and that cannot be had, what its makers publish."""
    model = recipe.model
    try:
        base = open_base(model.base, model.revision)
    except MedRecipesError as error:
        shape = shape_of(model.base)
        if shape is None or not (isinstance(error, UnreachableError) or model.base.startswith("package:")):
            raise
        return None, shape, [("note", f"{model.base} is not at hand: planned by its published dimensions, and tokens are estimated from letters")]  # fmt: skip
    admit(model, base)
    return base, Shape.of(base.config), []


def _estimated(recipe: Recipe, shape: Shape) -> Counted:
    """What the rows count without the base's tokenizer and template, about; nothing where the data is not at hand."""
    if not _has_rows(recipe):
        return Counted()
    split, most = prepare(recipe), recipe.data.max_tokens

    def whole(row: Conversation) -> int:
        return tokens_of([message.content for message in row.messages], shape)

    keeps = recipe.data.on_overflow != "drop"
    train = [min(size, most) for size in map(whole, split.train) if keeps or size <= most]
    dev = [Example(row.id, row.group, [0] * min(whole(row), most), [], kind=kind(row.meta)) for row in split.dev]
    asked = [tokens_of([message.content for message in row.prompt()], shape) for row in split.held_out[: recipe.eval.rows]]  # fmt: skip
    return Counted(train, dev, asked)


def estimate(recipe: Recipe, config: dict[str, Any], counted: Counted, gpu: Gpu, gpus: int) -> str:
    """How long a run takes whose rows are counted, in a line: what the plan reckons of its stages, and which it does not."""
    shape = Shape.of(config)
    planned = _planned(recipe, shape, gpu, gpus, counted)
    if not planned.plan.fits:
        return ""
    stages = _stages(recipe, shape, gpu, counted, planned)
    known = {name: seconds for name, seconds in stages.items() if seconds is not None}
    if "train" not in known:
        return ""
    each = ", ".join(f"{name} {_time(seconds)}" for name, seconds in known.items())
    return f"about {_time(sum(known.values()))} on {f'{gpus} x ' if gpus > 1 else ''}{gpu.name}, by the plan: {each}"


@dataclass(frozen=True)
class Planned:
    """What a plan chose for a GPU, and the tokens that are trained on, where they are known."""

    engine: str
    way: Way
    slow: str | None
    plan: Plan
    tokens: int | None


def _planned(recipe: Recipe, shape: Shape, gpu: Gpu, gpus: int, counted: Counted) -> Planned:
    slow = unfit(recipe, shape.family) if gpu.varlen else NO_VARLEN
    engine = choose_engine(recipe, cuda=True, processes=gpus, slow=slow, caps=shape.capped).value
    way: Way = "unsloth" if engine == "unsloth" else "fused" if slow is None else "library"
    lengths = counted.train
    rows, longest = len(lengths), max(lengths, default=0)
    mean = sum(lengths) // max(rows, 1)
    packing = recipe.train.packing
    per_row = (recipe.data.max_tokens, recipe.data.max_tokens) if packing else (longest or recipe.data.max_tokens, mean or recipe.data.max_tokens // 4)  # fmt: skip
    steps = count_steps(rows * mean // per_row[1], recipe) or 1000
    trained = Rows(lambda size: (size * per_row[0], size * per_row[1]), steps, reach(lengths))
    found = choose(recipe, shape, Machine(gpu, gpus, recipe.train.memory_gb), way, trained)
    tokens = int(rows * mean * recipe.train.epochs) if rows and not recipe.train.max_steps else None
    if recipe.train.max_steps:
        tokens = recipe.train.max_steps * recipe.train.batch * per_row[1]
    return Planned(engine, way, slow, found, tokens)


# of a run, in its order, as run.json has them
STAGES = ("data", "base", "tokens", "proofs", "load", "evaluate (base)", "train", "evaluate (tuned)")


def _stages(recipe: Recipe, shape: Shape, gpu: Gpu, counted: Counted, planned: Planned) -> dict[str, int | None]:
    """The seconds of every stage of a run; None where nothing was measured to reckon them from."""
    stages: dict[str, float | None] = dict.fromkeys(STAGES)
    plan, tokens = planned.plan, planned.tokens
    if tokens and counted.train:
        chosen = subset([e.id for e in counted.dev], [e.kind for e in counted.dev], at_most(recipe, len(counted.dev)), recipe.seed)  # fmt: skip
        dev = lengths_of(counted.dev).tolist()
        cost = Cost.of(
            recipe, counted.train, dev, chosen, first=True, passes=1 if recipe.train.loss_on == "answers" else 2
        )
        packed = -(-sum(counted.train) // recipe.data.max_tokens) if recipe.train.packing else len(counted.train)
        times = schedule(recipe, packed, cost, len(chosen)).times(count_steps(packed, recipe), recipe.train.epochs)
        stages["train"] = tokens / plan.tokens_per_second * (1 + cost.share(times))
    free = plan.limit_gb - sum(plan.parts.get(name, 0.0) for name in ("weights", "words"))
    answered = answering(recipe, shape, gpu, counted.prompts, free)
    stages |= {"evaluate (base)": answered, "evaluate (tuned)": answered}
    return {name: None if seconds is None else round(seconds) for name, seconds in stages.items()}


def _tagging(
    recipe: Recipe, base: Base | None, shape: Shape, gpu: Gpu, notes: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The plan of a tagging run: a head that is as wide as there are tags, on fused layers where they fit."""
    lengths, labels = [recipe.data.max_tokens], 5
    if recipe.data.path:  # a look at the plan fetches nothing
        split = prepare_tagged(recipe)
        labels = len(split.labels)
        if base:
            found = windows(base.tokenizer, split.train, split.labels, recipe.data.max_tokens, recipe.tag.overlap)
            lengths = [len(window.input_ids) for window in found]
        else:
            lengths = [min(recipe.data.max_tokens, tokens_of([" ".join(row.tokens)], shape)) for row in split.train]
    lengths.sort(reverse=True)
    slow = unfit(recipe, shape.family) if gpu.varlen else NO_VARLEN
    plan = _padded_tags(recipe, shape, gpu, lengths[0]) if slow else _packed_tags(recipe, shape, gpu, lengths)
    # there is no head over the vocabulary
    tied = replace(shape, tied=True)
    at_once = MicroBatch(plan.way, plan.micro_batch * lengths[0], plan.recomputed, plan.decode_once)
    held = plan.parts | {"weights": parts(recipe, tied, at_once)["weights"]}
    held["words"] = parts(recipe, replace(tied, vocabulary=labels), at_once)["words"]
    gb = sum(held.values())
    ways = "lower train.micro_batch, set train.checkpointing = true, or choose a smaller base"
    return {
        "base": recipe.model.base, "parameters": shape.parameters, "trained": trainable(recipe, shape),
        "GPU": gpu.name, "gpus": 1, "engine": "trl", "layers": plan.way, "why": slow,
        "parts_gb": {name: round(size, 2) for name, size in held.items()}, "gb": round(gb, 2), "limit_gb": round(plan.limit_gb, 2),
        "fits": gb <= plan.limit_gb, "micro_batch": plan.micro_batch, "accumulation": recipe.train.batch // plan.micro_batch,
        "recomputed": plan.recomputed, "of_layers": shape.layers, "decode_once": plan.decode_once, "shards": 1,
        "recorded": plan.graphs.largest if plan.graphs else 0,
        "tokens_per_second": None, "tokens": int(sum(lengths) * recipe.train.epochs) if recipe.data.path else None, "seconds": None,
        "advice": "" if gb <= plan.limit_gb else f"does not fit: {gb:.1f} GB of {plan.limit_gb:.1f}; {ways}", "notes": list(notes),
        "stages": dict.fromkeys(STAGES),
    }  # fmt: skip


def _packed_tags(recipe: Recipe, shape: Shape, gpu: Gpu, lengths: Sequence[int]) -> Plan:
    """Windows laid end to end through the fused layers, as `choose_setting` has them; longest first."""
    mean = sum(lengths) / len(lengths)
    trained = Rows(
        lambda size: (sum(lengths[:size]), int(size * mean)), count_steps(len(lengths), recipe), reach(lengths)
    )
    return choose(recipe, shape, Machine(gpu, 1, recipe.train.memory_gb), "fused", trained, shared=False)


def _padded_tags(recipe: Recipe, shape: Shape, gpu: Gpu, longest: int) -> Plan:
    """Windows padded to the longest, through the library's layers."""
    micro_batch = tag_micro_batch(recipe, longest)
    recomputed = shape.layers if recipe.train.checkpointing not in ("auto", False) else 0
    held = parts(recipe, shape, MicroBatch("library", micro_batch * longest, recomputed, decode_once=False))
    limit = (recipe.train.memory_gb or gpu.gb) * (1 - SLACK["library"])
    return Plan("library", micro_batch, recomputed, False, None, 1, held, limit, 0.0)


@dataclass(frozen=True)
class Counted:
    """Tokens of every training row and of the prompts that are answered, the dev rows, and what is to be said of them."""

    train: Sequence[int] = ()
    dev: Sequence[Example] = ()
    prompts: Sequence[int] = ()
    notes: Sequence[tuple[str, str]] = ()


def _rows(recipe: Recipe, base: Base) -> Counted:
    """What the rows count; nothing where the data is not at hand."""
    if not _has_rows(recipe):
        return Counted()
    split = prepare(recipe)
    template = base_template(recipe, base.tokenizer, recipe.model.base, split.rows)
    fitted = fit_parts(template, split.parts(), recipe.data, split.stage_key)
    train = mix(recipe, fitted["train"].examples, labels(split.report)).of(fitted["train"].examples)
    asked = held_out(recipe, fitted["held out"])
    prompts = [len(example.input_ids) - example.supervised for _, example in asked]
    return Counted(lengths_of(train).tolist(), fitted["dev"].examples, prompts, told(fitted, recipe.data))


def _has_rows(recipe: Recipe) -> bool:
    """Whether the data is at hand: a look at the plan fetches nothing."""
    return bool(recipe.data.path or all(entry.path for entry in recipe.data.entries))


def advice(recipe: Recipe, plan: Plan) -> str:
    """What to change when it does not fit."""
    if plan.fits:
        return ""
    ways = []
    if recipe.train.checkpointing not in ("auto", True):
        ways.append("set train.checkpointing = 'auto'")
    if recipe.train.micro_batch not in ("auto", 1):
        ways.append("set train.micro_batch = 'auto'")
    if recipe.model.bits != 4:
        ways.append("set model.bits = 4")
    ways += ["lower data.max_tokens", "choose a smaller base"]
    if plan.way == "fused" and recipe.model.shard is not False:
        ways.append("share the base among more GPUs: --gpus N")
    return f"does not fit: {plan.gb:.1f} GB of {plan.limit_gb:.1f}; " + ", or ".join(ways)


def lines(found: dict[str, Any]) -> list[str]:
    """The plan as a small table."""
    gpus = f"{found['gpus']} x {found['GPU']}" if found["gpus"] > 1 else found["GPU"]
    said = [f"{found['base']} ({found['parameters'] / GB:.2f} billion parameters, {found['trained'] / 1e6:.1f} million trainable parameters) on {gpus}"]  # fmt: skip
    why = f" (not fused: {found['why']})" if found["why"] else ""
    said += [f"engine {found['engine']}, {found['layers']} layers{why}"]
    said += [f"{kind}: {text}" for kind, text in found["notes"]]
    said += [""]
    said += [f"  {name:<20} {size:>7.2f} GB" for name, size in found["parts_gb"].items()]
    said += [f"  {'in all':<20} {found['gb']:>7.2f} GB of {found['limit_gb']:.2f} available", ""]
    if not found["fits"]:
        return said
    weights = ", weights decoded once" if found["decode_once"] else ""
    weights += f", launches as CUDA graphs up to {found['recorded']} tokens" if found["recorded"] else ""
    weights += f", the base shared among {found['shards']} GPUs" if found["shards"] > 1 else ""
    gpus = f" x {found['gpus']} GPUs" if found["gpus"] > 1 else ""
    said.append(
        f"micro-batch {found['micro_batch']} x accumulation {found['accumulation']}{gpus}; "
        f"{found['recomputed']} of {found['of_layers']} layers with gradient checkpointing{weights}"
    )
    rate = found["tokens_per_second"]
    if rate is None:
        said.append("how long it takes is not known: its steps are so small that the processor's pace decides")
        return said
    took = f"{found['tokens']:,} tokens: {_time(found['seconds'])}" if found["tokens"] else f"a million tokens: {_time(1e6 / rate)}"  # fmt: skip
    said.append(f"about {rate:,} tokens/s, {took} (measured on an H200, else reckoned from data sheets)")
    if not found["tokens"]:
        return [
            *said,
            "",
            "training and evaluation are not reckoned, for the data is not at hand; name it: --set data.path=FILE",
        ]
    return [*said, "", *_stage_lines(found["stages"])]


def _stage_lines(stages: dict[str, int | None]) -> list[str]:
    """The stages of a run and how long each takes, where that is known."""
    said = [f"  {name:<20} {_time(seconds):>10}" for name, seconds in stages.items() if seconds is not None]
    said += [f"not known before: {', '.join(name for name, seconds in stages.items() if seconds is None)}"]
    if stages["train"] is not None:
        said.append("training with its evaluations of dev rows; checkpoints and compilation left out")
    if stages["evaluate (base)"] is not None:
        said.append("answers of the greatest length, launched at the pace of one H200's processor")
    return said


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
