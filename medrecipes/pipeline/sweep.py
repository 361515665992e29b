"""Many runs from one recipe: every combination of `[sweep]`, or a sample of them, and the best by its dev rows."""

from __future__ import annotations

import gc
import math
import random
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError, RecipeError, RunError, reason
from medrecipes.core.files import PRIVATE, digest, read_json, write_json, write_text, writing
from medrecipes.core.markup import plain
from medrecipes.pipeline.walk import run
from medrecipes.recipe.load import load
from medrecipes.recipe.rules.training import grid_size
from medrecipes.recipe.schema import Recipe, Sweep
from medrecipes.recipe.show import to_toml
from medrecipes.runs.folder import RunDir, holding
from medrecipes.scoring.tables import aligned, markdown

TITLES = {"bits_per_byte": "dev bits per byte", "loss": "dev loss", "f1": "dev F1"}


@dataclass(frozen=True)
class Outcome:
    """One run's settings and how it did on its dev rows; `dev`: what those rows are."""

    settings: dict[str, Any]
    folder: str
    value: float | None
    step: int
    seconds: float
    dev: str


def combinations(recipe: Recipe) -> list[dict[str, Any]]:
    """The settings of each run, in the order of the grid; a sample of them is drawn by the recipe's seed."""
    grid = recipe.sweep.grid
    count, samples = grid_size(grid), recipe.sweep.samples
    chosen = range(count)
    if samples and samples < count:
        return [_combination(grid, i) for i in sorted(random.Random(recipe.seed).sample(chosen, samples))]
    return [_combination(grid, i) for i in chosen]


def _combination(grid: dict[str, list[Any]], number: int) -> dict[str, Any]:
    """One of a grid's combinations, which are numbered as `itertools.product` gives them; a large grid is never written out."""
    found = {}
    for key, values in reversed(grid.items()):
        number, place = divmod(number, len(values))
        found[key] = values[place]
    return dict(reversed(found.items()))


def recipes(path: str | Path, overrides: Sequence[str]) -> list[tuple[dict[str, Any], Recipe]]:
    """Every run's settings and recipe; what is wrong with any of them is told before the first one starts."""
    whole = load(path, overrides).recipe
    if not whole.sweep.grid:
        raise RecipeError(f'{path}: has no [sweep] to try; add one, such as "lora.rank" = [8, 16]')
    found: dict[str, tuple[dict[str, Any], Recipe]] = {}
    problems = []
    for settings in combinations(whole):
        try:
            recipe = load(path, [*overrides, *(f"{key}={to_toml(value)}" for key, value in settings.items())]).recipe
        except RecipeError as error:
            problems += [f"{path}: with {_said(settings)}: {problem}" for problem in error.problems]
            continue
        found.setdefault(recipe.key, (settings, recipe.model_copy(update={"sweep": Sweep()})))
    if problems:
        raise RecipeError(problems)
    return list(found.values())


def sweep(path: str | Path, overrides: Sequence[str], runs: Path, console: Console) -> Path:
    """Train every run, lay them side by side by their dev rows, and let the best alone answer the test rows.

    What was trained before is not trained again; a run that fails ends no other.
    """
    planned = recipes(path, overrides)
    name = planned[0][1].name
    folder = runs / f"{name}-sweep-{digest([recipe.key for _, recipe in planned])[:8]}"
    with holding(folder):
        _sweep(planned, folder, runs, console)
    return folder


def _sweep(planned: Sequence[tuple[dict[str, Any], Recipe]], folder: Path, runs: Path, console: Console) -> None:
    """All of it, in the sweep's folder."""
    name, metric = planned[0][1].name, planned[0][1].train.keep_best
    outcomes: list[Outcome] = []
    failures: list[str] = []
    for number, (settings, recipe) in enumerate(planned, 1):
        console.line(f"run {number} of {len(planned)}: {_said(settings)}")
        try:
            outcomes.append(outcome(settings, run(recipe, runs, console, evaluate=False)))
        except Exception as error:
            failures.append(f"{_said(settings)}: {_why(error, folder)}")
            console.line(f"failed: {failures[-1]}")
        console.line()
        _free()
    best, why = choose(outcomes, metric)
    if outcomes:
        lines = [*table(outcomes, metric), "", f"best by {TITLES[metric]}: {_said(best.settings)}  {best.folder}" if best else why]  # fmt: skip
        for line in lines:
            console.line(line)
        _make(folder)
        write_json(folder / "sweep.json", {
            "metric": metric, "best": best.folder if best else None, "why_not": why or None,
            "runs": [vars(one) for one in outcomes], "failures": failures,
        })  # fmt: skip
        write_text(folder / "sweep.md", "\n".join([f"# {plain(name)}: {len(outcomes)} runs", "", *markdown(_rows(outcomes, metric)), "", plain(lines[-1]), ""]))  # fmt: skip
        console.line(f"{'':<2}{folder / 'sweep.md'}")
    if failures:
        raise RunError("\n".join([f"{len(failures)} of {len(planned)} runs failed; the same command tries them again, and then lets the best answer the held-out rows", *failures]))  # fmt: skip
    if best:
        console.line()
        console.line(f"the best alone answers the held-out rows: {_said(best.settings)}")
        run(next(recipe for settings, recipe in planned if settings == best.settings), runs, console)


def _why(error: Exception, folder: Path) -> str:
    """What a run failed of, on one line; of what nobody foresaw, the traceback is kept beside the sweep."""
    if isinstance(error, MedRecipesError):
        return str(error)
    _make(folder)
    log = folder / "failures.txt"
    before = log.read_text(encoding="utf-8") if log.exists() else ""
    write_text(log, before + "".join(traceback.format_exception(error)))
    return f"{type(error).__name__}: {reason(error)} (all of it in {log})"


def _make(folder: Path) -> None:
    with writing(folder):
        folder.mkdir(PRIVATE, parents=True, exist_ok=True)


def outcome(settings: dict[str, Any], rundir: RunDir) -> Outcome:
    """What a trained run says of its dev rows; its test rows are not looked at."""
    stats, data = (read_json(rundir.path / name) for name in ("trainer_stats.json", "data.json"))
    # the same rows, and the same of them too long
    dev = digest([data["keys"]["dev"], data.get("overflow", {}).get("dev")])
    return Outcome(settings, str(rundir.path), _value(stats), stats["best_step"], round(stats["train_runtime"], 1), dev)


def _value(stats: dict[str, Any]) -> float | None:
    """The measure of the checkpoint that was kept: on all dev rows, where those of the curve are fewer."""
    value: float | None = stats["best_metric"]
    return value if value is None else stats.get("all_dev", {}).get(stats.get("metric"), value)


def choose(outcomes: Sequence[Outcome], metric: str) -> tuple[Outcome | None, str]:
    """The best of runs that can be compared, or why there is none."""
    if not outcomes:
        return None, "no run was finished"
    if len({one.dev for one in outcomes}) > 1:
        return None, "no best: what was swept changes the dev rows, so these figures do not compare"
    if all(one.value is None for one in outcomes):
        return None, "no best: no run was evaluated on its dev rows; lower train.eval_steps"
    return min(outcomes, key=_rank(metric)), ""


def _rank(metric: str) -> Callable[[Outcome], float]:
    """What puts the best first: F1 is the better the higher, all else the lower; a run without a figure comes last."""
    return lambda one: math.inf if one.value is None else -one.value if metric == "f1" else one.value


def table(outcomes: Sequence[Outcome], metric: str) -> list[str]:
    """The runs as lines, the best first."""
    return aligned(_rows(outcomes, metric))


def _rows(outcomes: Sequence[Outcome], metric: str) -> list[list[str]]:
    head = [*outcomes[0].settings, TITLES[metric], "at step", "seconds", "run"]
    found = sorted(outcomes, key=_rank(metric))
    return [
        head,
        *(
            [
                *map(to_toml, one.settings.values()),
                "-" if one.value is None else f"{one.value:.4f}",
                str(one.step),
                f"{one.seconds:g}",
                one.folder,
            ]
            for one in found
        ),
    ]


def _said(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {to_toml(value)}" for key, value in settings.items())


def _free() -> None:
    """Give a run's memory back before the next one asks for its own."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
