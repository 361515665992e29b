"""The cards of models and datasets, from what really happened; a missing piece is left out or said, never made up."""

from __future__ import annotations

from medrecipes.release.cards.dataset import Released, dataset_card
from medrecipes.release.cards.facts import STATE, Facts
from medrecipes.release.cards.model import card, model_card, release_card, run_card
from medrecipes.release.cards.sections import example_lines, without_example
from medrecipes.release.cards.text import DISCLAIMER, RELEASE

__all__ = [
    "DISCLAIMER", "RELEASE", "STATE", "Facts", "Released", "card", "dataset_card", "example_lines", "model_card", "release_card", "run_card",
    "without_example",
]  # fmt: skip
