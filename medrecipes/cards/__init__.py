"""The cards of models and datasets, from what really happened; a missing piece is left out or said, never made up."""

from __future__ import annotations

from medrecipes.cards.dataset import dataset_card
from medrecipes.cards.model import model_card, release_card
from medrecipes.cards.text import DISCLAIMER, RELEASE

__all__ = ["DISCLAIMER", "RELEASE", "dataset_card", "model_card", "release_card"]
