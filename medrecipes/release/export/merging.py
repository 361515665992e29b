"""An adapter folded into its base: on the 16-bit base where it is at hand, else on the dequantised one."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.core.errors import MedRecipesError, RunError
from medrecipes.core.files import read_json
from medrecipes.engines.bases import Base, open_base
from medrecipes.recipe.schema import Model

QUANTISED = ("-unsloth-bnb-4bit", "-bnb-4bit")  # how names of published 4-bit bases end
WHOLE = "the 16-bit base"
SHARD = "5GB"
ENDS = ("embed_tokens", "lm_head")


@dataclass(frozen=True)
class Ground:
    """What an adapter is merged on, and why."""

    base: Base
    merged_on: str
    reason: str


def choose_ground(base: Base, wanted: str | None) -> Ground:
    """The 16-bit form of a base where it is at hand; else the base itself, whose weights will be dequantised."""
    if wanted:
        other = open_base(os.path.abspath(wanted) if os.path.exists(wanted) else wanted, "main")
        if other.config.get("quantization_config"):
            raise RunError(f"--base {wanted}: is quantised itself; name the 16-bit form of {base.name}")
        _same_shape(base, other, wanted)
        return Ground(other, WHOLE, "--base names it")
    bits = base.facts.bits
    if not base.config.get("quantization_config"):
        return Ground(base, WHOLE, "the run's own base is not quantised on disk")
    if (sibling := _sibling(base.name)) is not None:
        return Ground(sibling, WHOLE, f"{sibling.name} was fetched before")
    return Ground(base, f"the dequantised {bits}-bit base", f"{base.name} is published in {bits} bits; --base ID or FOLDER names a 16-bit one")  # fmt: skip


def _same_shape(base: Base, other: Base, wanted: str) -> None:
    """Raise for a base that the adapter does not fit on."""
    for key in ("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "num_key_value_heads"):
        one, two = ((b.config.get("text_config") or b.config).get(key) for b in (base, other))
        if one != two:
            raise RunError(f"--base {wanted}: {key} is {two}, that of {base.name} is {one}; name its 16-bit form")


def _sibling(name: str) -> Base | None:
    """The 16-bit base of a published 4-bit one, if all its weights lie in the Hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    end = next((end for end in QUANTISED if name.endswith(end)), None)
    with suppress(LocalEntryNotFoundError, OSError):
        if end and not Path(name).is_dir():
            other = name.removesuffix(end)
            folder = Path(snapshot_download(other, local_files_only=True))
            index = folder / "model.safetensors.index.json"
            files = set(read_json(index)["weight_map"].values()) if index.exists() else {"model.safetensors"}
            if all((folder / file).exists() for file in files):
                return Base(other, folder, folder.name)
    return None


def open_ground(ground: Ground, said: Model) -> Any:
    """The base in its own number format, 4-bit weights dequantised layer by layer; on a GPU where it fits, else the CPU."""
    from medrecipes.engines.kernels.varlen_attention import exact
    from medrecipes.engines.opening import auto_class, bare, opening, settings

    with opening(ground.base):
        model = bare(auto_class(ground.base.config).from_pretrained(
            ground.base.name, dtype="auto", device_map={"": "cpu"}, attn_implementation=exact(ground.base.config),
            **settings(said, ground.base),
        ))  # fmt: skip
    if not said.trust_remote_code:  # the names of code that was not run go into no export
        model.config.__dict__.pop("auto_map", None)
    if model.config.to_dict().get("quantization_config"):
        model = model.dequantize(dtype=_dtype(model))
        for attribute in ("quantization_config", "_pre_quantization_dtype"):
            with suppress(AttributeError):
                delattr(model.config, attribute)
        model.is_quantized = False
        # how 4-bit weights were read cannot be undone in saving, nor need it be
        conversions = getattr(model, "_weight_conversions", ())
        model._weight_conversions = [c for c in conversions if not any("Bnb" in type(o).__name__ for o in getattr(c, "operations", ()))]  # fmt: skip
    return model.to(_place(sum(p.numel() * p.element_size() for p in model.parameters())))


def _place(size: int) -> Any:
    """The GPU where so many bytes of weights fit on it with room to compute, else the CPU."""
    import torch

    fits = torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > 1.3 * size
    return torch.device("cuda", torch.cuda.current_device()) if fits else torch.device("cpu")


def _dtype(model: Any) -> Any:
    """The number format that the base is not quantised in: that of its norms."""
    return next(p.dtype for name, p in model.named_parameters() if "norm" in name)


def attach(model: Any, adapter: Path) -> Any:
    """Put an adapter on a base, however it was saved; what it shares with another matrix is set apart first."""
    import torch
    from peft import PeftModel

    shapes = _shapes(adapter / "adapter_model.safetensors")
    rows = [shape[0] for name, shape in shapes.items() if name.endswith("embed_tokens.weight")]
    if rows and rows[0] != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows[0], mean_resizing=False)  # tokens were added; their rows come with it
    touched = any(f"{end}." in name for name in shapes for end in ENDS)
    if touched and model.config.get_text_config().tie_word_embeddings:
        # an update of one of the two must not leak into the other
        model.get_output_embeddings().weight = torch.nn.Parameter(model.get_output_embeddings().weight.detach().clone())
        model.config.get_text_config().tie_word_embeddings = model.config.tie_word_embeddings = False
        model._tied_weights_keys, model.all_tied_weights_keys = None, {}
    return PeftModel.from_pretrained(model, str(adapter)).eval()


def _shapes(weights: Path) -> Mapping[str, list[int]]:
    """The names and shapes in a safetensors file, without its numbers."""
    from safetensors import safe_open

    try:
        with safe_open(str(weights), "pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:  # safetensors raises its own kind for damage, OSError for absence
        raise MedRecipesError(f"{weights}: cannot be read ({error}); train the run again with --fresh") from None


def merge(model: Any, folder: Path) -> Any:
    """Fold the adapter in and save the whole as sharded safetensors; returns the merged model."""
    merged = model.merge_and_unload(safe_merge=True)
    merged.save_pretrained(str(folder), max_shard_size=SHARD)
    return merged


EYES = ("vision_tower", "multi_modal_projector")  # which saw nothing in training, and need not lose anything either


def quantise(folder: Path, target: Path, trusted: bool) -> None:
    """Save a merged model in bitsandbytes' 4-bit NF4, double-quantised."""
    from transformers import AutoConfig, BitsAndBytesConfig

    saved = AutoConfig.from_pretrained(str(folder), trust_remote_code=trusted)
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=saved.dtype,
        llm_int8_skip_modules=["lm_head", *(EYES if hasattr(saved, "vision_config") else ())],
    )  # fmt: skip
    open_saved(folder, trusted, quantization_config=config).save_pretrained(str(target), max_shard_size=SHARD)


def open_saved(folder: Path, trusted: bool, **settings: Any) -> Any:
    """A saved model as whoever uses it opens it."""
    from medrecipes.engines.kernels.varlen_attention import exact
    from medrecipes.engines.opening import auto_class

    config = read_json(folder / "config.json")
    place = _place(sum(file.stat().st_size for file in folder.glob("*.safetensors")))
    return auto_class(config).from_pretrained(
        str(folder), dtype="auto", device_map={"": place}, attn_implementation=exact(config),
        trust_remote_code=trusted, use_safetensors=True, **settings,
    ).eval()  # fmt: skip


def tidy() -> None:
    """Give back the memory of models that are not used any more, on the GPU as well."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
