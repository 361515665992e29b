"""What tests/test_generation.py asserts, worked out in a process of its own: Unsloth changes the library's classes for good."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model

from medrecipes.engines import Decoding, lora
from medrecipes.engines.generation import (
    AtOnce,
    Generator,
    LibraryBody,
    Loaded,
    Request,
    generate,
    inference,
    likelihood,
    nats,
    packed_nats,
)
from medrecipes.engines.generation import batch as batching
from medrecipes.engines.generation import body as bodies
from medrecipes.engines.generation.steps import Steps
from medrecipes.rendering.chat_template import MASKED, Example

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral with a window": ("Mistral", {"sliding_window": 5}),
    "llama": ("Llama", {}),
    "llama 3's positions": (
        "Llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 1e4,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {"sliding_window": 6, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 1.0}),
    "gemma3": (
        "Gemma3",
        {
            "sliding_window": 6,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "phi3": ("Phi3", {}),
    "granite": ("Granite", {"logits_scaling": 3.0, "residual_multiplier": 0.5}),
}
STOPS = [2, 5]
PROMPTS = [
    [1, *torch.randint(6, 97, (n,), generator=torch.Generator().manual_seed(n)).tolist()]
    for n in (1, 2, 3, 5, 8, 11, 17, 24)
]
TEMPLATE: Any = SimpleNamespace(stop_ids=STOPS, pad=("<pad>", 0), tokenizer=SimpleNamespace(bos=1))
GREEDY = Decoding(12, 0.0, 1.0, 1.0, 1)
DECODINGS = {
    "greedy": GREEDY,
    "penalised": Decoding(12, 0.0, 1.0, 1.4, 1),
    "sampled": Decoding(12, 0.9, 0.8, 1.0, 1),
    "sampled with another seed": Decoding(12, 0.9, 0.8, 1.0, 2),
}


def build(family: str, dtype: torch.dtype = torch.float32) -> Any:
    name, settings = FAMILIES[family]
    kind = "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config"
    torch.manual_seed(0)
    config = getattr(transformers, kind)(
        **{**SHAPE, **settings}, attn_implementation="eager" if name == "Gemma2" else "sdpa"
    )
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    for part, parameter in model.named_parameters():
        parameter.data.normal_(0.0, 0.5 if "norm" in part else 0.25)
    targets = "all-linear" if name == "Phi3" else ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules=targets))
    for part, parameter in model.named_parameters():
        if "lora_B" in part:
            parameter.data.normal_(0, 0.2)
    for part, parameter in model.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if "lora_" in part else dtype)
    return model.to(DEVICE).eval()


def answers(
    model: Any, decoding: Decoding, *, rows: int = 3, fused: bool = False, prompts: Sequence[Sequence[int]] = PROMPTS
) -> tuple[list[list[int]], float, Generator]:
    """What continuous batching answers, and how far its logits lay from the library's on the probe."""
    dtype = next(p.dtype for n, p in model.named_parameters() if "lora_" not in n)
    generator = Generator(Loaded(model, dtype, DEVICE, STOPS, lora.answers(model), fused), rows)
    try:
        far = generator.open(PROMPTS[-1])
        asked = [Request(prompt, decoding) for prompt in prompts]
        if generator.opened:
            for _ in generator.answers(asked):
                pass
    finally:
        generator.close()
    return [request.said for request in asked], far, generator


def plainly(model: Any, decoding: Decoding) -> list[list[int]]:
    """What the library's generate answers, a row at a time."""
    dtype = next(p.dtype for n, p in model.named_parameters() if "lora_" not in n)
    return list(generate(model, TEMPLATE, PROMPTS, decoding, AtOnce(1, dtype)))


def examples() -> list[Example]:
    made = []
    for n, prompt in enumerate(PROMPTS):
        answer = [*torch.randint(6, 97, (n % 7 + 1,), generator=torch.Generator().manual_seed(n)).tolist(), 2]
        made.append(Example(str(n), str(n), [*prompt, *answer], [MASKED] * len(prompt) + answer))
    return made


def likelihoods(model: Any) -> float:
    """The largest difference between packed rows, whose logits are made of a few tokens at a time, padded ones, and single ones
    by the library's own logits."""
    body, likelihood.LOGITS = LibraryBody(model), 3 * SHAPE["vocab_size"] + 1
    padded = nats(model, TEMPLATE, examples(), 4, torch.float32)
    with inference(DEVICE, torch.float32), body.opened():
        packed = packed_nats(body, examples(), STOPS, DEVICE)
    with inference(DEVICE, torch.float32):
        alone = []
        for row in examples():
            logits = model(input_ids=torch.tensor([row.input_ids], device=DEVICE)).logits[0, :-1].float()
            wanted = torch.tensor(row.labels[1:], device=DEVICE)
            alone.append(float(torch.nn.functional.cross_entropy(logits, wanted, ignore_index=MASKED, reduction="sum")))
    apart = [abs(a - b) for one, other in zip(padded, packed, strict=True) for a, b in zip(one, other, strict=True)]
    return max(*apart, *(abs(sum(both) - own) for both, own in zip(packed, alone, strict=True)))


def ties(model: Any, said: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> list[float]:
    """Where answers part, by how many nats the library prefers its own token."""
    found = []
    for prompt, one, other in zip(PROMPTS, said, wanted, strict=True):
        place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        if place is None:
            continue
        ids = torch.tensor([[*prompt, *other[:place]]], device=DEVICE)
        with inference(DEVICE, torch.bfloat16):
            likely = model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1)
        found.append(float(likely[other[place]] - likely[one[place]]))
    return found


def family(name: str) -> dict[str, Any]:
    model = build(name)
    wanted = plainly(model, GREEDY)
    said, far, _ = answers(model, GREEDY)
    result: dict[str, Any] = {"library": said == wanted, "apart": far, "early": sum(len(row) < 12 for row in wanted)}
    if batching.fits_fused(model, torch.float32):
        said, far, generator = answers(model, GREEDY, fused=True)
        result |= {"fused": said == wanted, "fused apart": far, "body": generator.ran}
    with model.disable_adapter():
        wanted = plainly(model, GREEDY)
        result["base"] = all(answers(model, GREEDY, fused=fused)[0] == wanted for fused in (False, True))
    if name != "gemma2" or not torch.cuda.is_available():
        result["nats"] = likelihoods(model)
    body = LibraryBody(model)
    with inference(DEVICE, torch.float32):
        expected = bodies.expected(model, PROMPTS[-1], DEVICE)
        with body.opened():
            result["head"] = bodies.head_apart(body, PROMPTS[-1], expected)
            if name == "granite":
                bodies.DIVIDED = "known to nobody"
                result["odd head"] = bodies.head_apart(body, PROMPTS[-1], expected)
                bodies.DIVIDED = "logits_scaling"
    if torch.cuda.is_available():
        half = build(name, torch.bfloat16)
        wanted = plainly(half, GREEDY)
        result["ties"] = []
        for fused in (False, True):
            said, far, generator = answers(half, GREEDY, fused=fused)
            result["ties"] += ties(half, said, wanted)
            result["captured"] = generator.captured
    return result


def main() -> dict[str, Any]:
    model = build("llama")
    drawn = {}
    for name, decoding in DECODINGS.items():
        wanted = plainly(model, decoding)
        several = [answers(model, decoding, rows=rows)[0] for rows in (1, 2, 8)]
        backwards = answers(model, decoding, prompts=PROMPTS[::-1])[0][::-1]
        drawn[name] = {"said": wanted, "same": [said == wanted for said in [*several, backwards]]}

    endless = replace(GREEDY, ignore_eos=True)
    on = plainly(model, endless)
    usual_ones = plainly(model, GREEDY)

    odd = build("llama")  # whose layers do not hear where rows begin
    inner = odd.get_base_model()
    usual = inner.forward
    inner.forward = lambda **named: usual(**{key: value for key, value in named.items() if key != "position_ids"})
    return {
        "families": {name: family(name) for name in FAMILIES},
        "drawn": drawn,
        "endless": {
            "same": [answers(model, endless, fused=fused)[0] == on for fused in (False, True)],
            "lengths": [len(row) for row in on],
            "stopped": sum(len(row) < GREEDY.max_new_tokens for row in usual_ones),
            "begin": [row[: len(one)] == one for row, one in zip(on, usual_ones, strict=True)],
        },
        "odd": answers(odd, GREEDY)[1],
        "memory": memory(model),
        "cancelled": cancelled(model),
    }


def memory(model: Any) -> dict[str, Any]:
    """Memory that runs out with more than three rows at once."""
    heard: list[str] = []
    generator = Generator(Loaded(model, torch.float32, DEVICE, STOPS), 8, heard.append)
    generator.open(PROMPTS[-1])
    usual, tries = Steps.run, list[int]()

    def run(steps: Steps) -> torch.Tensor:
        tries.append(steps._rows)
        if steps._rows > 3 and len(tries) > 2:
            raise torch.cuda.OutOfMemoryError
        return usual(steps)

    Steps.run = run  # type: ignore[method-assign]
    asked = [Request(prompt, GREEDY) for prompt in PROMPTS]
    for _ in generator.answers(asked):
        pass
    Steps.run = usual  # type: ignore[method-assign]
    generator.close()
    return {
        "same": [request.said for request in asked] == plainly(model, GREEDY),
        "heard": heard,
        "largest": [max(tries[:2]), max(tries[-8:])],
    }


def cancelled(model: Any) -> dict[str, Any]:
    """One of three requests is taken back after two tokens; another comes late."""
    generator = Generator(Loaded(model, torch.float32, DEVICE, STOPS), 2)
    generator.open(PROMPTS[-1])
    late = Request(PROMPTS[3], GREEDY)

    def tell(_: int) -> None:
        if len(first.said) == 2:
            generator.cancel(first)
            generator.submit([late])

    first = Request(PROMPTS[7], GREEDY, tell)
    others = [Request(prompt, GREEDY) for prompt in PROMPTS[:2]]
    ended = list(generator.answers([first, *others]))
    generator.close()
    wanted = plainly(model, GREEDY)
    return {
        "first": len(first.said),
        "others": [r.said for r in (*others, late)] == [wanted[0], wanted[1], wanted[3]],
        "ended": len(ended),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
