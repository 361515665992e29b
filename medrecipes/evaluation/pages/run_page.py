"""report.html: a finished run as one page, made of what its folder holds and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes import __version__
from medrecipes.core.files import read_json, write_text
from medrecipes.evaluation.pages import answers, run_figures, run_sections
from medrecipes.evaluation.pages.frame import document, text
from medrecipes.evaluation.pages.plots import colour_style
from medrecipes.recipe.schema import Recipe
from medrecipes.runs.folder import RunDir, read_losses
from medrecipes.scoring.predictions import Prediction, read_predictions

PAGE = "report.html"


@dataclass(frozen=True)
class Facts:
    """All that the page is made from; `evaluation`: the folder of its answers, `eval` or one of another evaluation."""

    recipe: Recipe
    state: Mapping[str, Any]
    data: Mapping[str, Any]
    stats: Mapping[str, Any]
    losses: Sequence[Mapping[str, str]]
    report: Mapping[str, Any]
    answers: Mapping[str, Sequence[Prediction]]
    cases: Sequence[Prediction] = ()
    evaluation: str = "eval"


def write_page(recipe: Recipe, rundir: RunDir, folder: Path) -> Path:
    """Write the page of a run; that of another evaluation of it lies with that evaluation's answers."""
    path = rundir.path / PAGE if folder == rundir.path / "eval" else folder / PAGE
    write_text(path, as_html(read_facts(recipe, rundir, folder)))
    return path


def read_facts(recipe: Recipe, rundir: RunDir, folder: Path) -> Facts:
    """What a run's folder holds, and the answers of one of its evaluations."""
    found, cases = read_predictions(folder / "predictions.jsonl", own=True), folder / "cases.jsonl"
    return Facts(
        recipe, rundir.state, _table(rundir.path / "data.json"), _table(rundir.path / "trainer_stats.json"),
        read_losses(rundir.path / "loss.csv"), read_json(folder / "report.json"),
        {model: [p for p in found if p.model == model] for model in dict.fromkeys(p.model for p in found)},
        read_predictions(cases, own=True) if recipe.eval.cases and cases.exists() else (), folder.name,
    )  # fmt: skip


def _table(path: Path) -> dict[str, Any]:
    """A file's JSON; nothing where a run of old times has no such file."""
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found


def as_html(facts: Facts) -> str:
    """The whole page."""
    parts = [part for part in (
        run_figures.figures(facts.report, facts.cases),
        run_sections.training(facts.recipe, facts.state, facts.stats, facts.losses),
        answers.answers_section(facts.answers, facts.cases, f"{facts.evaluation}/predictions.jsonl"),
        run_sections.data(facts.data),
        run_sections.proofs(facts.state, facts.stats, facts.data),
        run_sections.settings(facts.recipe, facts.state),
        run_sections.use(facts.recipe),
    ) if part]  # fmt: skip
    head = run_sections.head(facts.recipe, facts.state, facts.stats, facts.data, facts.report)
    commit = str(facts.state.get("commit") or "")[:12]
    made = f"medrecipes {__version__}{f', commit {commit}' if commit else ''}; made of the run's folder, where data.json, run.json and {facts.evaluation}/ hold the rest."
    body = f"{head}<main>{''.join(parts)}</main>\n<footer>{text(made)}</footer>"
    held = answers.embedded(facts.answers, facts.cases, facts.recipe.seed) if any(facts.answers.values()) else None
    style = answers.STYLE + colour_style({"": 0})
    return document(
        f"{facts.recipe.name}: report", body, more_style=style, script=answers.SCRIPT if held else "", data=held
    )
