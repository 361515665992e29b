"""A finished run opened again: what its files say, and base, template, adapter and engine as the run had them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecipes.core.console import Console
from medrecipes.core.errors import RunError, SpoiledError
from medrecipes.core.files import cache_root, intact, read_json
from medrecipes.core.notes import note
from medrecipes.core.trust import admit, inspect_adapter
from medrecipes.data.split import prepare
from medrecipes.data.tagged_split import prepare_tagged
from medrecipes.engines import Choice, Decoding, load_libraries, open_engine, open_tagger, recipe_base, tag_base
from medrecipes.engines.bases import open_base
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.answer_text import answer_of
from medrecipes.rendering.base_template import saved_template
from medrecipes.rendering.talk import Talk
from medrecipes.rendering.word_windows import ABOUT
from medrecipes.runs.checkpoints import UNSEALED, checkpoints, flaw, is_sealed, step_of
from medrecipes.runs.folder import RunDir, read_losses
from medrecipes.scoring.predictions import Prediction, read_predictions

if TYPE_CHECKING:
    from medrecipes.engines import Engine
    from medrecipes.engines.bases import Base
    from medrecipes.engines.trainer.tags import Tagger
    from medrecipes.rendering.chat_template import ChatTemplate

ENGINE = Choice("trl", "it trained the adapter")  # of tagging runs


def open_run(folder: str | Path) -> Run:
    """A finished run by its folder; anything else is an error that says what is missing."""
    path = Path(folder)
    require_run(path)
    rundir = RunDir(path)
    rundir.require_finished()
    if not (rundir.adapter / "adapter_config.json").exists():
        raise RunError(f"{path}: has no adapter; train it again with `medrecipes run {path}/recipe.toml --fresh`")
    return Run(rundir)


def require_run(path: Path) -> None:
    """Raise for what is no run folder."""
    if not (path / "run.json").exists():
        raise RunError(f"{path}: is no run folder; name one of those in runs/")


class Run:
    """A run folder: `report`, `losses` and `predictions` as its files have them; the model is loaded by what needs it."""

    def __init__(self, rundir: RunDir) -> None:
        self.rundir, self.path = rundir, rundir.path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    # --- what the files hold

    @property
    def state(self) -> dict[str, Any]:
        """What run.json says."""
        return self.rundir.state

    @cached_property
    def own(self) -> Recipe:
        """The recipe as its file has it."""
        return load(self.path / "recipe.toml").recipe

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, with base and data of the Hub at the commits that the run had."""
        return self.pinned(self.own)

    @cached_property
    def report(self) -> dict[str, Any]:
        """eval/report.json: the figures of base and tuned model, with their intervals."""
        found: dict[str, Any] = read_json(self.path / "eval" / "report.json")
        return found

    @cached_property
    def losses(self) -> list[dict[str, Any]]:
        """The rows of loss.csv, numbers as numbers; None where a row has no value."""
        return [{name: _number(name, value) for name, value in row.items()} for row in read_losses(self.path / "loss.csv")]  # fmt: skip

    @cached_property
    def predictions(self) -> list[Prediction]:
        """The answers of base and tuned model to the held-out rows; of a tagging run, the entities found."""
        return read_predictions(self.path / "eval" / "predictions.jsonl", own=True)

    # --- the model

    def ask(self, question: str) -> str:
        """What the tuned model answers, its reasoning left out, decoded as [eval] of its recipe says; the first question loads it."""
        engine, template = self._answering
        decoding = Decoding.of(self.recipe)
        ids, _ = Talk(template, self.recipe.data.max_tokens).ask(question, decoding.max_new_tokens)
        return answer_of(template, list(engine.stream(ids, decoding)), self.recipe.eval).text

    @cached_property
    def _answering(self) -> tuple[Engine, ChatTemplate]:
        self.require_chat("which answers no questions; tag")
        with Console().quiet(cache_root() / "log.txt"):
            return self.open_model(self.recipe, self.adapter())

    @property
    def tags(self) -> bool:
        """Whether it is a tagging run."""
        return bool(self.state.get("task") == "tag")

    def require_chat(self, why_not: str) -> Run:
        """Raise for a tagging run; `why_not`: what it is told before the command that it has instead."""
        if self.tags:
            raise RunError(f"{self.path}: is a tagging run, {why_not} texts with `medrecipes tag {self.path} TEXT`")
        return self

    def pinned(self, recipe: Recipe) -> Recipe:
        """A recipe with base and data of the Hub at the commits that the run had, where it recorded them."""
        return self.rundir.pinned(recipe) if (self.path / "data.json").exists() else recipe

    def with_eval(self, overrides: Sequence[str], example: str) -> Recipe:
        """The run's own recipe with other settings of [eval], the only ones that a finished run may be given."""
        recipe = load(self.path / "recipe.toml", overrides).recipe
        if self.own.model_copy(update={"eval": recipe.eval}) != recipe:
            raise RunError(f"{self.path}: only settings of [eval] can be overridden here, such as --set {example}")
        return recipe

    def adapter(self, checkpoint: int | None = None) -> Path:
        """The adapter that the run kept, or the one of a checkpoint."""
        if checkpoint is None:
            inspect_adapter(self.rundir.adapter)
            return self.rundir.adapter
        folder = self.rundir.checkpoints / f"checkpoint-{checkpoint}"
        kept = [path for path in checkpoints(self.rundir.checkpoints) if path != folder]
        others = ", ".join(str(step_of(path)) for path in reversed(kept))
        if not folder.is_dir():
            raise RunError(f"{self.path}: has no checkpoint {checkpoint}; it kept {others or 'none'}")
        if wrong := flaw(folder):
            choice = f", or choose another: {others}" if others else ""
            raise SpoiledError(f"{folder}: {wrong}; bring it back{choice}")
        if not is_sealed(folder):
            note(f"{folder}: {UNSEALED}")
        inspect_adapter(folder)
        return folder

    def base(self, recipe: Recipe) -> Base:
        """The base that it was trained on, at its recorded commit; a tiny one is taken from the store, or built again."""
        name, revision = recipe.model.base, self.state.get("base_revision") or recipe.model.revision
        if name.startswith("tiny:"):
            name, revision = str(self.state["base"]), "main"
            if not intact(Path(name)):  # it left the store, or was damaged there
                return tag_base(recipe, prepare_tagged(recipe)) if self.tags else recipe_base(recipe, prepare(recipe))
        base = open_base(name, revision)
        admit(recipe.model, base)
        return base

    def open_model(self, recipe: Recipe, adapter: Path | None) -> tuple[Engine, ChatTemplate]:
        """What answers, with an adapter of the run or without any, and the template that was trained."""
        choice = load_libraries(recipe)
        template = saved_template(recipe, self.rundir.adapter)
        engine = open_engine(recipe, self.base(recipe), template, choice)
        if adapter is not None:
            engine.open_adapter(adapter)
        return engine, template

    def open_tagger(self, recipe: Recipe, adapter: Path) -> Tagger:
        """What tags, with an adapter of the run."""
        engine: Tagger = open_tagger(
            recipe, self.base(recipe), read_json(self.rundir.adapter / ABOUT)["labels"], ENGINE
        )
        engine.open_adapter(adapter)
        return engine


def _number(name: str, value: str) -> Any:
    """A cell of loss.csv."""
    if name == "split":
        return value
    if name in ("step", "tokens", "supervised_tokens"):
        return int(value) if value else None
    return float(value) if value else None
