"""A recipe trained, evaluated and reported, and its run opened: what `medrecipes run` does, for a command line and for Python."""

from __future__ import annotations

from pathlib import Path

from medrecipes.core import processes
from medrecipes.core.console import Console
from medrecipes.core.errors import RecipeError
from medrecipes.evaluation.finished_run import Run
from medrecipes.pipeline.walk import run
from medrecipes.recipe.rules.training import unshared
from medrecipes.recipe.schema import Recipe
from medrecipes.release.redistribution import require_redistributable


def train(recipe: Recipe, runs: str | Path = "runs", *, fresh: bool = False, console: Console | None = None) -> Run:
    """The run of a recipe in the folder `runs`; one that is finished is opened, an unfinished one goes on where it stopped.

    `fresh`: another run beside the one that exists. What a run prints goes to `console`, left out: standard output.
    """
    require_redistributable(recipe)
    if wrong := unshared(recipe.train.batch, recipe.train.micro_batch, processes.size()):
        raise RecipeError(f"{recipe.name}: {wrong}")
    return Run(run(recipe, Path(runs), console or Console(), fresh=fresh))
