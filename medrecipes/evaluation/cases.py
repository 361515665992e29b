"""Hand-written cases: a prompt and what it should be answered with, put to every trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.core.errors import DataError, RecipeError, did_you_mean, shown
from medrecipes.recipe.overlay import read_table
from medrecipes.scoring.entities import TASKS, parse
from medrecipes.scoring.figures import exact
from medrecipes.scoring.predictions import ALIASES, QA, Prediction

MOST_BYTES = 4_000_000  # thousands of cases, each of which is answered after the training
KEYS = ("id", "task", "prompt", "expect")


@dataclass(frozen=True)
class Case:
    """One case, e.g. `[[case]]` with `id`, `task`, `prompt` and `expect` in a TOML file."""

    id: str
    task: str
    prompt: str
    expect: str


def read_cases(path: Path) -> list[Case]:
    """All cases of a file; every mistake names the case."""
    try:
        table, _ = read_table(path, "a file of cases", MOST_BYTES)
    except RecipeError as error:
        raise DataError(str(error)) from None
    entries = table.get("case")
    if not isinstance(entries, list) or not entries or set(table) != {"case"}:
        raise DataError(f"{path}: holds no [[case]] tables alone; write each with {', '.join(KEYS)}")
    cases: dict[str, Case] = {}
    for number, entry in enumerate(entries, 1):
        case = _case(f"{path}: case {number}", entry)
        if case.id in cases:
            raise DataError(f"{path}: case {number}: id {shown(case.id)} is taken; choose another")
        cases[case.id] = case
    return list(cases.values())


def _case(where: str, entry: Any) -> Case:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: is no table; write [[case]] with {', '.join(KEYS)}")
    for name in KEYS:
        if not isinstance(entry.get(name), str) or (name != "expect" and not entry[name].strip()):
            raise DataError(f"{where}: {name} is missing or no text; every case needs {', '.join(KEYS)}")
    for name in entry:
        if name not in KEYS:
            raise DataError(f"{where}: {name} is unknown{did_you_mean(name, KEYS)}")
    task = ALIASES.get(entry["task"], entry["task"])
    if task not in (QA, *TASKS):
        raise DataError(f"{where}: task {shown(task)} is unknown{did_you_mean(str(task), (QA, *TASKS))}")
    if task in TASKS and (failures := parse(task, entry["expect"]).failures):
        raise DataError(
            f"{where}: expect holds {shown(failures[0])}, which is no item of task {task}; write '- item' a line"
        )
    return Case(entry["id"], task, entry["prompt"].strip(), entry["expect"].strip())


def exactly(answers: Sequence[Prediction]) -> str:
    """How many cases were answered as expected, e.g. `exact match 2 of 5`."""
    return f"exact match {sum(map(exact, answers))} of {len(answers)}"
