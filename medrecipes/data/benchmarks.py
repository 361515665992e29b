"""Benchmarks whose test questions are kept out of training: where each is published, and its questions from the Hub or a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from medrecipes.core.errors import DataError
from medrecipes.core.files import digest_path
from medrecipes.data.sources import Source, _hub
from medrecipes.data.sources._files import TABLES, Blob, blobs, lines
from medrecipes.data.sources._tables import Row, columns_of, rows
from medrecipes.recipe.benchmark_names import BENCHMARKS, benchmark_entry
from medrecipes.recipe.schema import Data

STEMS = ("question", "Question", "QUESTION", "qtext", "sent1", "stem")
OPTIONS = ("options", "Options", "choices", "answers")
LETTERED = (("opa", "opb", "opc", "opd"), ("ending0", "ending1", "ending2", "ending3"))
TEXTS = ("atext", "value", "text")  # what an option's text is called, where an option is an object


@dataclass(frozen=True)
class Question:
    """A test question: where it stands, what it asks, and its options where it has any."""

    id: str
    stem: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """Where the test questions of a benchmark are published, and how lm-evaluation-harness calls its tasks."""

    name: str
    repo: str
    homepage: str
    hub_files: tuple[str, ...]
    tasks: tuple[str, ...]

    @property
    def own_copy(self) -> str:
        """The next move where the Hub does not answer."""
        return f'read a local copy with data.exclude = ["{self.name}=PATH"]'


MEDICAL_SUBJECTS = (
    "anatomy", "clinical_knowledge", "college_biology", "college_medicine", "medical_genetics", "professional_medicine",
)  # fmt: skip
# MedMCQA is judged on its validation set, for the answers of its test set are not published; both are kept out.
# PubMedQA's own repository on the Hub does not say which 500 of its 1,000 labelled rows are the test set; this one does.
KNOWN = {
    one.name: one
    for one in (
        Benchmark("medqa", "GBaker/MedQA-USMLE-4-options", "https://github.com/jind11/MedQA", ("*test*.jsonl",),
                  ("medqa*",)),
        Benchmark("medmcqa", "openlifescienceai/medmcqa", "https://medmcqa.github.io",
                  ("data/validation-*.parquet", "data/test-*.parquet"), ("medmcqa*",)),
        Benchmark("pubmedqa", "openlifescienceai/pubmedqa", "https://pubmedqa.github.io", ("*test*.parquet",),
                  ("pubmedqa*", "pubmed_qa*")),
        Benchmark("mmlu_medical", "cais/mmlu", "https://github.com/hendrycks/test",
                  tuple(f"{subject}/test-*.parquet" for subject in MEDICAL_SUBJECTS),
                  tuple(f"mmlu_{subject}*" for subject in MEDICAL_SUBJECTS)),
        Benchmark("headqa", "EleutherAI/headqa", "https://aghie.github.io/head-qa", ("en/test*.parquet",), ("headqa*",)),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Excluded:
    """Questions to keep out: a named benchmark's or a file's, and the path or the commit that they are read from."""

    name: str
    benchmark: Benchmark | None
    path: Path | None
    sha: str | None

    @property
    def content(self) -> str:
        """What makes two readings the same."""
        return digest_path(self.path) if self.path else f"{self.benchmark and self.benchmark.repo}@{self.sha}"

    def questions(self) -> list[Question]:
        """All its test questions."""
        if self.path is None:
            assert self.benchmark is not None
            return list(_questions(_hub.fetch(self.benchmark, str(self.sha)), self.benchmark.hub_files))
        return list(_questions(self.path, self.benchmark.hub_files if self.benchmark else ()))


def seeds(sources: Sequence[Source]) -> list[str]:
    """The benchmarks whose questions some of the sources were made of."""
    return [name for name in BENCHMARKS if any(name in source.seeds for source in sources)]


def to_keep_out(data: Data, sources: Sequence[Source]) -> list[Excluded]:
    """What `data.exclude` names, or with `auto` what the sources were made of."""
    entries = seeds(sources) if data.exclude == "auto" else data.exclude
    found = []
    for name, path in map(benchmark_entry, entries):
        benchmark = KNOWN.get(name)
        sha = _hub.resolve(benchmark, "main") if benchmark and path is None else None
        found.append(Excluded(name or str(path and path.name), benchmark, path, sha))
    return found


def judged(task: str) -> str | None:
    """The benchmark that a task of lm-evaluation-harness asks, e.g. `medqa` for `medqa_4options`."""
    return next((one.name for one in KNOWN.values() if any(fnmatch(task, pattern) for pattern in one.tasks)), None)


def _questions(path: Path, wanted: Sequence[str]) -> Iterator[Question]:
    """The questions of a file, or of those files of a folder that bear a test set's name, where the benchmark says which."""
    found = blobs(path, (*TABLES, ".txt"))
    if path.is_dir() and wanted:
        found = [blob for blob in found if any(fnmatch(blob.inside.as_posix(), one) or fnmatch(blob.inside.name, one) for one in wanted)]  # fmt: skip
    if not found:
        what = f" by the names of its test set ({', '.join(wanted)})" if path.is_dir() and wanted else ""
        raise DataError(f"{path}: holds no questions{what}, nor a file of {', '.join((*TABLES, '.txt'))}; correct data.exclude")  # fmt: skip
    for blob in found:
        yield from _listed(blob) if blob.suffix == ".txt" else _tabled(blob)


def _listed(blob: Blob) -> Iterator[Question]:
    """One question per line."""
    empty = True
    with blob.open() as file:
        for number, line in enumerate(lines(blob, file), 1):
            if line.strip():
                empty = False
                yield Question(f"{blob.stem}:{number}", line.strip())
    if empty:
        raise DataError(f"{blob.name}: is empty; name a file with one question per line")


def _tabled(blob: Blob) -> Iterator[Question]:
    """A question a row, under any of the names that the benchmarks give it."""
    for number, row in rows(blob):
        inside = row["data"] if isinstance(row.get("data"), dict) else row
        name = next((name for name in STEMS if isinstance(inside.get(name), str)), None)
        if name is None:
            raise DataError(
                f"{blob.name}: row {number} has no question under any of {', '.join(STEMS)}, only {columns_of(inside)}; rename its column"
            )
        yield Question(f"{blob.stem}:{number}", inside[name], tuple(option for option in _options(inside) if option))


def _options(row: Row) -> Iterator[str]:
    """The texts of a question's options, in whichever of the published shapes."""
    for names in LETTERED:
        if names[0] in row:
            yield from (_option(row.get(name)) for name in names)
            return
    value: Any = next((row[name] for name in OPTIONS if row.get(name)), ())
    if isinstance(value, Mapping):
        value = list(value.values())
    elif isinstance(value, str):
        value = value.splitlines()
    yield from map(_option, value)


def _option(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[name] for name in TEXTS if value.get(name)), "")
    return "" if value is None else str(value).strip()
