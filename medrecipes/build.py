"""The processed dataset alone: a DatasetDict, its card and its report, for every name that a recipe lists."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medrecipes.leakage import table
from medrecipes.prepare import Split, prepare
from medrecipes.recipe import Recipe, template_path
from medrecipes.records import Conversation
from medrecipes.shapes import Shapes
from medrecipes.store import digest, write_json, write_text, writing

SPLITS = {"train": "train", "validation": "dev", "test": "test"}
COLUMNS = {
    "messages": "the turns, each a role and a content",
    "prompt": "the whole conversation as the model's own template writes it",
    "instruction": "the system message, or what the source tells the model to do",
    "input": "what is asked",
    "output": "the answer",
    "group": "what the row is bound to: rows of one group lie in one split",
    "source": "the dataset that the row comes from",
    "meta": "what that dataset knows: document, collection, question type, task",
}
# how the bases of a template's family spell the two tokens that a template leaves to the tokenizer
SPELLING = {"gemma": ("<bos>", "<eos>"), "gemma3": ("<bos>", "<eos>"), "llama3": ("<|begin_of_text|>", "<|eot_id|>")}
SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (float("inf"), "n>1M"))
Format = Literal["jsonl", "parquet"]

DISCLAIMER = (
    "For research and education. Not medical advice: answers can be wrong, outdated or unfit for a given person, and no "
    "decision about anybody's health may rest on them."
)


@dataclass(frozen=True)
class Built:
    """A dataset that was made: its folder, and what its data.json holds."""

    name: str
    folder: Path
    report: Mapping[str, Any]

    def lines(self) -> str:
        """A short account for the screen."""
        rows = self.report["rows"]
        head = f"{self.name}: {rows['train']} train, {rows['dev']} validation, {rows['test']} test -> {self.folder}"
        return f"{head}\n{table(self.report['leakage'])}"


def build(recipe: Recipe, out: Path, formats: Sequence[Format] = ()) -> Iterator[Built]:
    """Make every dataset of the recipe under `out`, one at a time; `formats` adds plain files of every split."""
    for name, chosen in variants(recipe):
        yield _one(name, chosen, prepare(chosen), out / name, formats)


def variants(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """The datasets that a recipe stands for, by name: build.sets times build.models, or the recipe itself."""
    if not recipe.build.sets:
        yield recipe.name, recipe
    for wanted in recipe.build.sets:
        entries = [entry for entry in recipe.data.entries if not wanted.sources or entry.source in wanted.sources]
        data = recipe.data
        if recipe.data.mix:
            data = data.model_copy(update={"mix": tuple(entries), "limit": wanted.limit or data.limit})
        elif wanted.limit:
            data = data.model_copy(update={"limit": wanted.limit})
        for model, template in recipe.build.models.items() or [("", recipe.template.name)]:
            name = wanted.name.replace("{model}", model)
            look = recipe.template.model_copy(update={"name": template})
            yield name, recipe.model_copy(update={"name": name, "data": data, "template": look})


def _one(name: str, recipe: Recipe, split: Split, folder: Path, formats: Sequence[Format]) -> Built:
    from datasets import Dataset, Features, Value, disable_progress_bars

    disable_progress_bars()

    template = template_path(recipe.template.name).read_text(encoding="utf-8")
    bos, eos = SPELLING.get(recipe.template.name, ("<s>", "</s>"))
    shapes = Shapes(template, {}, (), {"bos_token": bos, "eos_token": eos})
    rows = {part: getattr(split, attribute) for part, attribute in SPLITS.items()}
    keys = {key for part in rows.values() for row in part for key in row.meta} - {"source", "instruction"}
    known = ["id", *sorted(keys)]
    text = Value("string")
    features = Features(
        dict.fromkeys(COLUMNS, text)
        | {"messages": [{"role": text, "content": text}], "meta": dict.fromkeys(known, text)}
    )
    parts = {
        part: Dataset.from_list([_row(record, recipe.template.system, shapes, known) for record in records], features)
        for part, records in rows.items()
        if records
    }
    report = {
        "name": name,
        "template": {"name": recipe.template.name, "sha256": digest(template), "system": recipe.template.system},
        **split.report,
    }
    save(folder, parts, report, card(name, report, list(parts), formats), formats)
    return Built(name, folder, report)


def save(
    folder: Path, parts: Mapping[str, Any], report: Mapping[str, Any], readme: str, formats: Sequence[Format],
    more: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write a dataset's folder, whole or not at all; `more` are further files by name."""
    from datasets import DatasetDict

    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            DatasetDict(dict(parts)).save_to_disk(work)
            for format in formats:
                for part, dataset in parts.items():
                    (work / "data").mkdir(exist_ok=True)
                    _file(dataset, work / "data" / f"{part}.{format}")
            write_json(work / "data.json", report)
            write_text(work / "README.md", readme)
            for file, text in (more or {}).items():
                write_text(work / file, text)
            work.chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _file(dataset: Any, path: Path) -> None:
    if path.suffix == ".parquet":
        dataset.to_parquet(path)
        return
    with path.open("w", encoding="utf-8") as file:
        for row in dataset:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _row(record: Conversation, system: str | None, shapes: Shapes, known: Sequence[str]) -> dict[str, Any]:
    turns = [(message.role, message.content) for message in record.messages]
    if system and turns[0][0] != "system":
        turns = [("system", system), *turns]
    asked = [content for role, content in turns[:-1] if role != "system"]
    return {
        "messages": [{"role": role, "content": content} for role, content in turns],
        "prompt": shapes.render(turns, ask=False)[0],
        "instruction": turns[0][1] if turns[0][0] == "system" else record.meta.get("instruction", ""),
        "input": asked[0] if len(asked) == 1 else "\n\n".join(asked),
        "output": record.answer,
        "group": record.group,
        "source": record.meta["source"],
        "meta": {key: {"id": record.id, **record.meta}.get(key) for key in known},
    }


def card(name: str, report: Mapping[str, Any], parts: Sequence[str], formats: Sequence[Format]) -> str:
    """The dataset card, from what really happened."""
    from huggingface_hub import DatasetCardData

    sources = report["sources"]
    licences = sorted({source["licence"] for source in sources})
    total = sum(report["rows"].values())
    size = next(label for limit, label in SIZES if total < limit)
    files = {format: [{"split": part, "path": f"data/{part}.{format}"} for part in parts] for format in formats}
    metadata = DatasetCardData(
        language=["en"],
        license=licences[0].lower() if licences[0] in ("CC-BY-4.0", "Apache-2.0") and len(licences) == 1 else "other",
        task_categories=["text-generation", "question-answering"],
        tags=["medical", "instruction-tuning"],
        size_categories=[size],
        pretty_name=name,
        configs=[{"config_name": "default", "data_files": files[formats[0]]}] if formats else None,
    )
    template, leakage = report["template"], report["leakage"]
    sections = {
        "Rows": [
            _table(("split", "rows"), [(part, report["rows"][SPLITS[part]]) for part in parts]),
            f"{report['seen']} rows were read, {sum(report['dropped'].values())} of them left out for the reasons below. "
            f"The {total} rows are {report['groups']['count']} groups of rows that share a document, an article, a "
            "question, an answer or a near-duplicate; a group lies in one split.",
        ],
        "Columns": [_table(("column", "what it holds"), list(COLUMNS.items()))],
        "Template": [
            f"`prompt` is written by the template `{template['name']}` (sha256 `{template['sha256'][:16]}`)"
            + (f", with the system message: {template['system']}" if template["system"] else ".")
        ],
        "Left out": [_table(("reason", "rows"), list(report["dropped"].items()))],
        "Mended": [_table(("what", "rows"), list(report["repaired"].items()))],
        "Leakage": [
            "Rows of dev and test that share something with train, in this split and in one of the same rows by chance:",
            f"```\n{table(leakage)}\n```",
        ],
        "Sources": [
            _table(
                ("source", "licence", "may be redistributed", "version", "rows read"),
                [
                    (f"[{s['title']}]({s['homepage']})", s["licence"], s["redistributable"], _version(s), s["seen"])
                    for s in sources
                ],
            )
        ],
        "Known defects": [f"- {source['title']}: {defect}" for source in sources for defect in source["defects"]],
        "Cite": [f"- {source['citation']}" for source in sources if source["citation"]],
    }
    lines = ["---", metadata.to_yaml(), "---", "", f"# {name}", "", f"> {DISCLAIMER}", ""]
    for title, paragraphs in sections.items():
        joint = "\n" if paragraphs and paragraphs[0].startswith("- ") else "\n\n"
        lines += [f"## {title}", "", joint.join(p for p in paragraphs if p) or "None.", ""]
    return "\n".join(lines)


def _version(source: Mapping[str, Any]) -> str:
    if source["sha"]:
        return f"{source['repo']} at {source['sha'][:12]}"
    return f"{source['file']}, sha256 {source['content'][:12]}"


def _table(head: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, or nothing for no rows."""
    if not body:
        return ""
    cells = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in row) + " |" for row in cells)
