"""What a trainer takes in at once: packs as tensors, and the tokenizer as TRL wants to hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from medrecipes.rendering.chat_template import MASKED, ChatTemplate
from medrecipes.rendering.packing import Layout, Pack, collate


def tensors(packs: Sequence[Pack], pad: int, layout: Layout, engine: str) -> dict[str, Any]:
    """A micro-batch, with the numbers of its rows for the log."""
    lists = collate(packs, pad, layout)
    lengths = lists.pop("lengths", None)
    batch: dict[str, Any] = {name: torch.tensor(value) for name, value in lists.items()}
    # plain numbers, not tensors: they stay off the GPU, and reading them waits for nothing
    batch["rows"] = [row for p in packs for row in p.rows]
    batch["tokens"] = sum(len(p.input_ids) for p in packs)
    batch["supervised"] = sum(label != MASKED for p in packs for label in p.labels)
    if lengths is not None and engine == "unsloth":
        batch["packed_seq_lengths"] = torch.tensor(lengths, dtype=torch.int32)
    elif lengths is not None:
        ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        batch |= {
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": max(lengths),
            "max_length_k": max(lengths),
        }
    return batch


def processing_class(template: ChatTemplate) -> Any:
    """The base's tokenizer as TRL wants to hold it; it is never asked to render anything."""
    tokenizer = template.tokenizer
    named = {**tokenizer.named, "pad_token": template.pad[0]}
    return PreTrainedTokenizerFast(tokenizer_file=str(tokenizer.folder / "tokenizer.json"), **named)
