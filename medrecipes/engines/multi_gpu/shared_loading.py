"""Loading a base that no GPU holds whole: every process reads its own layers, and what all need."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from bitsandbytes.nn import Linear4bit, Params4bit
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.integrations import replace_with_bnb_linear

from medrecipes.core.errors import EngineError
from medrecipes.core.files import read_json
from medrecipes.engines.bases import Base
from medrecipes.engines.multi_gpu.shared_layers import Shards, matrices, own
from medrecipes.engines.opening import opening

LAYER = re.compile(r"model\.layers\.(\d+)\.")


def deal(base: Base, dtype: torch.dtype, quantization: BitsAndBytesConfig | None, device: torch.device) -> tuple[Any, Shards]:  # fmt: skip
    """The base with this process's layers on its GPU, and whoever lends it the others."""
    with opening(base):
        config = AutoConfig.from_pretrained(base.name, revision=base.revision, trust_remote_code=False)
    published = base.config.get("quantization_config")
    if published:
        quantization = BitsAndBytesConfig.from_dict(published)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
        )
    if quantization:
        whole = [*(quantization.llm_int8_skip_modules or []), "lm_head"]
        replace_with_bnb_linear(model, whole, quantization, pre_quantized=bool(published))
        model.is_loaded_in_4bit = True  # what peft asks
    layers = model.model.layers
    mine = own(len(layers))
    with ExitStack() as stack:
        read = _reader(base, stack)
        for name, stats in _by_weight(read).items():
            module, _, parameter = name.rpartition(".")
            if _absent(model, name):  # such as the buffers that older checkpoints carry
                continue
            owner = model.get_submodule(module)
            found = LAYER.match(name)
            if found and isinstance(owner, torch.nn.Linear) and int(found[1]) not in mine:
                continue
            value = read[name]()
            if isinstance(owner, Linear4bit):
                weight = _packed(owner, value, {s: read[f"{name}.{s}"]() for s in stats}, dtype, device)
            else:
                weight = torch.nn.Parameter(value.to(device, dtype), requires_grad=False)
            setattr(owner, parameter, weight)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    model.tie_weights()
    for number, layer in enumerate(layers):
        if number not in mine:
            _hollow(layer, layers[mine[0]], device)
    if missing := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise EngineError(f"{base.name}: {missing[0]} is not in its weights ({len(missing)} are missing); the base is damaged, or another version of it is wanted: see model.revision")  # fmt: skip
    return model.eval(), Shards(layers)


def files(base: Base) -> list[Path]:
    """The safetensors files of a base, fetched where they are not at hand."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def here(name: str) -> Path:
        if base.is_local:
            return base.folder / name
        return Path(hf_hub_download(base.name, name, revision=base.revision))

    for name in ("model.safetensors.index.json", "model.safetensors"):
        with suppress(EntryNotFoundError):
            file = here(name)
            if file.exists() and file.suffix == ".json":
                return [here(part) for part in sorted(set(read_json(file)["weight_map"].values()))]
            if file.exists():
                return [file]
    raise EngineError(
        f"{base.name}: has no safetensors, which sharing a base among GPUs wants; name another form of it"
    )


def _reader(base: Base, stack: ExitStack) -> Mapping[str, Callable[[], torch.Tensor]]:
    """What reads each tensor of a base from whichever file it lies in."""
    found: dict[str, Callable[[], torch.Tensor]] = {}
    for file in files(base):
        try:
            tensors = stack.enter_context(safe_open(str(file), "pt"))
            found |= {name: partial(tensors.get_tensor, name) for name in tensors.keys()}  # noqa: SIM118 - no mapping
        except Exception as error:  # safetensors raises its own kind for damage, OSError for absence
            raise EngineError(f"{file}: cannot be read ({error}); fetch {base.name} anew") from None
    return found


def _by_weight(names: Iterable[str]) -> Mapping[str, list[str]]:
    """Weights, each with the names of what belongs to it in 4 bits, e.g. `absmax`."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        weight, part, rest = name.partition(".weight.")
        if part:
            found[f"{weight}.weight"].append(rest)
        else:
            found[name] += []
    return found


def _absent(model: Any, name: str) -> bool:
    try:
        model.get_parameter(name)
    except AttributeError:
        return True
    return False


def _packed(
    module: Any, value: torch.Tensor, stats: Mapping[str, torch.Tensor], dtype: torch.dtype, device: torch.device
) -> Any:
    """A matrix in 4 bits: as it was published, or quantised now."""
    if stats:
        return Params4bit.from_prequantized(value, dict(stats), requires_grad=False, device=device, module=module)
    old = module.weight
    weight = Params4bit(
        value.to(dtype), requires_grad=False, blocksize=old.blocksize, compress_statistics=old.compress_statistics,
        quant_type=old.quant_type, quant_storage=old.quant_storage, module=module,
    )  # fmt: skip
    return weight.to(device)


def _hollow(layer: Any, like: Any, device: torch.device) -> None:
    """Give a layer of another GPU matrices without numbers, made like those of a layer that is here."""
    for module, model in zip(matrices(layer), matrices(like), strict=True):
        weight = model.weight
        if not isinstance(weight, Params4bit):
            module.weight = torch.nn.Parameter(torch.empty(0, dtype=weight.dtype, device=device), requires_grad=False)
            continue
        state = copy.copy(weight.quant_state)
        if state.nested:
            state.state2 = copy.copy(state.state2)
        module.weight = Params4bit(
            torch.empty(0, dtype=weight.dtype, device=device), requires_grad=False, quant_state=state,
            blocksize=weight.blocksize, compress_statistics=weight.compress_statistics, quant_type=weight.quant_type,
            quant_storage=weight.quant_storage, bnb_quantized=True, module=module,
        )  # fmt: skip
        module.quant_state = state
