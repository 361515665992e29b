"""The likelihood of answers that others wrote: the loss of dev rows, and bits per byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from medrecipes.core.errors import EngineError
from medrecipes.core.progress import counted
from medrecipes.engines.generation.body import LibraryBody, Prompts
from medrecipes.engines.generation.library import device_of, inference, portions
from medrecipes.engines.generation.memory import free_bytes
from medrecipes.engines.kernels.varlen_attention import Rows
from medrecipes.engines.opening import without_peft
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, Example
from medrecipes.rendering.packing import collate, pack

# that one forward pass over packed rows takes in at the least and, where memory allows, at the most: a small base waits for its
# launches; a token takes so many bytes for each number of its stream and of a perceptron
TOKENS, MOST, BYTES = 8192, 131_072, 32
LOGITS = 2**28  # made at a time


def nats(
    model: Any, template: ChatTemplate, examples: Sequence[Example], batch: int, dtype: torch.dtype, *,
    in_step: bool = False,
) -> list[tuple[float, float]]:  # fmt: skip
    """The negative log-likelihood of each row's answers and of their stop tokens; logits are made for these only."""
    device = device_of(model)
    causal, body = without_peft(model), LibraryBody(model)
    stops = torch.tensor(sorted(template.stop_ids), device=device)
    _, pad = template.pad
    packs = pack(examples, 0, packing=False)

    def some(rows: Sequence[int]) -> list[tuple[float, float]]:
        lists = collate([packs[i] for i in rows], pad, "padded")
        tensors = {name: torch.tensor(value, device=device) for name, value in lists.items()}
        labels = tensors["labels"][:, 1:]
        wanted = labels != MASKED
        with inference(device, dtype):
            hidden = causal.model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"])[0]
            logits = body.logits(hidden[:, :-1][wanted])
        losses = torch.zeros(labels.shape, device=device)
        losses[wanted] = torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="none")
        stop = torch.isin(labels, stops)
        texts, ends = (losses * ~stop).sum(1).tolist(), (losses * stop).sum(1).tolist()
        return list(zip(texts, ends, strict=True))

    # the longest first: should memory run out, then at once
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i].input_ids))
    found = dict(zip(order, counted(portions(order, batch, some, in_step=in_step), len(order), "losses"), strict=True))  # fmt: skip
    return [found[i] for i in range(len(examples))]


def packed_nats(
    body: LibraryBody, examples: Sequence[Example], stop_ids: Sequence[int], device: torch.device
) -> list[tuple[float, float]]:
    """The same with rows laid end to end and no padding, through a body that attends within each."""
    found: dict[int, tuple[float, float]] = {}
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i].input_ids))
    tokens, start = max(TOKENS, min(MOST, int(free_bytes(device) / (BYTES * body.widths)))), 0
    while start < len(order):
        taken: list[int] = []
        held = 0
        for i in order[start:]:
            held += len(examples[i].input_ids)
            if taken and held > tokens:
                break
            taken.append(i)
        try:
            values = _packed([examples[i] for i in taken], body, stop_ids, device)
        except torch.cuda.OutOfMemoryError:
            if len(taken) == 1:
                raise EngineError(
                    "out of memory with one row at a time and nothing to learn from it; lower data.max_tokens, or choose "
                    "a smaller base"
                ) from None
            values = []
        if not values:  # behind that block, where what the attempt had made is no longer held
            tokens //= 2
            torch.cuda.empty_cache()
            continue
        found |= dict(zip(taken, values, strict=True))
        start += len(taken)
    return [found[i] for i in range(len(examples))]


def _packed(
    rows: Sequence[Example], body: LibraryBody, stop_ids: Sequence[int], device: torch.device
) -> list[tuple[float, float]]:
    lengths = [len(row.input_ids) for row in rows]
    ids = torch.tensor([id for row in rows for id in row.input_ids], device=device)
    places = torch.cat([torch.arange(length) for length in lengths]).to(device)
    ends = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    # a token is predicted where the one before it stands; the first of a row nowhere
    labels = torch.tensor([label for row in rows for label in (*row.labels[1:], MASKED)], device=device)
    keep = (labels != MASKED).nonzero()[:, 0]
    owner = torch.arange(len(rows)).repeat_interleave(torch.tensor(lengths)).to(device)[keep]
    hidden, wanted = body.stream(ids, places, Prompts(Rows(ends, max(lengths))))[keep], labels[keep]
    at_once = max(1, LOGITS // body.vocabulary)
    some = zip(hidden.split(at_once), wanted.split(at_once), strict=True)
    losses = torch.cat([cross_entropy(body.logits(part), next_, reduction="none") for part, next_ in some]).double()
    stop = torch.isin(wanted, torch.tensor(sorted(stop_ids), device=device))
    sums = [losses.new_zeros(len(rows)).index_add_(0, owner, losses * part).tolist() for part in (~stop, stop)]
    return list(zip(*sums, strict=True))
