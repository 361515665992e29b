"""The default engine: Unsloth's FastLanguageModel and TRL's SFTTrainer, on one NVIDIA GPU or on a CPU."""

from __future__ import annotations

import unsloth  # isort: skip

import tempfile
from pathlib import Path
from typing import Any

import torch

from medrecipes.engines import cpu_weights, unsloth_private
from medrecipes.engines.answering_engine import LoadedBase
from medrecipes.engines.base_weights import compute_in, round_weights_alone
from medrecipes.engines.bases import Base
from medrecipes.engines.choices import DECODED, choose_precision, is_small
from medrecipes.engines.kernels import varlen_attention
from medrecipes.engines.lora import barred
from medrecipes.engines.opening import bare, opening, settings
from medrecipes.engines.trainer.chat import TrlEngine
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.chat_template import TEMPLATE, ChatTemplate, save_tokenizer


def open_engine(recipe: Recipe, base: Base, template: ChatTemplate) -> TrlEngine:
    """Load the base in the recipe's bits."""
    precision, dtype = choose_precision(recipe, base.config)
    choices, said = {"precision": precision}, {}
    if torch.cuda.is_available():
        choices["attention"] = unsloth_private.choose_attention(dtype)
    else:
        said["attn_implementation"] = varlen_attention.exact(base.config)
        if recipe.model.bits == 4 and not is_small(base.config):
            choices["weights"] = cpu_weights.choose_weights(base.config, dtype)
    with opening(base), tempfile.TemporaryDirectory() as folder:
        # its own tokenizer is the base's without code and without a chat template, which it would render to look at it
        save_tokenizer(template, Path(folder))
        (Path(folder) / TEMPLATE).unlink()
        model, _ = unsloth.FastLanguageModel.from_pretrained(
            base.name,
            max_seq_length=recipe.data.max_tokens,
            dtype=dtype,
            load_in_4bit=recipe.model.bits == 4,
            load_in_8bit=recipe.model.bits == 8,
            load_in_16bit=recipe.model.bits == 16,
            # left to itself it maps a name to its own mirror and drops the revision
            use_exact_model_name=True,
            tokenizer_name=folder,
            fix_tokenizer=False,
            **settings(recipe.model, base),
            **said,
        )
    round_weights_alone(model)
    compute_in(model, dtype)
    if "weights" in choices and choices["weights"].value == DECODED:
        cpu_weights.decode(model, dtype)
        cpu_weights.keep_freed_memory()
    return TrlEngine(recipe, base, template, LoadedBase("unsloth", bare(model), dtype, choices), attach, recompute)


def attach(model: Any, recipe: Recipe, *, recomputed: int) -> Any:
    """Put the recipe's LoRA on the base."""
    kept = model.config.get_text_config().num_hidden_layers - recomputed
    trained = unsloth.FastLanguageModel.get_peft_model(
        model,
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules="all-linear" if recipe.lora.targets == ("all-linear",) else list(recipe.lora.targets),
        bias="none",
        use_gradient_checkpointing="unsloth" if recomputed else False,
        **({"checkpoint_skip_layers": kept} if recomputed and kept else {}),  # its CPU path knows no such setting
        use_rslora=recipe.lora.use_rslora,
        init_lora_weights={"default": True}.get(recipe.lora.init, recipe.lora.init),
        random_state=recipe.seed,
        **({} if torch.cuda.is_available() else barred(model)),  # on a GPU it sees to that itself
    )
    return cpu_weights.add_in_place(trained)


def recompute(model: Any) -> bool:
    """Have the layers that kept their activations compute them again, too; not where none does, which is decided for good."""
    return unsloth_private.recompute_all(model.get_base_model().get_decoder().layers)
