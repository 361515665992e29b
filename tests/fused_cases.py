"""What tests/test_fused.py asserts, worked out in a process of its own: Unsloth changes the library's classes for good."""

from __future__ import annotations

import json
from functools import partial
from itertools import chain
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BitsAndBytesConfig,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from medrecipes.core.errors import EngineError
from medrecipes.engines.base_weights import round_weights_alone
from medrecipes.engines.generation import body
from medrecipes.engines.generation.cache import Slots
from medrecipes.engines.kernels import fused_layer, pointwise, varlen_attention
from medrecipes.engines.kernels.cuda_graphs import Recorded
from medrecipes.engines.kernels.eight_bit import EightBitProjection, unfit
from medrecipes.engines.kernels.projections import Projection, eight_bit_scales
from medrecipes.engines.plan.pace import Graphs
from medrecipes.engines.trainer.fused import differs
from medrecipes.engines.trainer.runtime_proofs import Proving
from medrecipes.recipe.schema import Lora, Model, Recipe

LENGTHS = [5, 9, 1, 7]
SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128,
}  # fmt: skip
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "mistral with a window": (MistralConfig, MistralForCausalLM, {"sliding_window": 5}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "gemma": (GemmaConfig, GemmaForCausalLM, {}),
    # norms of queries, keys and what blocks make; two kinds of layers, each with windows and positions of its own
    "gemma 3": (
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 5,
            "query_pre_attn_scalar": 32,
        },
    ),
    # the same norms of what blocks make, scores that are capped, the last logits too
    "gemma 2": (
        Gemma2Config,
        Gemma2ForCausalLM,
        {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 5,
            "query_pre_attn_scalar": 32, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 3.0,
            "attn_implementation": "eager",
        },
    ),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),  # biases
    "qwen2 with windows": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 5},
    ),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 24}),  # norms of queries and keys; heads wider than their share
    "qwen3 with yarn": (
        Qwen3Config,
        Qwen3ForCausalLM,
        {
            "rope_parameters": {
                "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e4,
            }
        },
    ),
    "llama 3.1": (
        LlamaConfig,
        LlamaForCausalLM,
        {
            "rope_parameters": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32, "rope_theta": 5e5,
            }
        },
    ),
    "smollm3": (SmolLM3Config, SmolLM3ForCausalLM, {"no_rope_layers": [1, 0, 1], "pad_token_id": 0}),
    "phi3": (Phi3Config, Phi3ForCausalLM, {"partial_rotary_factor": 0.5, "pad_token_id": 0}),  # q, k and v in one
}  # fmt: skip
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def build(family: str, targets: list[str]) -> Any:
    config, kind, settings = FAMILIES[family]
    torch.manual_seed(0)
    model = kind(config(**{"attn_implementation": "sdpa"} | SHAPE | settings))
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            parameter.data.normal_(0, 0.3)
    if family == "phi3":
        targets = sorted({{"o_proj": "o_proj", "down_proj": "down_proj", "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}.get(name, "qkv_proj") for name in targets})  # fmt: skip
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules=targets))
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.double()
        if "lora_B" in name:
            parameter.data.normal_(0, 0.2)
    return model.train()


def step(model: Any, **where: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of padding-free rows, and the gradients of the updates."""
    torch.manual_seed(1)
    ids = torch.randint(0, 97, (1, sum(LENGTHS))).to(model.device)
    labels = ids.clone()
    labels[0, :3] = -100
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None].to(model.device)
    model.zero_grad()
    loss = model(input_ids=ids, position_ids=positions, labels=labels, use_cache=False, **where).loss
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


ENDS = torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32)
WHERE = {"cu_seq_lens_q": ENDS, "cu_seq_lens_k": ENDS, "max_length_q": 9, "max_length_k": 9}


KEEP = {"kept": [True] * 3, "again": [False] * 3, "some again": [False, True, False]}
ONCE = {
    "kept": [("all", False, False)],
    "again": [("some", True, False)],
    "some again": [("all", True, True)],
}
TARGETS = {"all": ALL, "some": ["q_proj", "v_proj", "up_proj"]}


recording = partial(Recorded, graphs=Graphs(4096, 8, 6), room=1e9, tell=print)


def compare(family: str, targets: list[str], keep: list[bool], *, inputs_learn: bool, recorded: bool) -> dict[str, Any]:
    """How far the losses and, at most, the gradients lie apart, as shares."""
    model = build(family, targets)
    if inputs_learn:
        model.enable_input_require_grads()
    loss, grads = step(model)
    with fused_layer.layers(
        model,
        torch.float64,
        keep,
        project=partial(Projection, decode=keep[0]),
        recorded=recording if recorded else None,
    ):
        own_loss, own = step(model, **WHERE)
    assert own.keys() == grads.keys()
    apart = max(float((own[name] - grad).abs().max() / grad.abs().max()) for name, grad in grads.items())
    return {"loss": abs(own_loss - loss) / loss, "gradients": apart, "updates": len(grads)}


def calls() -> list[int]:
    """How often the own attention had run after a training step, a step while evaluating, and a step after the context."""
    model, seen, counts = build("mistral", ALL), [], []
    usual = varlen_attention.attend
    varlen_attention.attend = lambda *values: (seen.append(1), usual(*values))[1]  # type: ignore[assignment]
    with fused_layer.layers(model, torch.float64, [True] * 3):
        step(model, **WHERE)
        counts.append(len(seen))
        model.eval()
        step(model)
        model.train()
        counts.append(len(seen))
    step(model)
    varlen_attention.attend = usual
    return [*counts, len(seen)]


def neighbours() -> dict[str, Any]:
    """What is said of rows on a line: with their borders as they are, and with one border forgotten."""
    model, found = build("llama", ALL), {}
    ids = torch.randint(0, 97, (1, sum(LENGTHS)))
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    batch = {"input_ids": ids, "position_ids": positions, "labels": ids.masked_fill(positions == 0, -100)}
    blurred = {**WHERE, "cu_seq_lens_q": torch.tensor([0, 5, 14, 22], dtype=torch.int32)}
    with fused_layer.layers(model, torch.float64, [True, False, True]):
        for name, where in (("kept", WHERE), ("blurred", blurred)):
            proving = Proving("llama", packing=False, evaluate=None)
            try:
                proving.look({**batch, **where}, lambda changed: model(**changed, use_cache=False).loss)
            except EngineError as error:
                found[name] = str(error)
            else:
                found[name] = proving.found
    return found


def two_steps() -> list[float]:
    """The loss before and after a step of the optimiser, and the library's after it."""
    model = build("llama", ALL)
    with fused_layer.layers(model, torch.float64, [True] * 3):
        before, grads = step(model, **WHERE)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in grads:
                    parameter -= 0.01 * grads[name]
        after, _ = step(model, **WHERE)
    return [before, after, step(model)[0]]


def reasons() -> dict[str, str | None]:
    """Why the layers of a model are left to the library."""
    recipes = {
        "dropout": Recipe(lora=Lora(dropout=0.1)), "dora": Recipe(lora=Lora(use_dora=True)),
        "offload": Recipe(model=Model(bits=8, cpu_offload=True)), "8 bits": Recipe(model=Model(bits=8)), "none": Recipe(),
    }  # fmt: skip
    found = {name: fused_layer.unfit(build("mistral", ALL), recipe) for name, recipe in recipes.items()}
    other, sharp = build("mistral", ALL), build("mistral", ALL)
    other.config.model_type = "granite"  # which scales what it adds up
    sharp.get_decoder().layers[0].mlp.act_fn, sharp.config.hidden_act = torch.nn.ReLU(), "relu"
    return {**found, "granite": fused_layer.unfit(other, Recipe()), "relu": fused_layer.unfit(sharp, Recipe())}


def probes() -> dict[str, str | None]:
    """What the probe before training says of layers that are right, of a wrong gradient, of none, and of a wrong stream."""
    found = {}
    usual = pointwise._ON_CPU[pointwise.heads_normed_back]

    def fail(*_: Any) -> None:
        raise RuntimeError("no kernel for this GPU\nmore")

    for name, wrong in (("right", usual), ("wrong", lambda *values: usual(*values) * 1.1), ("none", fail)):
        pointwise._ON_CPU[pointwise.heads_normed_back] = wrong
        model = build("qwen3", ALL).eval()
        found[name] = differs(model, torch.float64, partial(fused_layer.layers, model, torch.float64, [True] * 3))
        assert not model.training
        assert all(parameter.grad is None for parameter in model.parameters())
    pointwise._ON_CPU[pointwise.heads_normed_back] = usual
    return found


def eight_bits() -> dict[str, Any]:
    """How far 8-bit floats lie from what they round: a product both ways, and a whole model's loss and gradients."""
    found: dict[str, Any] = {}
    torch.manual_seed(0)
    where = torch.device(
        "cuda" if torch.cuda.is_available() else "cpu"
    )  # which older releases of torch multiply on alone
    matrices = [
        torch.nn.Linear(128, rows, device=where, dtype=torch.bfloat16).requires_grad_(False) for rows in (96, 32)
    ]
    for matrix in matrices:
        matrix.weight.data *= torch.logspace(-3, 3, 128, device=where)  # what one scale for all would lose
    x, *grads = (torch.randn(50, numbers, device=where).bfloat16() for numbers in (128, 96, 32))
    plain, held, anew = (
        kind(matrices, torch.bfloat16, decode=once)
        for kind, once in ((Projection, False), (EightBitProjection, True), (EightBitProjection, False))
    )
    for name, ours in (("held", held), ("anew", anew)):
        found[name] = [
            float((a.float() - b.float()).norm() / b.float().norm())
            for a, b in ((ours.product(x), plain.product(x)), (ours.product_back(grads), plain.product_back(grads)))
        ]
    found["nothing"] = float((held.product(torch.zeros_like(x)) - plain.bias).abs().max())
    for family in ("mistral", "qwen2", "gemma 3"):
        model = build(family, ALL).bfloat16().to(where).train()
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        runs = []
        for kind in (Projection, EightBitProjection):
            with (
                fused_layer.layers(model, torch.bfloat16, [True, False, True], project=partial(kind, decode=kind is EightBitProjection)),
                torch.autocast(where.type, torch.bfloat16),
            ):  # fmt: skip
                runs.append(
                    step(model, **{name: v.to(where) if name.startswith("cu") else v for name, v in WHERE.items()})
                )
        (loss, grads_), (rounded, others) = runs
        far = sum(float((others[name] - grad).square().sum()) for name, grad in grads_.items())
        found[family] = [
            abs(rounded - loss) / loss,
            (far / sum(float(g.square().sum()) for g in grads_.values())) ** 0.5,
        ]
    odd = torch.nn.Linear(128, 90)
    found["unfit"] = [unfit([[matrices]]), unfit([[matrices], [[odd]]])]
    return found


def weights_in_8_bits() -> dict[str, dict[str, float]]:
    """How far a base in 8 bits trains and answers through the fused layers from how it does through the library's."""
    found = {}
    for family in ("llama 3.1", "qwen2", "gemma 3", "phi3"):
        config, kind, settings = FAMILIES[family]
        torch.manual_seed(0)
        shape = config(**{"attn_implementation": "sdpa"} | SHAPE | settings)
        model = kind.from_pretrained(
            None, config=shape, state_dict=kind(shape).state_dict(), dtype=torch.float32, device_map={"": "cpu"},
            quantization_config=BitsAndBytesConfig(load_in_8bit=True),
        )  # fmt: skip
        round_weights_alone(model)
        assert eight_bit_scales(fused_layer.projections(model.get_decoder().layers[0])[1][0]) is not None
        own = fused_layer.projections(model.get_decoder().layers[0])
        names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if module in list(chain(*own))}
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=12, target_modules=sorted(names))).train()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.2)
        loss, grads = step(model)
        found[family] = {"updates": len(grads)}
        for name, once in (("once", True), ("anew", False)):
            with fused_layer.layers(
                model, torch.float32, [True, False, True], project=partial(Projection, decode=once)
            ):
                ours, others = step(model, **WHERE)
            far = sum(float((others[key] - grad).square().sum()) for key, grad in grads.items())
            size = sum(float(grad.square().sum()) for grad in grads.values())
            found[family][name] = max(abs(ours - loss) / loss, (far / size) ** 0.5)
        model.eval()
        ids = list(range(1, 13))
        with torch.no_grad():
            assert body.fits_fused(model, torch.float32)
            wanted = body.expected(model, ids, torch.device("cpu"))
            answers = body.FusedBody(model, torch.float32, adapter=True, decode=False)
            found[family]["answers"] = body.apart(answers, Slots(2, len(ids) + 1, torch.float32), ids, wanted)
    return found


if __name__ == "__main__":
    apart = {
        f"{family}, {targets} targets, {keep}{', input with a gradient' if inputs else ''}{', filled up' if recorded else ''}": compare(
            family, TARGETS[targets], KEEP[keep], inputs_learn=inputs, recorded=recorded
        )
        for family in FAMILIES
        for targets in TARGETS
        for keep in KEEP
        for inputs in (False, True)
        for recorded in (False, True)
        # of all combinations those of two kinds of base, and of the others each once with each setting
        if family in ("mistral with a window", "gemma 3") or (targets, inputs, recorded) in ONCE[keep]
    }
    print(
        json.dumps(
            {
                "apart": apart,
                "calls": calls(),
                "two steps": two_steps(),
                "reasons": reasons(),
                "neighbours": neighbours(),
                "probes": probes(),
                "eight bits": eight_bits(),
                "weights in 8 bits": weights_in_8_bits(),
            }
        )
    )
