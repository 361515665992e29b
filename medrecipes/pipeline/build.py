"""The processed dataset alone: a DatasetDict, its card and its report, for every name that a recipe lists."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from medrecipes.core.console import Bar, Console
from medrecipes.core.files import (
    MANIFEST,
    PRIVATE,
    SCRATCH,
    Made,
    cache_root,
    digest,
    digest_path,
    locked,
    read_json,
    replacing,
    require_ours,
    stage,
    write_json,
    writing,
)
from medrecipes.core.notes import labelled
from medrecipes.core.resources import PACKAGE
from medrecipes.data import tally
from medrecipes.data.leakage import headline, table
from medrecipes.data.records import Conversation, Message
from medrecipes.data.row_files import OnDisk
from medrecipes.data.split import Split, prepare
from medrecipes.engines.bases import open_base
from medrecipes.recipe.repository_names import folder_name
from medrecipes.recipe.rules.names import TINY_TEMPLATES
from medrecipes.recipe.schema import Recipe, template_path
from medrecipes.release.cards import dataset_card
from medrecipes.release.cards.dataset import COLUMNS, SPLITS
from medrecipes.rendering.base_template import base_template
from medrecipes.rendering.template_shapes import Shapes, Supervision

# how the bases of a template's family spell the two tokens that a template leaves to the tokenizer
SPELLING = {"gemma": ("<bos>", "<eos>"), "gemma3": ("<bos>", "<eos>"), "llama3": ("<|begin_of_text|>", "<|eot_id|>")}
Format = Literal["jsonl", "parquet"]
Row = dict[str, Any]
# what is in memory at once, whichever is reached first: rows, and the letters of their texts
ROWS, LETTERS = 1000, 16 << 20
SHARD = 500_000_000  # bytes of an Arrow file, as the library datasets cuts them, and what a killed build loses at most
_PART = rf"(?:{'|'.join(SPLITS)})"
# all that a dataset's folder holds, with what the library datasets may keep there for those who use it
FILES = re.compile(
    rf"dataset_dict\.json|data\.json|README\.md|data/{_PART}\.(?:jsonl|parquet)|tagged/{_PART}\.json"
    rf"|instruct/{_PART}\.jsonl|{_PART}/(?:state\.json|dataset_info\.json|data-\d+-of-\d+\.arrow|cache-[\w-]+\.arrow)"
)


@dataclass(frozen=True)
class Built:
    """A dataset that was made: its folder, and what its data.json holds."""

    name: str
    folder: Path
    report: Mapping[str, Any]

    def lines(self, width: float = math.inf) -> str:
        """A short account for the screen."""
        said = [labelled(kind, text) for kind, text in tally.told(self.report)]
        head = f"{self.name}: {tally.parts(self.report)} -> {self.folder}"
        found = headline(self.report["leakage"])
        said += [labelled("leakage", found)] if found else []
        return "\n".join([head, *said, table(self.report["leakage"], width)])


def build(recipe: Recipe, out: Path, formats: Sequence[Format] = (), console: Console | None = None) -> Iterator[Built]:
    """Make every dataset of the recipe under `out`, one at a time; `formats` adds plain files of every split.

    What was killed goes on where it was: large datasets are cleaned and written in shards that are kept until all is done.
    """
    wanted = [(name, chosen, out / folder_name(name)) for name, chosen in variants(recipe)]
    for _, _, folder in wanted:
        require_ours(folder, "dataset", made)
    for name, chosen, folder in wanted:
        with (console or Console.silent()).progress(folder.name) as progress:
            built = _one(name, chosen, prepare(chosen, progress.begin, progress.share), folder, formats, progress)
        yield built


def made(folder: Path) -> Made | None:
    """Which files of a dataset's folder `build` made, where its data.json says that it did."""
    try:
        report = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(report, dict) and {"name", "keys", "rows", "sources"} <= set(report)
    return FILES.fullmatch if ours and (folder / "dataset_dict.json").is_file() else None


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
        names: Sequence[tuple[str, str | None]] = [*recipe.build.models.items()] or [("", recipe.template.name)]
        for model, template in names:
            name = wanted.name.replace("{model}", model)
            look = recipe.template.model_copy(update={"name": template})
            yield name, recipe.model_copy(update={"name": name, "data": data, "template": look})


def _one(
    name: str,
    recipe: Recipe,
    split: Split,
    folder: Path,
    formats: Sequence[Format],
    progress: Bar | None = None,
) -> Built:
    from datasets import Features, Value, disable_progress_bars

    disable_progress_bars()

    look, template, shapes = _template(recipe)
    progress = progress or Bar.silent()
    rows = {part: getattr(split, attribute) for part, attribute in SPLITS.items()}
    # what only some datasets have beside role and content: reasoning, weights, tool calls
    system = recipe.template.system
    keys: set[str] = set()
    told: dict[str, None] = {}
    for row in chain.from_iterable(rows.values()):
        keys |= row.meta.keys()
        told |= dict.fromkeys(key for m in shapes.prepared(row.messages, system) for key in turn(m))
    known = ["id", *sorted(keys - {"source", "instruction"})]
    text = Value("string")
    features = Features(
        dict.fromkeys(COLUMNS, text) | {"messages": [dict.fromkeys(told, text)], "meta": dict.fromkeys(known, text)}
    )

    def shown(record: Conversation) -> Row:
        return _row(record, system, shapes, (known, list(told)))

    progress.begin("render and write")
    every = sum(map(len, rows.values()))
    written_by = [look, template, recipe.template.model_dump(), vars(Supervision.of(recipe)), recipe.model.base, recipe.model.revision]  # fmt: skip
    key = digest([split.stage_key, features.to_dict(), written_by, _code()])
    root, before, parts = cache_root() / f"building-{key[:16]}", 0, {}
    for part, records in rows.items():
        if records:
            share = partial(lambda before, row: progress.share((before + row) / every), before)
            large = isinstance(records, OnDisk)
            parts[part] = Part(records, shown, share, (root, digest([key, part])) if large else None)
        before += len(records)
    report = {
        "name": name,
        "template": {"name": look, "sha256": digest(template), "system": recipe.template.system},
        **split.report,
    }
    with locked(cache_root() / f"{SCRATCH}building-{key[:8]}", wait=True) if _keeps_files(parts) else nullcontext():
        save(
            folder, features, parts, report, formats, {"README.md": [dataset_card(name, report, list(parts), formats)]}
        )
        shutil.rmtree(root, ignore_errors=True)
    return Built(name, folder, report)


@dataclass(frozen=True)
class Part:
    """The rows of a split as they are published, made one after the other."""

    records: Sequence[Conversation]
    shown: Callable[[Conversation], Row]
    progress: Callable[[int], object]
    kept: tuple[Path, str] | None = None  # where whole files of a large part are until all is done, and their key

    def __iter__(self) -> Iterator[Row]:
        return self.after(0)

    def after(self, first: int) -> Iterator[Row]:
        """The rows from one on."""
        records = (self.records[number] for number in range(first, len(self.records))) if first else self.records
        for number, record in enumerate(records, first + 1):
            yield self.shown(record)
            if number % ROWS == 0:
                self.progress(number)


def _keeps_files(parts: Mapping[str, Part]) -> bool:
    """Whether some part is so large that its files are kept until all is done."""
    return any(part.kept for part in parts.values())


@cache
def _code() -> str:
    """The sha256 of the code that decides how a row is published."""
    files = [Path(__file__), *sorted((PACKAGE / "rendering").glob("*.py"))]
    return digest([digest_path(file) for file in files])


def _template(recipe: Recipe) -> tuple[str, str, Shapes]:
    """The name and the text of the recipe's template, and what renders with it; without a name, that of its base."""
    look = recipe.template.name or TINY_TEMPLATES.get(recipe.model.base)
    if look is None:
        model = recipe.model
        template = base_template(recipe, open_base(model.base, model.revision).tokenizer, model.base)
        return template.name, template.text, template.shapes
    text = template_path(look).read_text(encoding="utf-8")
    bos, eos = SPELLING.get(look, ("<s>", "</s>"))
    told = {"bos_token": bos, "eos_token": eos, "enable_thinking": recipe.template.thinking}
    return look, text, Shapes(text, {}, (), told, supervision=Supervision.of(recipe))


def save(
    folder: Path, features: Any, parts: Mapping[str, Iterable[Row]], report: Mapping[str, Any],
    formats: Sequence[Format], texts: Mapping[str, Iterable[str]],
) -> None:  # fmt: skip
    """Write a dataset's folder, whole or not at all, a batch of rows at a time; `texts` are further files, piece by piece."""
    from datasets import Dataset, DatasetDict, load_from_disk

    require_ours(folder, "dataset", made)
    with writing(folder), replacing(folder, PRIVATE) as work:
        # the library writes the folder of a dataset without rows, whose Arrow files are then put there
        empty = Dataset.from_dict({column: [] for column in features}, features)
        DatasetDict(dict.fromkeys(parts, empty)).save_to_disk(work)
        for part, rows in parts.items():
            _arrow(work / part, features, rows)
        for format in formats:
            for part, dataset in load_from_disk(str(work)).items():
                (work / "data").mkdir(exist_ok=True)
                _file(dataset, work / "data" / f"{part}.{format}")
        write_json(work / "data.json", report)
        for file, pieces in texts.items():
            (work / file).parent.mkdir(exist_ok=True)
            with (work / file).open("w", encoding="utf-8") as opened:
                opened.writelines(pieces)


def _arrow(folder: Path, features: Any, rows: Iterable[Row]) -> None:
    """Put rows into the folder of a part: Arrow files of SHARD bytes, told in its state.json."""
    if isinstance(rows, Part) and rows.kept:
        files = _kept_files(folder, features, rows, rows.kept)
    else:
        batches = _batches(rows)
        batch, files = next(batches, None), 0
        while batch or not files:
            _, batch = _write(folder / f"{files}.arrow", features, batches, batch)
            files += 1
    names = [f"data-{shard:05d}-of-{files:05d}.arrow" for shard in range(files)]
    for shard, name in enumerate(names):
        (folder / f"{shard}.arrow").rename(folder / name)
    state = read_json(folder / "state.json")
    state["_data_files"] = [{"filename": name} for name in names]
    # by which the library knows the rows again: what it made of the rows before they were there is that of every dataset
    state["_fingerprint"] = digest([digest_path(folder / name) for name in ("dataset_info.json", *names)])[:16]
    (folder / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")


def _kept_files(folder: Path, features: Any, part: Part, kept: tuple[Path, str]) -> int:
    """The files of a large part, each kept as a stage until all is done; returned: how many there are."""
    root, key = kept
    first = files = 0
    while first < len(part.records):

        def build(work: Path, first: int = first) -> dict[str, Any]:
            batches = _batches(part.after(first))
            with writing(work):
                return {"rows": _write(work / "rows.arrow", features, batches, next(batches, None))[0]}

        made = stage("arrow", digest([key, files]), build, root)
        first += read_json(made / MANIFEST)["rows"]
        part.progress(first)
        try:
            os.link(made / "rows.arrow", folder / f"{files}.arrow")
        except OSError:  # another file system, or one without links
            shutil.copyfile(made / "rows.arrow", folder / f"{files}.arrow")
        files += 1
    return files


def _write(
    path: Path, features: Any, batches: Iterator[list[Row]], batch: list[Row] | None
) -> tuple[int, list[Row] | None]:
    """A file of at most SHARD bytes, or of a batch; returned: how many rows it has, and the batch that comes behind it."""
    from datasets.arrow_writer import ArrowWriter

    rows = before = after = largest = 0
    with ArrowWriter(features=features, path=str(path)) as writer:
        while batch and after + largest <= SHARD:
            writer.write_batch({column: [row[column] for row in batch] for column in features})
            before, after = after, writer.stream.tell()
            largest, rows = max(largest, after - before), rows + len(batch)
            batch = next(batches, None)
        writer.finalize()
    return rows, batch


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in their order, so many at a time as may lie in memory at once."""
    batch: list[Row] = []
    letters = 0
    for row in rows:
        batch.append(row)
        letters += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(batch) == ROWS or letters >= LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch


def _file(dataset: Any, path: Path) -> None:
    if path.suffix == ".parquet":
        dataset.to_parquet(path)
        return
    with path.open("w", encoding="utf-8") as file:
        for row in dataset:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def turn(message: Message) -> dict[str, str]:
    """A turn as source jsonl reads it back."""
    more = {key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in message.more.items()}  # fmt: skip
    thought = {"reasoning_content": message.reasoning} if message.reasoning else {}
    weight = {} if message.supervised else {"weight": "0"}
    return {"role": message.role, "content": message.content, **thought, **weight, **more}


def _row(record: Conversation, system: str | None, shapes: Shapes, keys: tuple[Sequence[str], Sequence[str]]) -> Row:
    known, told = keys
    turns = shapes.prepared(record.messages, system)
    asked = [m.content for m in turns[:-1] if m.role != "system"]
    return {
        "messages": [{key: turn(m).get(key) for key in told} for m in turns],
        "prompt": shapes.text(turns, ask=False),
        "instruction": turns[0].content if turns[0].role == "system" else record.meta.get("instruction", ""),
        "input": asked[0] if len(asked) == 1 else "\n\n".join(asked),
        "output": record.answer,
        "group": record.group,
        "source": record.meta["source"],
        "meta": {key: {"id": record.id, **record.meta}.get(key) for key in known},
    }
