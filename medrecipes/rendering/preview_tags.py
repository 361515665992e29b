"""What a tag recipe trains on: each word with its tag, its pieces, and the window that speaks for it, or all as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from medrecipes.core.errors import printable
from medrecipes.data.bio_tags import OUTSIDE
from medrecipes.data.records import Tagged
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.preview import BORDER, visible
from medrecipes.rendering.tokenizer import Tokenizer
from medrecipes.rendering.word_windows import pieces, windows

UNTAUGHT = "not in training: scored, never supervised"


def preview_tags(tokenizer: Tokenizer, rows: Sequence[Tagged], labels: Sequence[str], recipe: Recipe, console: Console) -> None:  # fmt: skip
    """Print each row, a line a word; of a row that is longer than data.max_tokens, where one window hands over to the next."""
    console.print(Text("a word's tag is supervised at its first piece; its other pieces are masked"))
    console.print(Text(f"tags: {' '.join(labels)}  {BORDER} piece border"), soft_wrap=True)
    width = max((len(tag) for row in rows for tag in row.tags), default=0)
    for row, cut in zip(rows, pieces(tokenizer, [row.tokens for row in rows]), strict=True):
        found = windows(tokenizer, [row], labels, recipe.data.max_tokens, recipe.tag.overlap)
        counts = (
            f"{len(row.tokens):,} words, {sum(map(len, cut)):,} pieces, {len(found)} window{'s' * (len(found) > 1)}"
        )
        console.print()
        console.print(Text(f"{row.id}: {counts}", "bold"), soft_wrap=True)
        begins = {window.words[0]: number for number, window in enumerate(found, 1)}
        for place, (word, tag, ids) in enumerate(zip(row.tokens, row.tags, cut, strict=True)):
            if begins.get(place, 1) > 1:
                console.print(Text(f"window {begins[place]} speaks for the words from here", "dim"))
            line = Text(f"{tag:<{width}}  ", "dim" if tag == OUTSIDE else "green")
            line.append(f"{printable(word)}  ").append(BORDER.join(visible(tokenizer, id) for id in ids), "dim")
            line.append("" if tag in labels else f"  ({UNTAUGHT})", "bold red")
            console.print(line, soft_wrap=True)


def tags_json(tokenizer: Tokenizer, rows: Sequence[Tagged], labels: Sequence[str], recipe: Recipe) -> Iterator[str]:
    """One line of JSON a row: its id, its words, their tags and pieces, and its windows as ids and labels (places in `labels`)."""
    for row, cut in zip(rows, pieces(tokenizer, [row.tokens for row in rows]), strict=True):
        found = windows(tokenizer, [row], labels, recipe.data.max_tokens, recipe.tag.overlap)
        value = {
            "id": row.id,
            "words": row.tokens,
            "tags": row.tags,
            "pieces": cut,
            "labels": labels,
            "windows": [{"words": window.words, "ids": window.input_ids, "labels": window.labels} for window in found],
        }
        yield json.dumps(value, ensure_ascii=False)
