"""Train, evaluate and report a recipe."""

from __future__ import annotations

import argparse

from medrecipes.commands import _options as options
from medrecipes.core import processes
from medrecipes.core.errors import RecipeError

EXAMPLE = """example:
  medrecipes run demo
  medrecipes run tiny_mistral --set train.epochs=2      one value changed: another run folder"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.recipe(parser)
    options.runs(parser)
    parser.add_argument("--fresh", action="store_true", help="start another run beside the one that exists")
    options.gpus(parser, "train on")
    options.trust_remote_code(parser)
    options.overrides(parser)
    options.machine(parser)


def do(arguments: argparse.Namespace) -> int:
    """Walk the pipeline, on as many GPUs as asked for."""
    from medrecipes.pipeline.train import train
    from medrecipes.recipe.load import load
    from medrecipes.recipe.rules.training import unshared
    from medrecipes.release.redistribution import require_redistributable

    loaded = load(arguments.recipe, arguments.set)
    recipe = loaded.recipe
    require_redistributable(recipe, loaded.at)
    gpus = max(arguments.gpus, processes.size())
    if wrong := unshared(recipe.train.batch, recipe.train.micro_batch, gpus):
        raise RecipeError(f"{arguments.recipe}: {wrong}")
    if arguments.gpus > processes.size():
        return options.launch(arguments)
    run = train(recipe, arguments.runs, fresh=arguments.fresh, console=options.console(arguments))
    if processes.leads():
        state = run.rundir.state
        told = {"run": run.path, "state": state.get("state"), "resumed_from_step": state.get("resumed_from_step")}
        options.outcome(arguments, {**told, "report": run.report, "releases": state.get("releases", [])})
    return 0
