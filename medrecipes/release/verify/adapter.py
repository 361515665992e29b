"""The claim of the adapter's files: its settings are the recipe's, its tensors are whole, and those of the checkpoint that was kept."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medrecipes.core.errors import MedRecipesError, SpoiledError, reason
from medrecipes.release.verify.claims import Found, unlike
from medrecipes.release.verify.evidence import Evidence
from medrecipes.runs.checkpoints import checkpoints, step_of

WEIGHTS = "adapter_model.safetensors"
PART = re.compile(r"(.*)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.weight)?$")
LAYER = re.compile(r"^(.*?\.layers)\.(\d+)\.(.*)$")
# what peft's config may say; of all else, what scales, moves or leaves out what was learned, nobody's recipe says anything
SAID = {
    "peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "bias", "target_modules",
    "modules_to_save", "exclude_modules", "base_model_name_or_path", "revision", "peft_version", "inference_mode", "auto_mapping",
    "init_lora_weights", "loftq_config", "qalora_group_size", "megatron_core",
}  # fmt: skip
Tensor = Mapping[str, Any]


def adapter(e: Evidence) -> Found:
    """The adapter by its files alone."""
    tensors, config = _tensors(e.path / "adapter" / WEIGHTS), e.json("adapter/adapter_config.json")
    wrong = [*_settings(e, config), *_whole(e, tensors), *_numbers(tensors)]
    count = sum(math.prod(tensor["shape"]) for tensor in tensors.values())
    if count != e.stats["trainable_parameters"]:
        wrong.append(f"it has {count:,} parameters, and {e.stats['trainable_parameters']:,} were trained")
    held = ""
    for kept in checkpoints(e.rundir.checkpoints):
        if step_of(kept) == e.stats["best_step"] and (kept / WEIGHTS).exists():
            wrong += _same(tensors, _tensors(kept / WEIGHTS), kept.name)
            there = e.json((kept / "adapter_config.json").relative_to(e.path).as_posix())
            wrong += unlike(_ordered(there), _ordered(config), f"adapter_config.json, held against {kept.name}:")
            held = f", those of {kept.name}"
    return Found(f"{len(tensors)} tensors, {count:,} parameters{held}", wrong)


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file as bytes, without torch."""
    from safetensors import SafetensorError, deserialize

    try:
        return dict(deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    except (OSError, SafetensorError) as error:
        raise SpoiledError(f"{path.parent.name}/{path.name} cannot be read ({reason(error)})") from None


def _settings(e: Evidence, config: Mapping[str, Any]) -> Iterator[str]:
    """What adapter_config.json says of the adapter, and the recipe too."""
    lora, chat = e.own.lora, e.own.task == "chat"
    made = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM" if chat else "TOKEN_CLS", "r": lora.rank, "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout, "use_rslora": lora.use_rslora, "use_dora": lora.use_dora, "bias": "none",
    }  # fmt: skip
    yield from unlike(made, {name: config.get(name) for name in made}, "adapter_config.json")
    targets = config["target_modules"]
    if isinstance(targets, list) and lora.targets != ("all-linear",):
        # a head that is trained whole: peft names the usual ones of tagging by itself
        whole = config.get("modules_to_save") or () if chat else ()
        sits = sorted({*targets, *whole})
        if sits != sorted(lora.targets):
            yield f"adapter_config.json sits on {', '.join(sits)}, which are not the recipe's targets"
    elif not isinstance(targets, list | str):
        yield "adapter_config.json does not say what it sits on"
    if named := [name for name in config.keys() - SAID if config[name]]:
        yield f"adapter_config.json sets {', '.join(named)}, which no recipe does"
    base = Path(str(e.state["base"])).name, str(config["base_model_name_or_path"]).rpartition("/")[2]
    if base[0] != base[1]:
        yield f"adapter_config.json names the base {base[1]}, run.json {base[0]}"


def _ordered(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config whose lists are in one order: peft writes sets."""
    return {name: sorted(map(str, value)) if isinstance(value, list) else value for name, value in config.items()}


def _whole(e: Evidence, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Every module has all its parts, of the recipe's rank, in every layer."""
    parts: defaultdict[str, dict[str, list[int]]] = defaultdict(dict)
    for name, tensor in tensors.items():
        if match := PART.match(name):
            parts[match[1]][match[2]] = list(tensor["shape"])
    kinds = {frozenset(found) for found in parts.values()}
    for module, found in parts.items():
        ranks = {shape[1] if part.endswith("_B") else shape[0] for part, shape in found.items() if len(shape) == 2}
        halves = {part.removesuffix("_A").removesuffix("_B") for part in found if part.endswith(("_A", "_B"))}
        if any({f"{half}_A", f"{half}_B"} - found.keys() for half in halves) or not halves:
            yield f"{module} lacks one half of its update"
        elif ranks != {e.own.lora.rank}:
            yield f"{module} has rank {', '.join(map(str, sorted(ranks)))}, and the recipe {e.own.lora.rank}"
    if e.own.lora.use_dora and any("lora_magnitude_vector" not in kind for kind in kinds):
        yield "a module has no magnitudes, and the recipe learns them"
    layers: defaultdict[str, set[int]] = defaultdict(set)
    for module in parts:
        if match := LAYER.match(module):
            layers[f"{match[1]}.N.{match[3]}"].add(int(match[2]))
    count = _layers(e) or max((max(found) + 1 for found in layers.values()), default=0)
    for name, those in layers.items():
        if lost := sorted(set(range(count)) - those):
            yield f"{name} has no update in layer {lost[0]}"
    if e.own.lora.targets != ("all-linear",):
        for target in e.own.lora.targets:
            if not any(name.removesuffix(".weight").endswith(f".{target}") for name in (*parts, *tensors)):
                yield f"no module is a {target}, which the recipe trains"


def _layers(e: Evidence) -> int | None:
    """How many layers the base has, where it can be asked."""
    try:
        config = e.base.config
    except MedRecipesError:
        return None
    count = (config.get("text_config") or config).get("num_hidden_layers")
    return int(count) if count else None


def _numbers(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Every number is one, and what was trained is not nothing."""
    empty = [name for name, tensor in tensors.items() if not any(tensor["data"])]
    learned_nothing = all("lora_B" in name for name in empty) and len(empty) == sum(
        "lora_B" in name for name in tensors
    )
    if empty and not learned_nothing:  # a first step at a learning rate of 0 is the one way to that
        yield f"{empty[0]} is all zeros" + (f", and {len(empty) - 1} more" if len(empty) > 1 else "")
    for name, tensor in tensors.items():
        if not _finite(tensor):
            yield f"{name} holds what is no number"


def _finite(tensor: Tensor) -> bool:
    if tensor["dtype"] == "BF16":  # which numpy does not know: all bits of the exponent set
        bits = np.frombuffer(tensor["data"], np.uint16)
        return not bool(((bits & 0x7F80) == 0x7F80).any())
    kinds = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
    if tensor["dtype"] not in kinds:
        return False
    return bool(np.isfinite(np.frombuffer(tensor["data"], kinds[tensor["dtype"]])).all())


def _same(tensors: Mapping[str, Tensor], kept: Mapping[str, Tensor], name: str) -> Iterator[str]:
    """The tensors are those of the checkpoint that was kept."""
    if tensors.keys() != kept.keys():
        yield f"it has other tensors than {name}, which was kept"
    for key in tensors.keys() & kept.keys():
        one, other = tensors[key], kept[key]
        if one["dtype"] == other["dtype"] and (one["shape"] != other["shape"] or one["data"] != other["data"]):
            yield f"{key} is not that of {name}, which was kept"
