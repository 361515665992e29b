"""Supervised fine-tuning in one file: render, prove, LoRA, a plain training loop, bits per byte before and after.

    python examples/minimal.py                # a tiny Mistral that is built on the spot, two minutes on a CPU
    python examples/minimal.py FOLDER|HUB-ID  # any base that speaks templates/mistral-v1.jinja

What `medrecipes run` does around this: sources and cleaning, near-duplicates, leakage, 4 bits, packing, resume, the
choice of a checkpoint, answers and their scores with intervals, cards, release. The rendering, the masks and the figure
are the same; a test holds them against the library's.
"""

from __future__ import annotations

import csv
import hashlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = (ROOT / "templates" / "mistral-v1.jinja").read_text(encoding="utf-8")
MASKED = -100  # the label that the loss leaves out
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SEED, BATCH, EPOCHS, LEARNING_RATE, RANK, ALPHA = 42, 8, 3, 2e-3, 16, 32
Row = dict[str, Any]


def read_rows() -> tuple[list[Row], list[Row]]:
    """Questions and answers, split by subject: no subject is trained on and tested on."""
    with (ROOT / "data" / "medquad.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["answer"].strip()]
    subjects = sorted({row["focus_area"] for row in rows}, key=lambda s: hashlib.sha256(s.encode()).hexdigest())
    held_out = set(subjects[: len(subjects) // 4])
    return [r for r in rows if r["focus_area"] not in held_out], [r for r in rows if r["focus_area"] in held_out]


def render(tokenizer: Any, row: Row) -> tuple[list[int], list[int]]:
    """Input ids and labels: the answer and its stop token are supervised, the prompt is masked."""
    messages = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
    encoded = tokenizer.apply_chat_template(
        messages, chat_template=TEMPLATE, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = encoded["input_ids"], encoded["assistant_masks"]
    return ids, [id if answer else MASKED for id, answer in zip(ids, mask, strict=True)]


def prove(tokenizer: Any, row: Row, ids: list[int], labels: list[int]) -> None:
    """What public fine-tunings get wrong: the BOS, the prompt's mask, the stop token, the text of the answer."""
    supervised = [label for label in labels if label != MASKED]
    assert ids.count(tokenizer.bos_token_id) == 1, f"not exactly one BOS: {row['question']}"
    assert supervised[-1] == tokenizer.eos_token_id, f"the stop token is not supervised: {row['question']}"
    assert labels[: -len(supervised)] == [MASKED] * (len(ids) - len(supervised)), "the prompt is supervised"
    assert tokenizer.decode(supervised[:-1]).strip() == row["answer"].strip(), f"another text: {row['answer']}"


class LoRA(nn.Module):
    """A frozen linear layer with a trainable product of two thin matrices beside it; it begins as the layer itself."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear, self.on = linear.requires_grad_(False), True
        self.a = nn.Parameter(torch.empty(RANK, linear.in_features))
        self.b = nn.Parameter(torch.zeros(linear.out_features, RANK))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x)
        return out + (x @ self.a.T @ self.b.T) * (ALPHA / RANK) if self.on else out


def attach(model: nn.Module) -> list[nn.Parameter]:
    """Freeze the base and put LoRA on its projections; the trainable parameters."""
    model.requires_grad_(False)
    places = [(parent, name) for parent in model.modules() for name, _ in parent.named_children() if name in TARGETS]
    for parent, name in places:
        setattr(parent, name, LoRA(getattr(parent, name)))
    return [p for p in model.parameters() if p.requires_grad]


def batches(examples: list[tuple[list[int], list[int]]], pad: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Padded batches: the padding is not attended to and not supervised, whatever token it is made of."""
    for start in range(0, len(examples), BATCH):
        rows = examples[start : start + BATCH]
        longest = max(len(ids) for ids, _ in rows)
        gaps = [longest - len(ids) for ids, _ in rows]
        yield (
            torch.tensor([ids + [pad] * gap for (ids, _), gap in zip(rows, gaps, strict=True)]),
            torch.tensor([[1] * (longest - gap) + [0] * gap for gap in gaps]),
            torch.tensor([labels + [MASKED] * gap for (_, labels), gap in zip(rows, gaps, strict=True)]),
        )


def token_nats(model: Any, ids: torch.Tensor, attention: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The negative log-likelihood of every supervised token, 0 elsewhere: position i predicts the token at i + 1."""
    logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1].float()
    return nn.functional.cross_entropy(logits.transpose(1, 2), labels[:, 1:], ignore_index=MASKED, reduction="none")


@torch.no_grad()
def bits_per_byte(model: Any, rows: list[Row], examples: list[tuple[list[int], list[int]]], tokenizer: Any) -> float:
    """How well the answers are predicted, comparable across tokenizers; the stop token is no part of an answer."""
    model.eval()
    answers = [(ids[:-1], labels[:-1]) for ids, labels in examples]
    nats = sum(float(token_nats(model, *batch).sum()) for batch in batches(answers, tokenizer.eos_token_id))
    return nats / math.log(2) / sum(len(row["answer"].strip().encode()) for row in rows)


def train(model: Any, parameters: list[nn.Parameter], examples: list[tuple[list[int], list[int]]], pad: int) -> None:
    """A plain loop: shuffled batches, the mean over supervised tokens, a learning rate that falls to zero."""
    model.train()
    optimiser = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=0.0)
    steps = EPOCHS * math.ceil(len(examples) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(SEED + epoch)).tolist()
        for step, (ids, attention, labels) in enumerate(batches([examples[i] for i in order], pad)):
            loss = token_nats(model, ids, attention, labels).sum() / (labels != MASKED).sum()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            if step == 0:
                print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.3f}")


def base_folder(rows: list[Row]) -> str:
    """A base in the store, pre-trained on the training subjects alone: nothing of the test subjects is in it."""
    from medrecipes.engines.tiny_bases import build

    subjects: dict[str, list[str]] = {}
    for row in rows:
        subjects.setdefault(row["focus_area"], []).append(f"{row['question']}\n{row['answer']}")
    return build("mistral", ["\n".join(texts) for texts in subjects.values()], SEED).name


def main(base: str | None = None) -> tuple[float, float]:
    """From rows to bits per byte of answer, before and after."""
    torch.manual_seed(SEED)
    train_rows, test_rows = read_rows()
    base = base or base_folder(train_rows)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    train_set, test_set = ([render(tokenizer, row) for row in rows] for rows in (train_rows, test_rows))
    for row, (ids, labels) in zip([*train_rows, *test_rows], [*train_set, *test_set], strict=True):
        prove(tokenizer, row, ids, labels)
    print(f"{len(train_rows)} rows to train on, {len(test_rows)} of other subjects to test on, all proved")
    before = bits_per_byte(model, test_rows, test_set, tokenizer)
    parameters = attach(model)
    print(f"{sum(p.numel() for p in parameters):,} trainable parameters")
    train(model, parameters, train_set, tokenizer.eos_token_id)
    after = bits_per_byte(model, test_rows, test_set, tokenizer)
    print(f"bits per byte of answer: {before:.3f} before, {after:.3f} after")
    return before, after


if __name__ == "__main__":
    main(*sys.argv[1:2])
