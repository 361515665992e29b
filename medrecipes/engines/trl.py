"""The other engine: transformers, peft, bitsandbytes and TRL by themselves, on one NVIDIA GPU or several."""

from __future__ import annotations

import torch

from medrecipes.engines.answering_engine import LoadedBase
from medrecipes.engines.base_weights import attach, compute_in, quantization, round_weights_alone
from medrecipes.engines.bases import Base
from medrecipes.engines.choices import choose_precision, choose_shards
from medrecipes.engines.kernels import varlen_attention
from medrecipes.engines.multi_gpu.shared_loading import deal
from medrecipes.engines.opening import auto_class, bare, opening, settings
from medrecipes.engines.trainer.chat import TrlEngine
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.chat_template import ChatTemplate


def open_engine(recipe: Recipe, base: Base, template: ChatTemplate) -> TrlEngine:
    """Load the base in the recipe's bits."""
    precision, dtype = choose_precision(recipe)
    choices, shards = {"precision": precision, "shards": choose_shards(recipe, base.config, dtype)}, None
    if choices["shards"].value:
        where = torch.device("cuda", torch.cuda.current_device())
        model, shards = deal(base, dtype, quantization(recipe, dtype), where)
        compute_in(model, dtype)
        return TrlEngine(recipe, base, template, LoadedBase("trl", model, dtype, choices, shards), attach)
    with opening(base):
        model = auto_class(base.config).from_pretrained(
            base.name,
            dtype=dtype,
            quantization_config=quantization(recipe, dtype),
            device_map="auto" if recipe.model.cpu_offload else {"": torch.cuda.current_device()},
            attn_implementation=varlen_attention.exact(base.config),
            **settings(recipe.model, base),
        )
    round_weights_alone(model)
    compute_in(model, dtype)
    return TrlEngine(recipe, base, template, LoadedBase("trl", bare(model), dtype, choices), attach)
