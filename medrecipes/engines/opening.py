"""How a base is opened by the libraries: at its commit, from safetensors, with no code of its own but what was granted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig
from transformers.models.auto import modeling_auto

from medrecipes.core.errors import EngineError, MedRecipesError, TrustError, reason, uncompiled
from medrecipes.core.trust import admit, advice, code_of
from medrecipes.engines.bases import Base
from medrecipes.recipe.schema import Model


def settings(model: Model, base: Base) -> dict[str, Any]:
    """What every `from_pretrained` of a base is told; raises where the base needs code that may not run."""
    trusted = admit(model, base)
    if not trusted and code_of(base) and base.config.get("model_type") not in CONFIG_MAPPING:
        raise TrustError(
            f"{model.base}: transformers knows no {base.config.get('model_type')!r}, and the base's own Python code runs only "
            f"where the recipe says so too; set model.trust_remote_code = true, {advice(base)}"
        )
    return {"revision": base.revision, "trust_remote_code": trusted, "use_safetensors": True}


def auto_class(config: Mapping[str, Any]) -> Any:
    """What opens a base: transformers' AutoModelForCausalLM, or, for one that it knows only as a model that sees (such as
    Mistral Small 3.1 and Ministral 3), AutoModelForImageTextToText, of which text trains the language half."""
    kind = config.get("model_type")
    sees = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    alone = kind in sees and kind not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return AutoModelForImageTextToText if alone else AutoModelForCausalLM


@contextmanager
def opening(base: Base) -> Iterator[None]:
    """Turn what the libraries say of a base that they cannot open into one line."""
    try:
        yield
    except (MedRecipesError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and uncompiled(error):
            raise
        raise EngineError(
            f"{base.name}: cannot be opened ({reason(error)}); fetch it anew, or choose another base"
        ) from error


def bare(model: Any) -> Any:
    """A base without its maker's generation config, of which transformers would take whatever nobody set."""
    model.generation_config = GenerationConfig()
    if model.base_model is model and hasattr(model, "model"):
        model.base_model_prefix = (
            "model"  # Llama 4's class for text names its layers wrongly, and TRL looks them up by that name
        )
    return model


def without_peft(model: Any) -> Any:
    """The base as transformers knows it, with its adapter inside if there is one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
