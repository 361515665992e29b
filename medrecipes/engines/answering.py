"""What a loaded model says and how likely it finds an answer; the same code for base and tuned, and for every engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from medrecipes.batching import collate, pack
from medrecipes.rendering import MASKED, ChatTemplate, Example


@contextmanager
def inference(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """No gradients, and on a card the number format that training computes in."""
    with torch.no_grad(), torch.autocast("cuda", dtype, enabled=device.type == "cuda" and dtype != torch.float32):
        yield


def generate(
    model: Any,
    template: ChatTemplate,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch: int,
    dtype: torch.dtype,
) -> Iterator[list[int]]:
    """Greedy answers in the order of the prompts, the stop token included where one came."""
    device = next(model.parameters()).device
    stops = set(template.stop_ids)
    _, pad = template.tokenizer.pad
    # made anew, so that nothing of the base's own generation config (a temperature, a penalty) slips in
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, max_length=None, do_sample=False, num_beams=1,
        eos_token_id=template.stop_ids, pad_token_id=pad, bos_token_id=template.tokenizer.bos,
    )  # fmt: skip
    for start in range(0, len(prompts), batch):
        rows = prompts[start : start + batch]
        longest = max(map(len, rows))
        ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in rows], device=device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in rows], device=device)
        with inference(device, dtype):
            output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        for row in output[:, longest:].tolist():
            end = next((i for i, id in enumerate(row) if id in stops), None)
            yield row[: end + 1] if end is not None else row


def nats(
    model: Any, template: ChatTemplate, examples: Sequence[Example], batch: int, dtype: torch.dtype
) -> list[tuple[float, float]]:
    """The negative log-likelihood of each row's answers and of their stop tokens; logits are made for these only."""
    device = next(model.parameters()).device
    found = [(0.0, 0.0)] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i].input_ids))
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    cap = getattr(causal.config, "final_logit_softcapping", None)
    stops = torch.tensor(sorted(template.stop_ids), device=device)
    _, pad = template.tokenizer.pad
    packs = pack(examples, 0, packing=False)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        lists = collate([packs[i] for i in rows], pad, "padded")
        tensors = {name: torch.tensor(value, device=device) for name, value in lists.items()}
        labels = tensors["labels"][:, 1:]
        wanted = labels != MASKED
        with inference(device, dtype):
            hidden = causal.model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"])[0]
            logits = causal.lm_head(hidden[:, :-1][wanted]).float()
        if cap:
            logits = cap * torch.tanh(logits / cap)
        losses = torch.zeros(labels.shape, device=device)
        losses[wanted] = torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="none")
        stop = torch.isin(labels, stops)
        texts, ends = (losses * ~stop).sum(1).tolist(), (losses * stop).sum(1).tolist()
        for i, text, end in zip(rows, texts, ends, strict=True):
            found[i] = (text, end)
    return found
