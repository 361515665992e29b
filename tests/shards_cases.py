"""What tests/test_shards.py asserts, worked out by several processes that share a base: `FOLDER`, an empty one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

from medrecipes.core import processes
from medrecipes.core.errors import EngineError
from medrecipes.engines.bases import Base
from medrecipes.engines.kernels import fused_layer
from medrecipes.engines.lora import begin, count
from medrecipes.engines.multi_gpu.shared_loading import deal
from tests.fused_cases import ALL, FAMILIES, SHAPE, WHERE, step

LAYERS = 5  # not to be shared evenly
NF4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": torch.float32}


def save(folder: Path, family: str, *, published: bool) -> None:
    """A base of this family with weights of its own in every layer, in 16 bits or published in 4."""
    config, kind, settings = FAMILIES[family]
    torch.manual_seed(0)
    # widths of whole blocks, so that a matrix in 4 bits is not padded
    shape = SHAPE | {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_hidden_layers": LAYERS}
    model = kind(config(**shape, **settings))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.normal_(0, 0.3)
    model.save_pretrained(folder, max_shard_size="400KB")  # several files
    if published:
        quantised = AutoModelForCausalLM.from_pretrained(folder, quantization_config=nf4(), device_map={"": "cpu"})
        for file in folder.glob("*.safetensors*"):
            file.unlink()
        quantised.save_pretrained(folder, max_shard_size="200KB")


def nf4() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=["lm_head"], **NF4)


def ready(model: Any) -> Any:
    """With updates that change something, the same ones everywhere."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    for parameter in model.parameters():
        parameter.requires_grad = False
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules=ALL))
    begin(model, 1)
    begin_b = {n: p for n, p in model.named_parameters() if "lora_B" in n}
    torch.manual_seed(2)
    for _, parameter in sorted(begin_b.items()):
        parameter.data.normal_(0, 0.2)
    return model


def answers(model: Any, prompts: Sequence[list[int]], **more: Any) -> list[list[int]]:
    config = GenerationConfig(max_new_tokens=9, do_sample=False, pad_token_id=0, eos_token_id=list(range(40, 60)))
    model.eval()
    with torch.no_grad():
        return [
            model.generate(input_ids=torch.tensor([p]), generation_config=config, **more)[0].tolist() for p in prompts
        ]


def refusals(folder: Path) -> list[str]:
    """What is said of bases that cannot be shared."""
    if processes.leads():
        for name, like in (("pickled", "16-gemma"), ("cut", "16-gemma"), ("unlike", "published-mistral")):
            shutil.copytree(folder / like, folder / name)
        for file in (folder / "pickled").glob("*.safetensors*"):
            file.unlink()
        for file in (folder / "cut").glob("*.safetensors"):
            save_file({n: t for n, t in load_file(file).items() if n != "model.norm.weight"}, file, {"format": "pt"})
        module = "model.layers.3.mlp.up_proj"
        for file in (folder / "unlike").glob("*.safetensors"):
            tensors = {n: t for n, t in load_file(file).items() if not n.startswith(f"{module}.weight.")}
            if f"{module}.weight" in tensors:
                tensors[f"{module}.weight"] = torch.zeros(256, 128)
            save_file(tensors, file, {"format": "pt"})
        config = json.loads((folder / "unlike" / "config.json").read_text())
        config["quantization_config"]["llm_int8_skip_modules"].append(module)
        (folder / "unlike" / "config.json").write_text(json.dumps(config))
    torch.distributed.barrier()
    found = []
    for name in ("pickled", "cut", "unlike"):
        try:
            deal(Base(str(folder / name), folder / name), torch.float32, None, torch.device("cpu"))
        except EngineError as error:
            found.append(str(error).replace(str(folder), "FOLDER"))
    return found


CASES = [("4", "llama"), ("16", "gemma"), ("published", "mistral")]


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    said: dict[str, Any] = {}
    for kind, family in CASES:
        place = folder / f"{kind}-{family}"
        if processes.leads():
            save(place, family, published=kind == "published")
        torch.distributed.barrier()
        quantization = None if kind == "16" else nf4()
        more = {"quantization_config": quantization} if kind == "4" else {}
        whole = ready(AutoModelForCausalLM.from_pretrained(
            place, dtype=torch.float32, attn_implementation="sdpa", device_map={"": "cpu"}, **more
        ))  # fmt: skip
        dealt, shards = deal(Base(str(place), place), torch.float32, quantization, torch.device("cpu"))
        dealt = ready(dealt)
        prompts = [[3, 5, 8, 13], [2, 4], [90, 80, 70, 60, 61], [7] * 6, [9, 8, 7]]
        expected = answers(whole, prompts)
        found = processes.spread(prompts, partial(answers, dealt, synced_gpus=True))
        apart = {}
        for name, keep in {
            "kept": [True] * LAYERS,
            "again": [False] * LAYERS,
            "some again": [False, True] * 2 + [False],
        }.items():
            results = []
            for model, lender in ((whole, None), (dealt, shards)):
                model.train()
                with fused_layer.layers(model, torch.float32, keep, shards=lender):
                    results.append(step(model, **WHERE))
            (loss, grads), (own_loss, own) = results
            apart[name] = [
                abs(loss - own_loss), max(float((grads[n] - own[n]).abs().max()) for n in grads), len(own), grads.keys() == own.keys()
            ]  # fmt: skip
        said[place.name] = {
            "answers": found == expected, "lengths": [len(row) for row in expected], "apart": apart,
            "held": sum(flat.numel() for flat, _ in shards._own.values()) / shards._slots[0].flat.numel(),
            "empty": all(p.numel() == 0 for p in dealt.parameters() if id(p) in shards.weights),
            "parameters": [sum(map(count, whole.parameters())), sum(map(count, dealt.parameters()))],
            "adapters": sorted(n for n, _ in dealt.named_parameters() if "lora" in n) == sorted(n for n, _ in whole.named_parameters() if "lora" in n),
        }  # fmt: skip
    said["refusals"] = refusals(folder)
    (folder / f"said-{processes.rank()}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
