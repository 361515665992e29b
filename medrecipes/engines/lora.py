"""What LoRA's updates are to every engine: where they sit, how they begin, are saved and opened, how many numbers they have."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medrecipes.core.errors import EngineError, RunError, SpoiledError, did_you_mean, reason
from medrecipes.core.files import digest
from medrecipes.core.trust import inspect_adapter
from medrecipes.recipe.schema import Recipe

AGAIN = "bring the file back, or train again"


def require_optimiser(recipe: Recipe, *, cpu: bool) -> None:
    """Raise for an optimiser that a CPU does not have."""
    if cpu and any(word in recipe.train.optim for word in ("8bit", "paged", "bnb")):
        raise EngineError(
            f"train.optim = {recipe.train.optim!r} needs a GPU; on a CPU set train.optim = 'adamw_torch_fused'"
        )


def match_targets(model: Any, targets: Sequence[str]) -> None:
    """Raise for a target that names no module that LoRA can sit on."""
    fits = (torch.nn.Linear, torch.nn.Embedding)
    inside = [*model.get_decoder().named_modules(), ("lm_head", model.get_output_embeddings())]
    names = {name.rsplit(".", 1)[-1] for name, module in inside if isinstance(module, fits)}
    for target in targets:
        if target not in names and targets != ("all-linear",):
            raise EngineError(
                f"lora.targets: {target!r} matches no module of this base{did_you_mean(target, names)} "
                f"(it has {', '.join(sorted(names))})"
            )


def barred(model: Any) -> dict[str, str]:
    """What keeps peft's updates off the half of a base that sees or hears: it learns nothing from text."""
    if model.config.get_text_config() is model.config:
        return {}
    decoder = model.get_decoder()
    path = next(name for name, module in model.named_modules() if module is decoder)
    return {"exclude_modules": rf"(?!{re.escape(path)}\.).*"}


def begin(model: Any, seed: int) -> None:
    """Start every update from numbers that depend on its name and the seed alone, so that engines compare weight by weight."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_A" in name:
            generator = torch.Generator().manual_seed(int(digest(f"{seed}:{name}")[:8], 16))
            # peft's own distribution: Kaiming's uniform with a = sqrt(5)
            bound = 1 / math.sqrt(parameter.shape[-1])
            values = torch.empty(parameter.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
            with torch.no_grad():
                parameter.copy_(values)


def open_adapter(base: Any, folder: Path) -> Any:
    """The base with a saved adapter on it, to answer with: all of its tensors, and no others."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    if not (folder / "adapter_config.json").exists():
        raise RunError(f"{folder}: holds no adapter; finish the run first")
    inspect_adapter(folder)
    try:
        model = PeftModel.from_pretrained(base, str(folder)).eval()
        with safe_open(str(folder / "adapter_model.safetensors"), "pt") as file:
            held = set(file.keys())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # each library raises its own kinds for what is torn, or of other shapes
        raise SpoiledError(f"{folder}: the adapter cannot be loaded ({reason(error)}); {AGAIN}") from None
    # peft takes a file that lacks some of them for whole
    if wrong := sorted(held ^ get_peft_model_state_dict(model).keys()):
        has = "has" if wrong[0] in held else "lacks"
        raise SpoiledError(f"{folder}: the adapter {has} {wrong[0]}, {len(wrong)} tensors of it are not as its config says; {AGAIN}")  # fmt: skip
    return model


def answers(model: Any) -> bool:
    """Whether the adapter takes part in what the model answers."""
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    return bool(layers) and not layers[0].disable_adapters


def save_adapter(model: Any, folder: Path) -> None:
    """Write what was trained, safetensors only."""
    model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty form; the run's own card says what happened


def count(parameter: Any) -> int:
    """The numbers in a parameter; one that is quantised, or another GPU's for now, remembers its true shape."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape if state is not None else getattr(parameter, "whole", parameter.shape))
