"""Medical fine-tuning recipes that prove their template, loss mask, split and score on every run."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrecipes.core.errors import MedRecipesError
    from medrecipes.evaluation.finished_run import Run, open_run
    from medrecipes.pipeline.train import train
    from medrecipes.recipe.load import load_recipe
    from medrecipes.recipe.schema import Recipe

__all__ = ["MedRecipesError", "Recipe", "Run", "__version__", "load_recipe", "open_run", "train"]
__version__ = "0.1.0"

if sys.platform == "win32":
    raise ImportError("medrecipes runs on Linux and macOS; on Windows, run it inside WSL")

# Nothing phones home unless the user asks for it: set before any library is imported, and only where nothing is set.
for _name, _value in {
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "WANDB_ERROR_REPORTING": "false",
    # Not telemetry, but it too must be set this early: threads that wait by spinning make a busy machine ten times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
}.items():
    os.environ.setdefault(_name, _value)

# where the public names live: each is imported when it is first asked for, so that this package itself loads nothing
_PLACES = {
    "MedRecipesError": "core.errors",
    "Recipe": "recipe.schema",
    "Run": "evaluation.finished_run",
    "load_recipe": "recipe.load",
    "open_run": "evaluation.finished_run",
    "train": "pipeline.train",
}


def __getattr__(name: str) -> Any:
    """A public name, by its module."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
