"""What no single key of a recipe can know: which values go together, and which names exist."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from medrecipes.errors import did_you_mean
from medrecipes.layers import Origin
from medrecipes.naming import pattern_problem
from medrecipes.recipe import UNREAD, Columns, Data, Mix, Recipe, Section, Tag, fields, source_names, template_names
from medrecipes.sources import open_source

# the keys that a problem is about, and the problem
Problem = tuple[tuple[str, ...], str]

# bases that are built on the spot, and the architecture of each
TINY = {
    "tiny:gemma": "gemma",
    "tiny:gemma2": "gemma2",
    "tiny:gemma3": "gemma3",
    "tiny:llama2": "llama",
    "tiny:llama3": "llama",
    "tiny:mistral": "mistral",
}
HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
# transformers' names, without those that need a package of their own or no LoRA can use; a test compares them
OPTIMISERS = (
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit",
    "ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit",
    "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit",
    "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "adafactor", "adagrad", "sgd",
)  # fmt: skip
TORCH_OPTIMISERS = ("adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "rmsprop", "sgd")
SCHEDULERS = (
    "linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt", "cosine_with_restarts", "polynomial",
)  # fmt: skip


class Where:
    """Names a key with the file and line that set it, e.g. `recipes/demo.toml:12: lora.rank`."""

    def __init__(self, origins: Mapping[str, Origin], path: Path) -> None:
        self._origins, self._path = origins, path

    def __call__(self, key: str) -> str:
        near = key
        while near and near not in self._origins:  # an entry of a list was set where the list was
            near = near.rpartition(".")[0]
        return f"{self._origins.get(near, Origin(str(self._path)))}: {key}"

    def said(self, key: str) -> bool:
        """Whether some file or `--set` gave the key, rather than the schema."""
        return key in self._origins


def broken(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """Every rule that the recipe breaks."""
    for rule in (
        _base,
        _bits,
        _data,
        _mixture,
        _templates,
        _build,
        _split,
        _lora,
        _names,
        _steps,
        _best,
        _eval,
        _task,
        _publish,
        _shared,
        _sweep,
    ):
        yield from rule(recipe, at)


def _unknown(at: Where, key: str, value: str, known: Iterable[str]) -> Problem:
    return (key,), f"{at(key)} = {value!r} is unknown{did_you_mean(value, known)}"


def _base(recipe: Recipe, at: Where) -> Iterator[Problem]:
    base, key = recipe.model.base, ("model.base",)
    if base.startswith("tiny:"):
        if base not in TINY:
            yield _unknown(at, "model.base", base, TINY)
    elif not base.startswith((".", "/", "~")) and not HUB_ID.fullmatch(base) and not Path(base).is_dir():
        # a name before a colon is meant as tiny:
        hint = did_you_mean(base, TINY) if ":" in base else ""
        text = "is neither OWNER/NAME on the Hub, nor a folder, nor tiny:FAMILY"
        yield key, f"{at('model.base')} = {base!r} {text}{hint or '; correct it'}"
    local = base.startswith(("tiny:", ".", "/", "~")) or Path(base).is_dir()
    if local and recipe.model.revision != "main":
        yield (*key, "model.revision"), f"{at('model.revision')} is read for bases of the Hub only; leave it out"


def _bits(recipe: Recipe, at: Where) -> Iterator[Problem]:
    model, keys = recipe.model, ("model.bits",)
    if model.bits != 4:
        for name, default in (("quant_type", "nf4"), ("double_quant", True)):
            if getattr(model, name) != default:
                key = f"model.{name}"
                yield (
                    (*keys, key),
                    f"{at(key)} is for 4 bits and contradicts {at('model.bits')} = {model.bits}; set one",
                )
    if model.base.endswith("-bnb-4bit"):
        if model.bits != 4:
            yield (
                (*keys, "model.base"),
                f"{at('model.bits')} = {model.bits} contradicts {at('model.base')}, whose weights are published in "
                f"4 bits; name {model.base.removesuffix('-bnb-4bit').removesuffix('-unsloth')} instead, or set 4",
            )
        elif model.quant_type != "nf4":
            yield (
                ("model.quant_type", "model.base"),
                f"{at('model.quant_type')} = {model.quant_type!r} contradicts {at('model.base')}, whose weights are "
                "published in nf4; name its 16-bit form instead, or set nf4",
            )
    if model.cpu_offload and model.bits != 8:
        yield (*keys, "model.cpu_offload"), f"{at('model.cpu_offload')} works with model.bits = 8 only; set that, or leave it out"  # fmt: skip
    optim = recipe.train.optim
    if model.cpu_offload and model.bits == 8 and optim not in TORCH_OPTIMISERS and optim in OPTIMISERS:
        yield (
            ("model.cpu_offload", "train.optim"),
            f"{at('train.optim')} = {optim!r} updates what lies on the card only, and {at('model.cpu_offload')} keeps "
            "layers on the CPU; set train.optim = 'adamw_torch'",
        )
    if model.skip_modules and model.bits == 16:
        yield (*keys, "model.skip_modules"), f"{at('model.skip_modules')} means nothing with model.bits = 16; leave it out"  # fmt: skip
    init = recipe.lora.init
    if init in ("pissa", "loftq") and model.bits != 16:
        yield (
            (*keys, "lora.init"),
            f"{at('lora.init')} = {init!r} takes the weights apart, which quantised ones do not allow; "
            "set model.bits = 16, or lora.init = 'default'",
        )


def _entries(data: Data) -> list[tuple[str, Mix]]:
    """The datasets of a recipe, each with the key that names it."""
    if not data.mix:
        return [("data", data.entries[0])]
    return [(f"data.mix.{position}", entry) for position, entry in enumerate(data.mix)]


def _data(recipe: Recipe, at: Where) -> Iterator[Problem]:
    names = source_names()
    for place, entry in _entries(recipe.data):
        source, path, columns = f"{place}.source", f"{place}.path", f"{place}.columns"
        if entry.source not in names:
            yield _unknown(at, source, entry.source, names)
        if entry.path and not entry.path.exists():
            yield (path,), f"{at(path)} = {str(entry.path)!r} does not exist; correct it, or leave it out"
        if entry.source == "jsonl" and not entry.path:
            yield (source, path), f"{at(path)} is missing; source jsonl reads a file of your own, name it"
        if entry.source != "jsonl" and entry.columns != Columns():
            yield (source, columns), f"{at(columns)} is read by source jsonl only; leave it out, or change the source"
    cases = recipe.eval.cases
    if cases and not cases.is_file():
        yield ("eval.cases",), f"{at('eval.cases')} = {str(cases)!r} does not exist; correct it, or leave it out"


def _mixture(recipe: Recipe, at: Where) -> Iterator[Problem]:
    data = recipe.data
    if not data.mix:
        return
    for key in ("source", "columns", "revision"):
        if getattr(data, key) != Data.model_fields[key].default:
            yield (f"data.{key}", "data.mix"), f"{at(f'data.{key}')} contradicts {at('data.mix')}; set it within the mixture"  # fmt: skip
    if len({entry.weight is None for entry in data.mix}) > 1:
        yield ("data.mix",), f"{at('data.mix')}: some entries have a weight and some have none; give all one, or none"
    if data.path and not data.path.is_dir():
        yield ("data.path", "data.mix"), f"{at('data.path')} = {str(data.path)!r} is no folder; with data.mix it must be one"  # fmt: skip


def _templates(recipe: Recipe, at: Where) -> Iterator[Problem]:
    names = template_names()
    if recipe.template.name not in names:
        yield _unknown(at, "template.name", recipe.template.name, names)
    for model, template in recipe.build.models.items():
        if template not in names:
            yield _unknown(at, f"build.models.{model}", template, names)


def _build(recipe: Recipe, at: Where) -> Iterator[Problem]:
    known = {entry.source for entry in recipe.data.entries}
    for position, built in enumerate(recipe.build.sets):
        place = f"build.sets.{position}"
        for name in sorted(set(built.sources) - known):
            hint = did_you_mean(name, known)
            yield (place, "data.mix"), f"{at(f'{place}.sources')}: {name!r} is none of the recipe's own data{hint}"
        if ("{model}" in built.name) != bool(recipe.build.models):
            yield (place, "build.models"), f"{at(f'{place}.name')}: needs {{model}} if and only if build.models is set"


def _split(recipe: Recipe, at: Where) -> Iterator[Problem]:
    split, train = recipe.data.split, recipe.train
    if abs(split.train + split.dev + split.test - 1) > 1e-6 or split.train == 0:
        yield ("data.split",), f"{at('data.split')}: train, dev and test must sum to 1, train above 0"
    wants_dev = [key for key in ("keep_best", "early_stopping") if at.said(f"train.{key}")]
    if split.dev == 0 and train.keep_best != "last" and wants_dev:
        key = f"train.{wants_dev[0]}"
        yield ("data.split", key), f"{at(key)} needs dev rows; raise data.split.dev, or set train.keep_best = 'last'"


def _lora(recipe: Recipe, at: Where) -> Iterator[Problem]:
    targets, key = recipe.lora.targets, "lora.targets"
    if not targets:
        yield (key,), f"{at(key)} is empty, so nothing would be trained; name modules, or 'all-linear'"
    if "all-linear" in targets and len(targets) > 1:
        yield (key,), f"{at(key)}: 'all-linear' stands for all of them; leave the other names out"
    if recipe.model.engine == "plain" and "lm_head" in targets:
        yield (
            (key, "model.engine"),
            f"{at(key)}: 'lm_head' cannot be trained with {at('model.engine')} = 'plain', whose loss reads the head's "
            "weights past an adapter; set model.engine = 'unsloth', which trains the head whole, or leave it out",
        )
    for name in sorted({name for name in targets if targets.count(name) > 1}):
        yield (key,), f"{at(key)}: {name!r} stands there twice; leave one out"


def _names(recipe: Recipe, at: Where) -> Iterator[Problem]:
    for key, value, known in (
        ("train.optim", recipe.train.optim, OPTIMISERS),
        ("train.scheduler", recipe.train.scheduler, SCHEDULERS),
    ):
        if value not in known:
            yield _unknown(at, key, value, known)


def _steps(recipe: Recipe, at: Where) -> Iterator[Problem]:
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


def _best(recipe: Recipe, at: Where) -> Iterator[Problem]:
    train = recipe.train
    if train.keep_best == "last":
        if train.early_stopping:
            keys = "train.early_stopping", "train.keep_best"
            yield keys, f"{at(keys[0])} contradicts {at(keys[1])} = 'last', which measures nothing; leave one out"
    elif recipe.data.split.dev > 0:
        look, save = train.eval_steps, train.save_steps
        if look != save and not (isinstance(look, int) and isinstance(save, int) and save % look == 0):
            keys = "train.save_steps", "train.eval_steps"
            what = f"{at(keys[0])} = {save!r} must be a multiple of {keys[1]} = {look!r}"
            if at.said(keys[1]) and not at.said(keys[0]):
                what = f"{at(keys[1])} = {look!r} must divide {keys[0]} = {save!r}"
            yield (
                keys,
                f"{what}, so that the best checkpoint was looked at; change one, or set train.keep_best = 'last'",
            )


def _eval(recipe: Recipe, at: Where) -> Iterator[Problem]:
    if recipe.eval.top_p < 1 and recipe.eval.temperature == 0:
        keys = "eval.top_p", "eval.temperature"
        yield keys, f"{at(keys[0])} is read when tokens are drawn; set {keys[1]} above 0, or leave it out"


BEST = {"chat": ("bits_per_byte", "loss", "last"), "tag": ("f1", "loss", "last")}


def _task(recipe: Recipe, at: Where) -> Iterator[Problem]:
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
            f"{at('model.engine')} = 'unsloth' has no tagging head; leave it out, or set 'plain'",
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


def _publish(recipe: Recipe, at: Where) -> Iterator[Problem]:
    publish = recipe.publish
    for key, pattern in (("publish.repo", publish.repo), ("publish.dataset_repo", publish.dataset_repo)):
        if problem := pattern_problem(key, pattern):
            yield (key,), f"{at(key)} {problem}"
    if not publish.formats:
        yield ("publish.formats",), f"{at('publish.formats')} is empty, so nothing would be released; name 'adapter'"
    if publish.push and set(publish.formats) - {"adapter"}:
        keys = "publish.push", "publish.formats"
        text = "what is exported exists only after the run; release it by hand with `medrecipes publish RUN --push`"
        yield keys, f"{at(keys[0])} contradicts {at(keys[1])}: {text}"
    if publish.create_pr and publish.tag:
        keys = "publish.create_pr", "publish.tag"
        yield keys, f"{at(keys[0])} contradicts {at(keys[1])}: a tag stands at a commit of a branch; leave one out"


def _shared(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """What the end of a run would refuse to push is said before it begins."""
    known = source_names()
    for place, entry in _entries(recipe.data):
        if not recipe.publish.push or entry.source not in known:
            continue
        source, keys = open_source(entry.source), ("publish.push", f"{place}.source")
        if source.redistributable != "yes":
            why = "states no licence" if source.licence == "unknown" else f"is under {source.licence}, which does not let it be passed on"  # fmt: skip
            yield (
                keys,
                f"{at(keys[0])} contradicts {at(keys[1])} = {entry.source!r}: {source.title} {why}; leave it out, or set "
                "publish.push = false and release by hand with `medrecipes publish RUN --push --waive licence`",
            )


# what changes no training, or what the runs are compared by
NOT_SWEPT = ("name", "build", "eval", "publish", "sweep", "data.path", "train.keep_best")


def _sweep(recipe: Recipe, at: Where) -> Iterator[Problem]:
    if not recipe.sweep.grid:
        if recipe.sweep.samples:
            yield (
                ("sweep",),
                f'{at("sweep.samples")} draws from nothing; name a key to try, such as "lora.rank" = [8, 16]',
            )
        return
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
