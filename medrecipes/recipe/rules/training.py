"""What holds of a training, how its best is chosen, and what is swept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from medrecipes.core.errors import did_you_mean
from medrecipes.recipe.rules.names import OPTIMISERS, SCHEDULERS
from medrecipes.recipe.rules.where import Problem, Where, unknown
from medrecipes.recipe.schema import MOST_RUNS, UNREAD, Recipe, Section, Tag, fields

BEST = {"chat": ("bits_per_byte", "loss", "last"), "tag": ("f1", "loss", "last")}
# what changes no training, or what the runs are compared by
NOT_SWEPT = ("name", "build", "eval", "publish", "sweep", "data.path", "train.keep_best")


COLDEST = 0.01
MOST_DRAWN_FROM = 10**12


def names(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Names that the libraries know."""
    for key, value, known in (
        ("train.optim", recipe.train.optim, OPTIMISERS),
        ("train.scheduler", recipe.train.scheduler, SCHEDULERS),
    ):
        if value not in known:
            yield unknown(at, key, value, known)


def steps(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Steps, their warm-up and their batch go together."""
    train = recipe.train
    for one, other in (("max_steps", "epochs"), ("warmup_fraction", "warmup_steps")):
        keys = f"train.{one}", f"train.{other}"
        if at.said(keys[0]) and at.said(keys[1]):
            yield keys, f"{at(keys[0])} contradicts {at(keys[1])}; set one of them"
    warm = train.warmup_steps if train.warmup_fraction is None else 0
    if train.max_steps and warm >= train.max_steps and at.said("train.warmup_steps"):
        yield (
            ("train.max_steps", "train.warmup_steps"),
            f"{at('train.warmup_steps')} = {warm} leaves nothing of {at('train.max_steps')} = {train.max_steps}, so the "
            "learning rate never reaches its peak; lower it",
        )
    if train.micro_batch != "auto" and train.batch % train.micro_batch:
        yield (
            ("train.micro_batch", "train.batch"),
            f"{at('train.micro_batch')} = {train.micro_batch} does not divide train.batch = {train.batch}; choose a divisor",
        )


def unshared(batch: int, micro_batch: int | Literal["auto"], gpus: int) -> str | None:
    """Why so many GPUs cannot make up a step of `train.batch` rows; None where micro_batch x accumulation x GPUs is the batch."""
    if batch % gpus:
        return f"train.batch = {batch} cannot be shared by {gpus} GPUs; choose a multiple"
    share = batch // gpus
    if micro_batch != "auto" and share % min(micro_batch, share):
        return (
            f"train.micro_batch = {micro_batch} does not divide the {share} rows that each of {gpus} GPUs has of "
            f"train.batch = {batch}; choose a divisor of {share}"
        )
    return None


def supervision(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """What is said of answers is of a loss on answers, and of reasoning that is there."""
    train = recipe.train
    for key, value, default in (
        ("train.supervise", train.supervise, "reasoning_and_answer"),
        ("train.turns", train.turns, "all"),
    ):
        if train.loss_on == "all" and value != default:
            keys = key, "train.loss_on"
            yield (
                keys,
                f"{at(key)} = {value!r} contradicts {at(keys[1])} = 'all', which learns whole texts; leave one out",
            )
    if recipe.data.reasoning == "drop":
        for key, said in (("train.supervise", train.supervise == "answer"), ("eval.max_reasoning_tokens", recipe.eval.max_reasoning_tokens)):  # fmt: skip
            if said and not recipe.template.thinking:
                keys = key, "data.reasoning"
                yield keys, f"{at(key)} is about reasoning, which {at(keys[1])} = 'drop' leaves out; leave one out"


def eight_bits(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Nothing keeps a base's matrices from being multiplied in 8-bit floats where the recipe wants it."""
    model, lora, train = recipe.model, recipe.lora, recipe.train
    if train.compute != "fp8":
        return
    for key, value, barred in (
        ("model.engine", "'unsloth'", model.engine == "unsloth"),
        ("model.bits", "8", model.bits == 8),
        ("model.shard", "true", model.shard is True),
        ("lora.dropout", f"{lora.dropout:g}", lora.dropout > 0),
        ("lora.use_dora", "true", lora.use_dora),
        ("train.precision", repr(train.precision), train.precision in ("fp16", "fp32")),
        ("train.padding_free", "false", not (train.padding_free or train.packing)),
    ):
        if barred:
            keys = "train.compute", key
            yield keys, f"{at(keys[0])} = 'fp8' does not go with {at(key)} = {value}; leave one out"


def best(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """The best checkpoint was evaluated."""
    train = recipe.train
    if train.keep_best == "last":
        if train.early_stopping:
            keys = "train.early_stopping", "train.keep_best"
            yield keys, f"{at(keys[0])} contradicts {at(keys[1])} = 'last', which measures nothing; leave one out"
    elif recipe.data.split.dev > 0:
        look, save = train.eval_steps, train.save_steps
        if look == "auto" and save != "auto":
            keys = "train.save_steps", "train.eval_steps"
            yield keys, f"{at(keys[0])} = {save!r} needs evaluations at the same steps, and {keys[1]} = 'auto' chooses its own; set both, or set train.keep_best = 'last'"  # fmt: skip
        elif (
            save != "auto"
            and look != save
            and not (isinstance(look, int) and isinstance(save, int) and save % look == 0)
        ):
            keys = "train.save_steps", "train.eval_steps"
            yield (
                keys,
                f"{at(keys[0])} = {save!r} must be a multiple of {keys[1]} = {look!r}, so that the best checkpoint was "
                "evaluated; change one, or set train.keep_best = 'last'",
            )


def evaluation(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """What draws tokens is asked to draw."""
    if 0 < recipe.eval.temperature < COLDEST:
        yield ("eval.temperature",), f"{at('eval.temperature')} = {recipe.eval.temperature:g} divides by so little that numbers overflow; set at least {COLDEST}, or 0 for the likeliest token"  # fmt: skip
    if recipe.eval.top_p < 1 and recipe.eval.temperature == 0:
        keys = "eval.top_p", "eval.temperature"
        yield keys, f"{at(keys[0])} is read when tokens are drawn; set {keys[1]} above 0, or leave it out"


def task(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Nothing is said that this task does not read."""
    task, best = recipe.task, recipe.train.keep_best
    # tables themselves are left alone: an empty one says nothing, and what stands in one is a key of its own
    tables = {
        key for key, field in fields() if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }
    for key in (key for key, _ in fields() if at.said(key) and key not in tables):
        section = next((name for name in UNREAD[task] if key == name or key.startswith(f"{name}.")), None)
        if section:
            why = f"a {task} recipe has no use for it"
            if section == "template":
                why = "a tag recipe has no chat template, for it trains on words"
            yield (key, "task"), f"{at(key)}: {why}; leave it out, or set another task than {task!r}"
    if best not in BEST[task]:
        known = ", ".join(BEST[task])
        yield (
            ("train.keep_best", "task"),
            f"{at('train.keep_best')} = {best!r} is not measured when task = {task!r}; set one of {known}",
        )
    if task != "tag":
        return
    if recipe.model.engine == "unsloth":
        yield (
            ("model.engine", "task"),
            f"{at('model.engine')} = 'unsloth' has no tagging head; leave it out, or set 'trl'",
        )
    if recipe.tag.focal_gamma != Tag.model_fields["focal_gamma"].default and recipe.tag.loss != "focal":
        yield (
            ("tag.focal_gamma", "tag.loss"),
            f"{at('tag.focal_gamma')} is read with tag.loss = 'focal' only; set that, or leave it out",
        )
    if recipe.tag.overlap * 2 >= recipe.data.max_tokens:
        yield (
            ("tag.overlap", "data.max_tokens"),
            f"{at('tag.overlap')} = {recipe.tag.overlap} must be less than half of data.max_tokens = "
            f"{recipe.data.max_tokens}; lower it",
        )


def grid_size(grid: Mapping[str, Sequence[Any]]) -> int:
    """How many combinations a grid has."""
    return math.prod(len(values) for values in grid.values())


def sweep(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """What is swept changes the training, and a measure chooses."""
    if not recipe.sweep.grid:
        if recipe.sweep.samples:
            yield (
                ("sweep",),
                f'{at("sweep.samples")} draws from nothing; name a key to try, such as "lora.rank" = [8, 16]',
            )
        return
    most = MOST_DRAWN_FROM if recipe.sweep.samples else MOST_RUNS
    if (runs := grid_size(recipe.sweep.grid)) > most:
        cure = "" if recipe.sweep.samples else ", or draw from them with sweep.samples"
        yield ("sweep",), f"{at('sweep')}: makes {runs:,} trainings, and at most {most:,} may be named; give fewer values{cure}"  # fmt: skip
    # what is no table itself
    known = [key for key, field in fields() if not any(k.startswith(f"{key}.") for k, _ in fields())]
    for key, values in recipe.sweep.grid.items():
        here = at(f"sweep.{key}")
        if key not in known:
            yield ("sweep",), f"{here} matches no key of a recipe{did_you_mean(key, known)}"
        elif key.startswith(NOT_SWEPT):
            yield (
                ("sweep",),
                f"{here} cannot be swept: it changes no training, or what runs are compared by; leave it out",
            )
        elif not values:
            yield ("sweep",), f"{here} is empty; give the values to try"
    if recipe.train.keep_best == "last":
        yield ("sweep", "train.keep_best"), f"{at('train.keep_best')} = 'last' measures nothing on dev rows to choose a run by; set a measure"  # fmt: skip
    elif recipe.data.split.dev == 0:
        yield ("sweep", "data.split"), f"{at('data.split')}: dev = 0 leaves no rows to choose a run by; raise it"
    if recipe.train.keep_best == "loss" and "model.base" in recipe.sweep.grid:
        yield (
            ("sweep", "train.keep_best"),
            f"{at('sweep.model.base')}: the losses of different tokenizers do not compare; "
            "set train.keep_best = 'bits_per_byte'",
        )
