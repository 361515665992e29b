"""How a base's weights are held, in 4, 8 or 16 bits, and how the recipe's LoRA is put on them."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import LoftQConfig, LoraConfig, get_peft_model
from torch import Tensor
from transformers import BitsAndBytesConfig

from medrecipes.engines.kernels.projections import decode_8_bits, eight_bit_scales
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


class _WeightsIn8Bits(torch.autograd.Function):
    """x·Wᵀ, W decoded for the moment, forward and backward; only its 8 bits are kept in between."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
        ctx.save_for_backward(values, scales)
        return torch.nn.functional.linear(x, decode_8_bits(values, scales).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        values, scales = ctx.saved_tensors
        return gradients[0] @ decode_8_bits(values, scales).to(gradients[0].dtype), None, None


class WeightOnly8bit(Linear8bitLt):
    """A layer whose weights are in 8 bits and whose inputs are not.

    bitsandbytes' own rounds the inputs too, and takes out of that what is large anywhere in the batch: a row's result then
    depends on the rows beside it, which packed sequences must not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The decoded weights times x."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        found: Tensor = _WeightsIn8Bits.apply(x, self.weight.data, eight_bit_scales(self))
        return found if self.bias is None else found + self.bias.to(found.dtype)


def round_weights_alone(model: torch.nn.Module) -> None:
    """Have every 8-bit layer of a model leave its inputs as they are."""
    for layer in model.modules():
        if type(layer) is Linear8bitLt:
            layer.__class__ = WeightOnly8bit
            # accelerate, which moves a layer to the GPU for the moment, keeps the method that it calls behind its hook
            if "_old_forward" in vars(layer):
                layer._old_forward = MethodType(WeightOnly8bit.forward, layer)


def compute_in(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Have 4-bit layers decode to and compute in a run's number format.

    A base published in 4 bits brings its maker's, mostly bf16, and `from_pretrained` keeps that: a GPU without bf16 would compute in it
    all the same, slowly, and otherwise than the fused layers do.
    """
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.compute_dtype, layer.compute_type_is_set = dtype, True
            state = getattr(layer.weight, "quant_state", None)
            if state is not None:
                state.dtype = dtype


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
