"""What the rows tell: where they come from, whom they name, and whether test and train share any."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.core.errors import MedRecipesError
from medrecipes.data.benchmarks import judged
from medrecipes.data.cleaning import plain
from medrecipes.data.records import Record, Tagged
from medrecipes.data.sources import open_source
from medrecipes.data.split import Split, prepare
from medrecipes.data.tagged_split import TaggedSplit, prepare_tagged
from medrecipes.recipe.schema import Recipe, source_names
from medrecipes.release.gates.secrets import secrets_in
from medrecipes.release.personal_data.second import look
from medrecipes.release.personal_data.survey import joined, texts_of

# collections whose answers the publisher of MedQuAD removed for copyright
ANSWERLESS = re.compile(r"10_MPlus_ADAM_QA|11_MPlusDrugs_QA|12_MPlusHerbsSupplements_QA|^(?:ADAM|MPlusDrugs|MPlusHerbsSupplements)$")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What the gates look at of a row, wherever it comes from."""

    id: str
    part: str
    group: str
    question: str
    answer: str
    texts: tuple[str, ...] = ()
    where: tuple[str, ...] = ()  # the collection and document that it names


def rows_of_run(recipe: Recipe, data: Mapping[str, Any]) -> tuple[list[Row], str]:
    """The rows that the run was made of, or why they cannot be had."""
    try:
        split: Split | TaggedSplit = prepare_tagged(recipe) if recipe.task == "tag" else prepare(recipe)
    except MedRecipesError as error:
        return [], str(error)
    if split.key != data.get("key"):
        return [], "its data has changed since the run"
    parts: tuple[tuple[str, Sequence[Record]], ...] = (("train", split.train), ("dev", split.dev), ("test", split.test))
    return [_row(part, record) for part, records in parts for record in records], ""


def _row(part: str, record: Record) -> Row:
    if isinstance(record, Tagged):
        question, answer = " ".join(record.tokens), ""
    else:
        question, answer = record.question, record.answer
    where = tuple(str(record.meta.get(key, "")) for key in ("collection", "document"))
    return Row(record.id, part, record.group, question, answer, texts_of(record), (record.id, *where))


def trained(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows that a model was trained on."""
    return (row for row in rows if row.part == "train")


def rows_of_dataset(folder: Path) -> Iterator[Row]:
    """The rows of a folder that `medrecipes build` made, or of plain files of a split each."""
    from datasets import load_dataset, load_from_disk

    if (folder / "dataset_dict.json").exists():
        parts = load_from_disk(str(folder))
    else:
        files = {p.stem: str(p) for p in sorted(folder.rglob("*")) if p.suffix in (".jsonl", ".parquet")}
        if not files:
            raise MedRecipesError(f"{folder}: is no dataset; make one with `medrecipes build RECIPE`")
        kind = "parquet" if next(iter(files.values())).endswith(".parquet") else "json"
        parts = load_dataset(kind, data_files=files)
    for part, rows in parts.items():
        for number, row in enumerate(rows):
            meta = row.get("meta") or {}
            words = row.get("tokens")
            texts = tuple(dict.fromkeys(strings(row if words is None else {**row, "tokens": joined(words)})))
            where = tuple(str(meta.get(key) or "") for key in ("id", "collection", "document"))
            yield Row(
                str(meta.get("id") or row.get("id") or number), str(part), str(row.get("group") or ""),
                str(row.get("input") or (" ".join(words) if words else "")), str(row.get("output") or ""), texts, where,
            )  # fmt: skip


def strings(value: Any) -> Iterator[str]:
    """Every text in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from strings(part)


def licences(data: Mapping[str, Any]) -> Iterator[str]:
    """Sources without a licence, or with one that does not let them be passed on."""
    if "sources" not in data:
        yield "data.json: is missing or names no sources, so no licence is known"
    for source in data.get("sources", ()):
        if source.get("redistributable") != "yes":
            may = "says that it may not be passed on" if source.get("redistributable") == "no" else "does not say that it may be passed on"  # fmt: skip
            stated = "no licence is stated" if source.get("licence") == "unknown" else f"{source.get('licence')} {may}"
            yield f"{source.get('title')} ({source.get('name')}): {stated}"


def refilled(rows: Sequence[Row]) -> Iterator[str]:
    """Rows of collections that have no answers, but here have one."""
    for row in rows:
        if row.answer.strip() and any(ANSWERLESS.search(place) for place in row.where):
            yield f"row {row.id}: an answer that MedQuAD's publisher removed for copyright"


def unseen(data: Mapping[str, Any], silence: str) -> Iterator[str]:
    """What cannot be ruled out where the rows cannot be looked at."""
    if any(source.get("name") == "medquad" for source in data.get("sources", ())):
        yield f"MedQuAD: removed answers may have been filled in again; its rows cannot be looked at ({silence})"


def contaminated(data: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    """Benchmarks that judged the run, and whose questions its sources were made of, but whose test was not kept out of training."""
    known, sources = source_names(), data.get("sources", ())
    made_of = {
        benchmark: source.get("title")
        for source in sources
        if source.get("name") in known
        for benchmark in open_source(source["name"]).seeds
    }
    tasks = [task for suite in report.get("suites", ()) for task in suite.get("tasks", ())]
    judges = {task: judged(task) for task in tasks}
    if data.get("got", {"test": 1}).get("test") is None:  # the publisher's own test set
        judges |= {f"the official test set of {source.get('title')}": source.get("name") for source in sources}
    for judge, benchmark in judges.items():
        if benchmark in made_of and benchmark not in data.get("benchmarks", {}):
            yield f"{judge}: judged the run, and {made_of[benchmark]} is made of {benchmark}, whose test questions were not kept out of training"


def leaked(data: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    """What the run's own report counted; its rows where they are at hand."""
    counted = data.get("leakage", {}).get("grouped")
    if counted is None:
        yield "data.json: is missing or has no leakage report"
        return
    leaks = [(part, relation, n) for part, counts in counted.items() for relation, n in counts.items() if relation not in ("rows", "any") and n]  # fmt: skip
    if leaks and (named := list(shared(rows))):
        yield from named
        return
    for part, relation, count in leaks:
        yield f"data.json: {count} {part} rows share their {relation.replace('_', '-')} with train"


def shared(rows: Sequence[Row]) -> Iterator[str]:
    """Rows of other parts that lie in train too, or share their group with it."""
    train = [row for row in rows if row.part == "train"]
    groups = {row.group: row.id for row in train if row.group}
    whole = {_content(row): row.id for row in train}
    for row in rows:
        if row.part == "train":
            continue
        if (same := whole.get(_content(row))) is not None:
            yield f"{row.part} row {row.id}: stands in train as row {same}"
        elif row.group in groups:
            yield f"{row.part} row {row.id}: its group is in train too (row {groups[row.group]})"


def _content(row: Row) -> bytes:
    return plain(row.question) + b"\n" + plain(row.answer)


def personal_rows(rows: Iterable[Row]) -> Iterator[str]:
    """Rows that hold personal data, with what kind; the data itself is masked."""
    for row in rows:
        kinds = dict.fromkeys(str(finding) for text in row.texts for finding in look(text))
        if kinds:
            yield f"{row.part} row {row.id}: {', '.join(kinds)}"


def secret_rows(rows: Sequence[Row]) -> Iterator[str]:
    """Rows that hold a token or key."""
    for row in rows:
        for text in row.texts:
            for kind, _ in secrets_in(text.encode("utf-8", "surrogatepass")):
                yield f"{row.part} row {row.id}: {kind}"
