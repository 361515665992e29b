"""What share of the tokens each dataset of a mixture has, counted with the base's own tokenizer before anything is trained."""

from __future__ import annotations

from typing import Any

from medrecipes.data.split import prepare
from medrecipes.engines import tokenizer_base
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.base_template import base_template
from medrecipes.rendering.mixing import labels, mix
from medrecipes.rendering.overflow import fit_parts


def shares(recipe: Recipe) -> dict[str, Any]:
    """Rows and tokens of each dataset before and after mixing, as data.json will hold them."""
    split = prepare(recipe)
    template = base_template(recipe, tokenizer_base(recipe, split).tokenizer, recipe.model.base, split.rows)
    fitted = fit_parts(template, {"train": split.train}, recipe.data, split.stage_key)
    return dict(mix(recipe, fitted["train"].examples, labels(split.report)).report)
