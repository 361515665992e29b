"""The default engine: Unsloth's FastLanguageModel and TRL's SFTTrainer, on one NVIDIA card or on a CPU."""

from __future__ import annotations

import unsloth  # isort: skip

from typing import Any

from medrecipes.bases import Base
from medrecipes.engines.choices import choose_precision
from medrecipes.engines.training import TrlEngine
from medrecipes.recipe import Recipe
from medrecipes.rendering import ChatTemplate


def open_engine(recipe: Recipe, base: Base, template: ChatTemplate) -> TrlEngine:
    """Load the base in the recipe's bits."""
    precision, dtype = choose_precision(recipe)
    model, _ = unsloth.FastLanguageModel.from_pretrained(
        base.name,
        max_seq_length=recipe.data.max_tokens,
        dtype=dtype,
        load_in_4bit=recipe.model.bits == 4,
        load_in_8bit=recipe.model.bits == 8,
        load_in_16bit=recipe.model.bits == 16,
        revision=base.revision,
        trust_remote_code=recipe.model.trust_remote_code,
        # left to itself it maps a name to its own mirror and drops the revision
        use_exact_model_name=True,
    )
    return TrlEngine("unsloth", recipe, base, template, model, dtype, {"precision": precision}, attach)


def attach(model: Any, recipe: Recipe, *, recomputed: int) -> Any:
    """Put the recipe's LoRA on the base."""
    kept = model.config.num_hidden_layers - recomputed
    return unsloth.FastLanguageModel.get_peft_model(
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
    )
