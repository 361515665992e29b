"""Everything that can be known before training, said at once."""

from __future__ import annotations

from collections.abc import Sequence

from medrecipes.console import Console
from medrecipes.engines import recipe_base
from medrecipes.errors import MedRecipesError
from medrecipes.overflow import fit
from medrecipes.prepare import prepare
from medrecipes.proofs import prove, template_notes
from medrecipes.recipe import Recipe
from medrecipes.rendering import ChatTemplate, generation_config


def check(recipe: Recipe, console: Console) -> list[str]:
    """Prepare the data, render every row and prove it; returns what is wrong, a line each."""
    try:
        split = prepare(recipe)
        template = ChatTemplate(
            recipe.template.name, recipe_base(recipe, split).tokenizer, system=recipe.template.system
        )
        stops = generation_config(template)["eos_token_id"]
        for name, rows in (("train", split.train), ("dev", split.dev), ("test", split.test)):
            fitted = fit(template, rows, recipe.data.max_tokens, recipe.data.on_overflow)
            console.line(f"{name:<6} {prove(template, fitted.conversations, fitted.examples, stops)}")
        for note in template_notes(template):
            console.line(f"note   {note}")
    except MedRecipesError as error:
        return str(error).splitlines()
    return []


def check_all(paths: Sequence[str], recipes: Sequence[Recipe], console: Console) -> list[str]:
    """Check several recipes, each under its own name."""
    problems = []
    for path, recipe in zip(paths, recipes, strict=True):
        console.line(path)
        problems += [f"{path}: {problem}" for problem in check(recipe, console)]
    return problems
