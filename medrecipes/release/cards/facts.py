"""All that a model's card is made from, and how its base is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.recipe.local_bases import is_local, made_here
from medrecipes.recipe.schema import Recipe
from medrecipes.release.base_licences import Terms, terms_of, tiny
from medrecipes.release.cards.text import RELEASE
from medrecipes.release.gates import Gate

# what a card reads of run.json, and what its key is of; a release states it, so that its card can be written again
STATE = ("key", "identity", "task", "base", "base_revision", "base_licence", "base_caps", "versions", "commit", "hardware", "choices", "template_sha256")  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """All that a card is made from; what a run did not record is empty."""

    recipe: Recipe
    path: Path
    state: Mapping[str, Any]
    report: Mapping[str, Any]
    data: Mapping[str, Any]
    stats: Mapping[str, Any]
    repo_id: str = RELEASE
    formats: Sequence[str] = ("adapter",)
    gates: Sequence[Gate] = ()
    exports: Sequence[Mapping[str, Any]] = ()  # what export.json says of each file or folder that was exported

    @property
    def base(self) -> str:
        """The base as others know it: its name on the Hub, or that of its folder."""
        name = self.recipe.model.base
        return Path(name).name if is_local(name) else name

    @property
    def on_hub(self) -> bool:
        """Whether others can fetch the base by its name."""
        return not made_here(self.recipe.model.base) and not is_local(self.recipe.model.base)

    @property
    def terms(self) -> Terms | None:
        """What its makers ask."""
        return None if tiny(self.recipe.model.base) else terms_of(self.recipe.model.base, self.state.get("base_licence"))  # fmt: skip
