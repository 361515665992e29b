"""How a base's weights are held, in 4, 8 or 16 bits, and how the recipe's LoRA is put on them."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoftQConfig, LoraConfig, get_peft_model
from transformers import BitsAndBytesConfig

from medrecipes.engines.lora import barred
from medrecipes.recipe.schema import Recipe


def quantization(recipe: Recipe, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """How bitsandbytes holds the base's weights; None in 16 bits."""
    model = recipe.model
    skip = ["lm_head", *model.skip_modules]
    if model.bits == 4:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=model.quant_type,
            bnb_4bit_use_double_quant=model.double_quant,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=skip,
        )
    if model.bits == 8:
        return BitsAndBytesConfig(
            load_in_8bit=True, llm_int8_skip_modules=skip, llm_int8_enable_fp32_cpu_offload=model.cpu_offload
        )
    return None


def attach(model: Any, recipe: Recipe, *, recomputed: int, head: str | None = None) -> Any:
    """Put the recipe's LoRA on the base; a tagging `head` is trained whole beside it."""
    lora = recipe.lora
    targets: str | list[str] = list(lora.targets)
    if lora.targets == ("all-linear",):
        # peft would put an update on a tagging head too, which is trained whole
        names = {name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        targets = sorted(names - {head}) if head else "all-linear"
    # peft's own preparation would blow norms, embeddings and head up to 32 bits; freezing is all they need
    for parameter in model.parameters():
        parameter.requires_grad = False
    if recomputed:
        model.enable_input_require_grads()
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        init_lora_weights={"default": True}.get(lora.init, lora.init),
        loftq_config=LoftQConfig(loftq_bits=4) if lora.init == "loftq" else {},
        bias="none",
        **barred(model),
        task_type="TOKEN_CLS" if head else "CAUSAL_LM",
        modules_to_save=[head] if head else None,
    )
    return get_peft_model(model, config)
