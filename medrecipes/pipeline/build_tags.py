"""The processed dataset of a tag recipe: a tagged DatasetDict, rows of {text, labels}, and the same as questions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from medrecipes.core.files import digest, require_ours
from medrecipes.data.bio_tags import OUTSIDE, split_tag
from medrecipes.data.records import Tagged
from medrecipes.data.tagged_split import prepare_tagged
from medrecipes.pipeline.build import Built, Format, made, save
from medrecipes.pipeline.tags_as_questions import TASKS, text_of, to_conversations
from medrecipes.recipe.repository_names import folder_name
from medrecipes.recipe.schema import Recipe
from medrecipes.release.cards import dataset_card
from medrecipes.release.cards.dataset import SPLITS

COLUMNS = {
    "id": "the row",
    "document": "the document or block of sentences that it belongs to",
    "text": "the text as it was written, or its words with blanks between",
    "tokens": "the words",
    "ner_tags": "a tag a word, in IOB2",
}


def build_tagged(recipe: Recipe, out: Path, formats: Sequence[Format] = ()) -> Built:
    """Make the dataset of a tag recipe under `out`."""
    from datasets import ClassLabel, Features, Sequence, Value, disable_progress_bars

    disable_progress_bars()
    folder = out / folder_name(recipe.name)
    require_ours(folder, "dataset", made)
    split = prepare_tagged(recipe)
    rows = {part: getattr(split, attribute) for part, attribute in SPLITS.items() if getattr(split, attribute)}
    names = labels(row for part in rows.values() for row in part)
    text = Value("string")
    features = Features(
        {
            "id": text,
            "document": text,
            "text": text,
            "tokens": Sequence(text),
            "ner_tags": Sequence(ClassLabel(names=names)),
        }
    )
    parts = {part: map(_row, those) for part, those in rows.items()}
    contents = {part: content(those) for part, those in rows.items()}
    report = {"name": recipe.name, "task": "tag", "labels": names, "contents": contents, **split.report}
    texts: dict[str, Iterable[str]] = {f"tagged/{part}.json": _json(those) for part, those in rows.items()}
    if {OUTSIDE, *(f"B-{type}" for type in TASKS.values())} <= set(names):
        texts |= {f"instruct/{part}.jsonl": _instruct(those) for part, those in rows.items()}
    card = dataset_card(recipe.name, report, list(parts), formats, columns=COLUMNS)
    save(folder, features, parts, report, formats, texts | {"README.md": [card]})
    return Built(recipe.name, folder, report)


def content(rows: Iterable[Tagged]) -> str:
    """The sha256 of rows as they are published, by which `medrecipes verify` knows them again."""
    return digest("".join(digest([row.id, row.group, row.tokens, row.tags]) for row in rows))


def labels(rows: Iterable[Tagged]) -> list[str]:
    """Every tag that the rows can bear, O first."""
    types = sorted({split_tag(tag)[1] for row in rows for tag in row.tags} - {""})
    return [OUTSIDE, *(f"{letter}-{type}" for type in types for letter in "BI")]


def _row(row: Tagged) -> dict[str, Any]:
    return {"id": row.id, "document": row.group, "text": text_of(row), "tokens": row.tokens, "ner_tags": row.tags}


def _json(rows: Sequence[Tagged]) -> Iterator[str]:
    """Rows of {text, labels}, as source bio_ner reads them; a document keeps its name."""
    before = "[\n"
    for row in rows:
        value = {
            "id": row.id,
            **({"document": row.meta["document"]} if row.meta.get("document") else {}),
            "text": text_of(row),
            "labels": [{"word": w, "entity": t} for w, t in zip(row.tokens, row.tags, strict=True)],
        }
        yield before + json.dumps(value, ensure_ascii=False)
        before = ",\n"
    yield "\n]\n"


def _instruct(rows: Sequence[Tagged]) -> Iterator[str]:
    """Prompts and completions in the form of NER-instruct, which its source reads."""
    for row in rows:
        for one in to_conversations([row]):
            line = {"prompt": f"{one.question}\n", "completion": one.answer, "id": one.id}
            yield json.dumps(line, ensure_ascii=False) + "\n"
