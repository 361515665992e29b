"""What tests/test_recorded.py asserts, worked out in processes of their own, on a GPU each: Unsloth changes the library's classes."""

from __future__ import annotations

import json
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel
from transformers import BitsAndBytesConfig, MistralConfig, MistralForCausalLM

from medrecipes.core import processes
from medrecipes.engines.kernels import cuda_graphs as module
from medrecipes.engines.kernels import fused_layer, varlen_attention
from medrecipes.engines.kernels.cuda_graphs import Recorded
from medrecipes.engines.plan.pace import Graphs
from tests.fused_cases import ALL

SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 8192, "sliding_window": None,
}  # fmt: skip
LARGEST = 1024
# the rows of one micro-batch after the other: one size and number of rows, then others, then what is too long to be captured
BATCHES = [[50, 70, 9], [50, 70, 9], [100, 50], [9, 70, 49, 1], [256], [300, 20], [310], [50, 70, 9], [4100], [30] * 12, [29] * 12, [31] * 9]  # fmt: skip

# a size is captured when it comes again
recording = partial(Recorded, graphs=Graphs(4096, 8, 1, longest=320), room=1e9, tell=print)


def build(bits: int) -> Any:
    torch.manual_seed(0)
    shape = MistralConfig(**SHAPE, attn_implementation="sdpa")
    weights = MistralForCausalLM(shape).to(torch.bfloat16).state_dict()
    quantised = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )  # fmt: skip
    model: Any = MistralForCausalLM.from_pretrained(
        None, config=shape, state_dict=weights, dtype=torch.bfloat16, device_map={"": torch.cuda.current_device()},
        quantization_config=quantised if bits == 4 else None,
    )  # fmt: skip
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules=ALL))
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.data = parameter.data.float()
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    return model.train()


def batch(lengths: list[int], seed: int) -> dict[str, Any]:
    positions = torch.cat([torch.arange(length) for length in lengths])[None].cuda()
    ids = (3 * positions + seed) % 97  # which can be learned
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).cuda()
    longest = max(lengths)
    return {
        "input_ids": ids, "position_ids": positions, "labels": ids.masked_fill(positions == 0, -100), "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest,
    }  # fmt: skip


def compare(bits: int, keep: list[bool]) -> dict[str, Any]:
    """Steps of two micro-batches each, with the same weights one by one and recorded; between them it evaluates, and tries rows.

    Of several processes each begins with other rows, and so captures when others do not; they share the gradients of a step.
    """
    plays, usual = [], module._Played.forward
    module._Played.forward = staticmethod(lambda *values: (plays.append(1), usual(*values))[1])  # type: ignore[method-assign, assignment]
    models = [build(bits), build(bits)]
    weights = [[p for p in model.parameters() if p.requires_grad] for model in models]
    optimiser = torch.optim.AdamW(weights[0], lr=5e-3)
    losses, apart, gradients = [], [], []
    with ExitStack() as stack:
        for model, played in zip(models, (False, True), strict=True):
            if bits == 16:
                model.enable_input_require_grads()
            model.set_attn_implementation(varlen_attention.NAME)
            stack.enter_context(fused_layer.layers(model, torch.bfloat16, keep, recorded=recording if played else None))
        several = processes.size() > 1
        wrapped = [DistributedDataParallel(model) if several else model for model in models]
        first = 5 * processes.rank()
        for number, lengths in enumerate([*BATCHES[first:], *BATCHES, *BATCHES[:first]]):
            found = []
            for model in wrapped:
                with torch.no_grad():
                    model(**batch(lengths, 1), use_cache=False)
                alone = several and number % 2 == 0
                with model.no_sync() if alone else nullcontext():
                    with torch.autocast("cuda", torch.bfloat16):
                        loss = model(**batch(lengths, 0), use_cache=False).loss
                    loss.backward()
                found.append(loss.item())
            losses.append(found[0])
            apart.append(abs(found[0] - found[1]))
            if number % 2:
                one, other = (torch.cat([p.grad.flatten() for p in own]) for own in weights)
                gradients.append(float((one - other).norm() / one.norm()))
                optimiser.step()
                with torch.no_grad():
                    torch._foreach_copy_(weights[1], weights[0])
                for model in models:
                    model.zero_grad()
                    model.eval()
                    with torch.no_grad():
                        model(**batch(lengths, 2), use_cache=False)
                    model.train()
    module._Played.forward = usual  # type: ignore[method-assign]
    return {"losses": max(apart), "gradients": max(gradients), "learned": losses[0] - losses[-5], "replays": len(plays)}


def differing() -> dict[str, Any]:
    """What is told where the work changes while it is captured, and whether training goes on."""
    usual, calls = varlen_attention.attend, [0]

    def attend(*values: Any) -> Any:
        calls[0] += 1
        out, lse = usual(*values)
        return out * (1.0 + 0.1 * calls[0]), lse

    varlen_attention.attend = attend  # type: ignore[assignment]
    found = steps(3, room=1e9)
    varlen_attention.attend = usual
    return found


def steps(count: int, room: float) -> dict[str, Any]:
    """What is told in so many steps of one size, and the loss of the last."""
    model, told = build(16), list[str]()
    model.set_attn_implementation(varlen_attention.NAME)
    recorded = partial(Recorded, graphs=Graphs(LARGEST, 8, 1), room=room, tell=told.append)
    with fused_layer.layers(model, torch.bfloat16, [True] * 3, recorded=recorded):
        for _ in range(count):
            loss = model(**batch(BATCHES[0], 0), use_cache=False).loss
            loss.backward()
    return {"told": told, "loss": loss.item()}


def room() -> dict[str, Any]:
    """What CUDA graphs hold when small sizes come first, beside what was made ready for the largest."""
    model, asked = build(16), 200e6
    held = []

    class Seen(Recorded):
        def __call__(self, *values: Any) -> Any:
            out = super().__call__(*values)
            if self._studio:
                held.append(self._studio.held / asked)
            return out

    model.set_attn_implementation(varlen_attention.NAME)
    with fused_layer.layers(model, torch.bfloat16, [True] * 3, recorded=partial(Seen, graphs=Graphs(2048, 8, 1), room=asked, tell=print)):  # fmt: skip
        for size in range(128, 2049, 128):
            for _ in range(3):
                model(**batch([size], 0), use_cache=False).loss.backward()
    return {"first": held[0], "last": held[-1]}


def main() -> None:
    """On one GPU all cases, on several what they do together; the leader tells."""
    processes.join()
    keeps = {"kept": [True] * 3, "some again": [False, True, False]}
    own = {f"{bits} bits, {name}": compare(bits, keep) for bits in (16, 4) for name, keep in keeps.items()}
    gpus = processes.gather(own)
    found: dict[str, Any] = {
        "cases": {f"GPU {gpu}, {case}": apart for gpu, own in enumerate(gpus) for case, apart in own.items()}
    }
    if len(gpus) == 1:
        found |= {"differing": differing(), "no_room": steps(4, room=1e15), "room": room()}
    if processes.leads():
        print(json.dumps(found))
    processes.part()


if __name__ == "__main__":
    main()
