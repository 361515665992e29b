"""Rows a second from conversations to ids and labels: ours against row-by-row `apply_chat_template`, same ids."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from medrecipes.data.records import Conversation
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, save_tokenizer
from medrecipes.rendering.tokenizer import Tokenizer
from tests import corpus, families


def rows(count: int) -> list[Conversation]:
    """Real MedQuAD rows where `MEDRECIPES_DATA` names a copy, else the project's sample over and over, numbered."""
    found = corpus.medquad(count)[:count]
    if not os.environ.get("MEDRECIPES_DATA"):
        found = [found[i % len(found)] for i in range(count)]
    numbered = os.environ.get("MEDRECIPES_DATA") is None  # a repeated text would be tokenised once
    return [
        Conversation.of(str(i), "", question.content, f"{answer.content} ({i})" if numbered else answer.content)
        for i, (question, answer) in enumerate(found)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--template", default="mistral-v3", choices=sorted(families.FAMILIES))
    parser.add_argument("--rounds", type=int, default=3, help="the fastest of so many counts, for both sides")
    options = parser.parse_args()
    from transformers import AutoTokenizer

    def fresh() -> ChatTemplate:
        return ChatTemplate(options.template, Tokenizer(families.folder(options.template)))

    conversations = rows(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(fresh(), Path(folder))
        reference = AutoTokenizer.from_pretrained(folder)
    chats = [[{"role": m.role, "content": m.content} for m in c.messages] for c in conversations]

    def theirs() -> list[Any]:
        return [
            reference.apply_chat_template(chat, tokenize=True, return_assistant_tokens_mask=True, return_dict=True)
            for chat in chats
        ]

    reference.apply_chat_template(chats[0], return_dict=True)
    fastest = {"ours": float("inf"), "theirs": float("inf")}
    for _ in range(options.rounds):
        template = fresh()  # it keeps the ids of words that it has seen: no round profits from the one before
        list(template.examples(conversations[:1]))
        start = time.perf_counter()
        examples = list(template.examples(conversations))
        middle = time.perf_counter()
        encoded = theirs()
        end = time.perf_counter()
        fastest = {"ours": min(fastest["ours"], middle - start), "theirs": min(fastest["theirs"], end - middle)}
    for example, other in zip(examples, encoded, strict=True):
        labels = [id if mask else MASKED for id, mask in zip(other["input_ids"], other["assistant_masks"], strict=True)]
        assert example.input_ids == other["input_ids"], example.id
        assert example.labels == labels, example.id
    tokens = sum(len(example.input_ids) for example in examples)
    for name, seconds in fastest.items():
        print(f"{name:>7} {len(examples) / seconds:9,.0f} rows/s {tokens / seconds:12,.0f} tokens/s")
    print(f"  ratio {fastest['theirs'] / fastest['ours']:9.2f} ({len(examples)} rows, same ids and labels)")


main()
