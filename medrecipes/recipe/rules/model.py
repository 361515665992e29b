"""What holds of the base, its numbers and the adapter on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from medrecipes.core.errors import did_you_mean, shown
from medrecipes.recipe.local_bases import is_local, made_here
from medrecipes.recipe.rules.names import OPTIMISERS, TINY, TORCH_OPTIMISERS
from medrecipes.recipe.rules.where import Problem, Where, unknown
from medrecipes.recipe.schema import Recipe

HUB_ID = re.compile(r"(?=.{1,96}$)[\w.-]+(?:/[\w.-]+)?")  # the Hub's own limit
UNADAPTED = {"lm_head", "embed_tokens"}  # trained whole, if at all


def base(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """The base is one that can be had."""
    base, key = recipe.model.base, ("model.base",)
    if base.startswith("tiny:"):
        if base not in TINY:
            yield unknown(at, "model.base", base, TINY)
    elif not is_local(base) and not base.startswith("package:") and not HUB_ID.fullmatch(base):
        # a name before a colon is meant as tiny:
        hint = did_you_mean(base, TINY) if ":" in base else ""
        text = "is neither OWNER/NAME on the Hub, nor a folder, nor tiny:FAMILY"
        yield key, f"{at('model.base')} = {shown(base)} {text}{hint or '; correct it'}"
    if base.startswith("tiny:") and recipe.model.trust_remote_code:
        yield (
            (*key, "model.trust_remote_code"),
            f"{at('model.trust_remote_code')} asks for code of a base, and {base} is built here without any; leave it out",
        )
    if (is_local(base) or made_here(base)) and recipe.model.revision != "main":
        yield (*key, "model.revision"), f"{at('model.revision')} is read for bases of the Hub only; leave it out"


def bits(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """What is quantised, and what is not."""
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
            f"{at('train.optim')} = {optim!r} updates what lies on the GPU only, and {at('model.cpu_offload')} keeps "
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


def lora(recipe: Recipe, at: Where) -> Iterator[Problem]:
    """The adapter learns something, and can."""
    targets, key = recipe.lora.targets, "lora.targets"
    if not targets:
        yield (key,), f"{at(key)} is empty, so nothing would be trained; name modules, or 'all-linear'"
    if "all-linear" in targets and len(targets) > 1:
        yield (key,), f"{at(key)}: 'all-linear' stands for all of them; leave the other names out"
    if recipe.model.engine == "trl" and "lm_head" in targets:
        yield (
            (key, "model.engine"),
            f"{at(key)}: 'lm_head' cannot be trained with {at('model.engine')} = 'trl', whose loss reads the head's "
            "weights past an adapter; set model.engine = 'unsloth', which trains the head whole, or leave it out",
        )
    if recipe.task == "chat" and targets and not set(targets) - UNADAPTED:
        what = " and ".join(map(repr, sorted(set(targets))))
        yield (key,), f"{at(key)}: {what} alone would leave the adapter empty, which sits in the layers between; name some of those too, such as 'q_proj'"  # fmt: skip
    for name in sorted(name for name, times in Counter(targets).items() if times > 1):
        yield (key,), f"{at(key)}: {shown(name)} stands there twice; leave one out"
