"""The base model before any weight is loaded: its folder or Hub id, its tokenizer and its config."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medrecipes.errors import MedRecipesError
from medrecipes.store import read_json
from medrecipes.tokens import Tokenizer

# all that says what a base is, and none of its weights
FACTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
         "special_tokens_map.json", "tokenizer.model")  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A base model: `name` as engines load it (a folder or a Hub id), and `folder` with its config and tokenizer."""

    name: str
    folder: Path
    revision: str | None = None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The base's own tokenizer."""
        return Tokenizer(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says."""
        config: dict[str, Any] = read_json(self.folder / "config.json")
        return config

    @property
    def is_local(self) -> bool:
        """Whether the weights lie in a folder of this machine."""
        return self.revision is None


def open_base(name: str, revision: str) -> Base:
    """A base from a folder, or from the Hub at the commit that `revision` stands for now."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise MedRecipesError(f"{folder}: holds no config.json, so it is no base model; correct model.base")
        return Base(str(folder.resolve()), folder.resolve())
    if name.startswith((".", "/", "~")):
        raise MedRecipesError(f"{folder}: no such folder; correct model.base")
    return _from_hub(name, revision)


def _from_hub(name: str, revision: str) -> Base:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        commit = HfApi().model_info(name, revision=revision, timeout=10).sha
        folder = snapshot_download(name, revision=commit, allow_patterns=list(FACTS))
    except GatedRepoError:
        raise MedRecipesError(
            f"{name}: the base is gated; accept its terms on its Hub page, then log in with `hf auth login`"
        ) from None
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MedRecipesError(
            f"{name}@{revision}: cannot be had from the Hub ({reason}); check the name, the network and `hf auth login`, "
            "or give a folder as model.base"
        ) from None
    return Base(name, Path(folder), commit)
