"""Finished tagging runs opened again: texts to tag, held-out rows to tag and score once more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecipes.core.console import Console
from medrecipes.core.errors import RunError
from medrecipes.core.files import intact, read_json
from medrecipes.core.trust import admit
from medrecipes.data.tagged_split import TaggedSplit, prepare_tagged
from medrecipes.engines import Choice, open_tagger, tag_base
from medrecipes.engines.bases import open_base
from medrecipes.evaluation import span_report
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.word_windows import ABOUT
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import RunDir
from medrecipes.scoring.tables import markdown

if TYPE_CHECKING:
    from medrecipes.engines.trainer.tags import Tagger

ENGINE = Choice("plain", "it trained the adapter")


def reopen_tagger(recipe: Recipe, rundir: RunDir, adapter: Path) -> Tagger:
    """The base of a tagging run at its commit, with an adapter of the run."""
    name, revision = str(rundir.state["base"]), str(rundir.state["base_revision"] or "main")
    if recipe.model.base.startswith("tiny:") and not intact(Path(name)):
        base = tag_base(recipe, prepare_tagged(recipe))  # it left the store or was damaged there, and is built again
    else:
        base = open_base(name, revision)
    admit(recipe.model, base)
    engine: Tagger = open_tagger(recipe, base, read_json(adapter / ABOUT)["labels"], ENGINE)
    engine.open_adapter(adapter)
    return engine


def held_out_again(recipe: Recipe, rundir: RunDir) -> TaggedSplit:
    """The run's split; data that has changed since is an error."""
    split = prepare_tagged(rundir.pinned(recipe))
    if split.key != rundir.state["split_key"]:
        raise RunError(f"{rundir.path}: its data has changed since it was trained; bring the old files back")
    return split


def judge_tags(recipe: Recipe, rundir: RunDir, adapter: Path, folder: Path, console: Console) -> None:
    """Tag the held-out rows again and report them against the dictionary."""
    with file_hashes.mending(rundir, folder):
        with console.stage("data") as stage:
            split = held_out_again(recipe, rundir)
            stage.says(f"{len(split.held_out)} {split.held_out_name} rows")
        with console.stage("evaluate (tuned)") as stage, console.quiet(rundir.log):
            engine = reopen_tagger(recipe, rundir, adapter)
            found = span_report.tagged(engine, split.held_out)
            stage.says(f"{adapter.relative_to(rundir.path)} tagged {len(split.held_out):,} rows")
        baseline = span_report.looked_up(split.train, split.held_out)
        report = span_report.report(recipe, split, baseline, found, folder)
    for line in markdown(span_report.headline_rows(report)):
        console.line(line)
    console.line(f"report.md  {folder / 'report.md'}")


def f1_again(path: Path, console: Console) -> tuple[float, float]:
    """Strict micro F1 of the held-out rows: as the run reported it, and as its saved adapter reaches it now."""
    rundir = RunDir(path)
    recipe = load(path / "recipe.toml").recipe
    split = held_out_again(recipe, rundir)
    with console.stage("scores") as stage, console.quiet(rundir.log):
        found = span_report.tagged(reopen_tagger(recipe, rundir, rundir.adapter), split.held_out)
        baseline = span_report.looked_up(split.train, split.held_out)
        again = span_report.make_report(recipe, split, found.rows, baseline.rows, found.repaired)
        stage.says(f"{len(split.held_out):,} rows tagged by the saved adapter")
    reported = read_json(path / "eval" / "report.json")
    return _f1(reported), _f1(again)


def _f1(report: dict[str, Any]) -> float:
    return float(report["tuned"]["span_f1"]["value"] or 0.0)
