"""Hand-written cases: a prompt and what it should be answered with, put to every trained model."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.errors import DataError, did_you_mean
from medrecipes.scoring.entities import TASKS, parse
from medrecipes.scoring.judging import exact
from medrecipes.scoring.predictions import ALIASES, QA, Prediction

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
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; correct eval.cases, or leave it out") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: is no readable TOML ({error}); correct it") from None
    entries = table.get("case")
    if not isinstance(entries, list) or not entries or set(table) != {"case"}:
        raise DataError(f"{path}: holds no [[case]] tables alone; write each with {', '.join(KEYS)}")
    cases: list[Case] = []
    for number, entry in enumerate(entries, 1):
        case = _case(f"{path}: case {number}", entry)
        if any(case.id == other.id for other in cases):
            raise DataError(f"{path}: case {number}: id {case.id!r} is taken; choose another")
        cases.append(case)
    return cases


def _case(where: str, entry: Any) -> Case:
    for name in KEYS:
        if not isinstance(entry.get(name), str) or (name != "expect" and not entry[name].strip()):
            raise DataError(f"{where}: {name} is missing or no text; every case needs {', '.join(KEYS)}")
    for name in entry:
        if name not in KEYS:
            raise DataError(f"{where}: {name} is unknown{did_you_mean(name, KEYS)}")
    task = ALIASES.get(entry["task"], entry["task"])
    if task not in (QA, *TASKS):
        raise DataError(f"{where}: task {task!r} is unknown{did_you_mean(task, (QA, *TASKS))}")
    if task in TASKS and (failures := parse(task, entry["expect"]).failures):
        raise DataError(
            f"{where}: expect holds {failures[0]!r}, which is no item of task {task}; write '- item' a line"
        )
    return Case(entry["id"], task, entry["prompt"].strip(), entry["expect"].strip())


def exactly(answers: Sequence[Prediction]) -> str:
    """How many cases were answered as expected, e.g. `exact match 2 of 5`."""
    return f"exact match {sum(map(exact, answers))} of {len(answers)}"
