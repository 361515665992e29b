"""What must hold before anything is released: each gate says what it found, and only `--waive NAME` passes a closed one.

What is searched is what leaves the machine, of a dataset every row and file, of a run the files of the release; and the
rows that an adapter was trained on, for it may have learned them by heart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError, did_you_mean
from medrecipes.core.files import read_json
from medrecipes.recipe.schema import Recipe
from medrecipes.release.gates.files import personal_files, pickled
from medrecipes.release.gates.rows import (
    contaminated,
    leaked,
    licences,
    personal_rows,
    refilled,
    rows_of_dataset,
    rows_of_run,
    secret_rows,
    shared,
    trained,
    unseen,
)
from medrecipes.release.gates.runs import reload_differs, stops_missing, terms_unmet
from medrecipes.release.gates.secrets import secrets_of
from medrecipes.release.personal_data.second import detectors

ADVICE = {
    "licence": "get the right to share it, leave that source out, or waive it where you have the right; the licence of data of your own stands in the recipe as data.licence",
    "personal-data": "take these rows or files out, or mask them; waive it where all of them are public or an institution's",
    "leakage": "make the split again; figures of such rows say nothing",
    "benchmarks": 'train again with data.exclude = ["NAME"], or leave those figures out of eval/report.json; figures of questions that were learned say nothing',
    "secrets": "delete it from the file, and revoke it where it was issued",
    "pickles": "save weights as safetensors; a pickle can run anything on the machine that opens it",
    "reload": "bring base, data and adapter back as they were, or train again",
    "stop-tokens": "write every stop token of the template into generation_config.json; without it answers never end",
    "base-terms": "name the repository, and ship the NOTICE, as the base's licence asks",
}
NAMES = tuple(ADVICE)
SHOWN = 20  # findings that a gate lists; the rest are counted


@dataclass(frozen=True)
class Gate:
    """One gate; `found`: row ids or file names with what is wrong there, `waived`: passed by `--waive NAME` alone."""

    name: str
    passed: bool
    waived: bool = False
    found: list[str] = field(default_factory=list)
    advice: str = ""
    note: str = ""  # how it was looked for

    @property
    def open(self) -> bool:
        """Whether the release may go on."""
        return self.passed or self.waived

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "WAIVED" if self.waived else "CLOSED"
        way = f"→ {self.advice} (--waive {self.name} passes it, and the card says so)"
        more = [*self.found, *([] if self.open else [way]), *([self.note] if self.note else [])]
        return "".join([f"{self.name:<14} {verdict}", *(f"\n{'':<15}{line}" for line in more)])


def check_run(
    run: Path, files: Mapping[str, Path], recipe: Recipe, repo_id: str, waived: Sequence[str] = (),
    console: Console | None = None,
) -> list[Gate]:  # fmt: skip
    """Every gate of a run's release: `files` are what it would hold, by their names there; `repo_id`: where it would go."""
    _known(waived)
    data = read_json(run / "data.json") if (run / "data.json").exists() else {}
    state = read_json(run / "run.json") if (run / "run.json").exists() else {}
    judged = run / "eval" / "report.json"
    report = read_json(judged) if judged.exists() else {}
    rows, silence = rows_of_run(recipe, data)
    found = {
        "licence": [*licences(data), *(refilled(rows) if not silence else unseen(data, silence))],
        "personal-data": [
            *personal_files(files),
            *(personal_rows(trained(rows)) if not silence else [f"training rows: not looked at ({silence})"]),
        ],
        "leakage": list(leaked(data, rows)),
        "benchmarks": list(contaminated(data, report)),
        "secrets": [f"{name}: {what}" for name, path in files.items() for what in secrets_of(path)],
        "pickles": [f"{name}: {what}" for name, path in files.items() if (what := pickled(path))],
        "reload": ["not recomputed, for it is waived"]
        if "reload" in waived
        else list(reload_differs(run, state, console)),
        "stop-tokens": list(stops_missing(run, files, recipe)),
        "base-terms": list(terms_unmet(files, recipe, repo_id, state.get("base_licence"))),
    }
    return [_gate(name, found[name], waived) for name in NAMES]


def check_dataset(folder: Path, waived: Sequence[str] = ()) -> list[Gate]:
    """Every gate that a dataset has: its rows, and all files of its folder."""
    _known(waived)
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    data = read_json(folder / "data.json") if (folder / "data.json").exists() else {}
    rows = list(rows_of_dataset(folder))
    texts = {name: p for name, p in files.items() if p.suffix != ".jsonl"}  # which are looked at row by row
    found = {
        "licence": [*licences(data), *refilled(rows)],
        "personal-data": [*personal_rows(rows), *personal_files(texts)],
        "leakage": list(shared(rows)),
        "secrets": [*(f"{name}: {what}" for name, p in files.items() for what in secrets_of(p)), *secret_rows(rows)],
        "pickles": [f"{name}: {what}" for name, p in files.items() if (what := pickled(p))],
    }
    return [_gate(name, found[name], waived) for name in NAMES if name in found]


def _known(waived: Sequence[str]) -> None:
    for name in waived:
        if name not in NAMES:
            raise MedRecipesError(f"--waive {name}: no gate has that name{did_you_mean(name, NAMES)}")


def _gate(name: str, found: Sequence[str], waived: Sequence[str]) -> Gate:
    lines = list(dict.fromkeys(found))
    more = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    note = detectors() if name == "personal-data" else ""
    return Gate(name, not lines, bool(lines) and name in waived, lines[:SHOWN] + more, ADVICE[name], note)
