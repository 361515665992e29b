"""Finished tagging runs opened again: texts to tag, held-out rows to tag and score once more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from medrecipes.core.console import Console
from medrecipes.core.errors import RunError
from medrecipes.data.split import Parts
from medrecipes.data.tagged_split import TaggedSplit, prepare_tagged
from medrecipes.evaluation import span_report
from medrecipes.evaluation.finished_run import Run, open_run
from medrecipes.evaluation.pages.run_page import PAGE, write_page
from medrecipes.recipe.schema import Recipe
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import RunDir
from medrecipes.scoring.tables import markdown

P = TypeVar("P", bound=Parts[Any])


def held_out_again(recipe: Recipe, rundir: RunDir) -> TaggedSplit:
    """The run's split; data that has changed since is an error."""
    split = prepare_tagged(rundir.pinned(recipe))
    rundir.require_data(split.key)
    return split


def on_dev(split: P) -> P:
    """A split with its dev rows held out in place of the test rows: what settings may be chosen by."""
    if not split.dev:
        raise RunError(
            "--dev: data.split leaves no dev rows (dev = 0), and the test rows are for figures alone; leave it out"
        )
    return replace(split, test=())


def evaluate_tags(
    run: Run, recipe: Recipe, adapter: Path, folder: Path, console: Console, *, dev: bool = False
) -> None:
    """Tag the held-out rows again, or the dev rows, and report them against the dictionary."""
    rundir = run.rundir
    with file_hashes.mending(rundir, folder, rundir.path / PAGE):
        with console.stage("data") as stage:
            split = held_out_again(recipe, rundir)
            split = on_dev(split) if dev else split
            stage.says(f"{len(split.held_out)} {split.held_out_name} rows")
        with console.stage("evaluate (tuned)") as stage, console.quiet(rundir.log):
            engine = run.open_tagger(recipe, adapter)
            found = span_report.tagged(engine, split.held_out)
            stage.says(f"{adapter.relative_to(rundir.path)} tagged {len(split.held_out):,} rows")
        baseline = span_report.looked_up(split.train, split.held_out)
        report = span_report.report(recipe, split, baseline, found, folder)
        page = write_page(recipe, rundir, folder)
    for line in markdown(span_report.headline_rows(report)):
        console.line(line)
    console.line(f"report.md    {folder / 'report.md'}")
    console.line(f"{PAGE}  {page}")


def f1_again(path: Path, console: Console) -> tuple[float, float]:
    """Strict micro F1 of the held-out rows: as the run reported it, and as its saved adapter reaches it now."""
    run = open_run(path)
    recipe, rundir = run.own, run.rundir
    split = held_out_again(recipe, rundir)
    with console.stage("scores") as stage, console.quiet(rundir.log):
        found = span_report.tagged(run.open_tagger(recipe, rundir.adapter), split.held_out)
        baseline = span_report.looked_up(split.train, split.held_out)
        again = span_report.make_report(recipe, split, found.rows, baseline.rows, found.repaired)
        stage.says(f"{len(split.held_out):,} rows tagged by the saved adapter")
    return _f1(run.report), _f1(again)


def _f1(report: dict[str, Any]) -> float:
    return float(report["tuned"]["span_f1"]["value"] or 0.0)
