"""The base of a tagging run: transformers' token classification, with a head that is trained whole, in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, AutoConfig, AutoModelForTokenClassification

from medrecipes.core.errors import EngineError
from medrecipes.engines.base_weights import compute_in, quantization, round_weights_alone
from medrecipes.engines.bases import Base
from medrecipes.engines.kernels import varlen_attention
from medrecipes.engines.opening import opening, settings
from medrecipes.recipe.schema import Recipe

HEAD = "score"


class Head(torch.nn.Linear):
    """The classification head; computed in fp32 whatever the layers below compute in."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits of every label."""
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float())


def load(recipe: Recipe, base: Base, labels: Sequence[str], dtype: torch.dtype) -> Any:
    """The base in the recipe's bits with a new head, which is neither quantised nor in half precision."""
    told = settings(recipe.model, base)
    with opening(base):
        config = AutoConfig.from_pretrained(
            base.name, revision=base.revision, trust_remote_code=told["trust_remote_code"]
        )
    if type(config) not in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING:
        family = base.facts.architecture.partition("For")[0]
        raise EngineError(f"model.base is a {family}, for which transformers has no token classification; choose a Mistral, Llama or Gemma (1 or 2)")  # fmt: skip
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    # transformers' own switch: the causal mask becomes one of padding alone, in full and sliding attention alike
    config.is_causal = recipe.model.attention == "causal"
    published = getattr(config, "quantization_config", None)
    quantized = quantization(
        recipe.model_copy(
            update={"model": recipe.model.model_copy(update={"skip_modules": (*recipe.model.skip_modules, HEAD)})}
        ),
        dtype,
    )
    if published is not None:  # a base published in 4 bits names what it left out itself, and knows nothing of the head
        published = published if isinstance(published, dict) else published.to_dict()
        skip = [*(published.get("llm_int8_skip_modules") or []), HEAD]
        config.quantization_config = {**published, "llm_int8_skip_modules": list(dict.fromkeys(skip))}
    torch.manual_seed(recipe.seed)  # the head begins from the recipe's seed
    where: Any = {"": torch.cuda.current_device()} if torch.cuda.is_available() else {"": "cpu"}
    with opening(base):
        model = AutoModelForTokenClassification.from_pretrained(
            base.name, config=config, dtype=dtype, quantization_config=quantized if published is None else None,
            device_map="auto" if recipe.model.cpu_offload else where,
            attn_implementation=varlen_attention.exact(base.config), **told,
        )  # fmt: skip
    round_weights_alone(model)
    compute_in(model, dtype)
    old = model.score
    head = Head(old.in_features, old.out_features, bias=old.bias is not None, device=old.weight.device)
    # drawn anew: what from_pretrained fills in depends on the number format
    torch.manual_seed(recipe.seed)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape) * config.initializer_range)
        if head.bias is not None:
            head.bias.zero_()
    model.score = head
    for module in model.modules():
        if hasattr(module, "is_causal"):  # without padding there is no mask at all, and sdpa asks the layer itself
            module.is_causal = config.is_causal
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # to answer on such a CPU bitsandbytes packs its weights, and rounds their scales anew at every checkpoint:
            # a resumed run would learn from other weights
            module.support_avx512bf16_for_cpu = False
    return model
