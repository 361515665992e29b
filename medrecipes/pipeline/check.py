"""Everything that can be known before training, said at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError, RecipeError, UnreachableError
from medrecipes.core.files import cache_root
from medrecipes.core.trust import admit
from medrecipes.data import tally
from medrecipes.data.reading import source_of
from medrecipes.data.records import Conversation, Message
from medrecipes.engines.bases import Base, contradictions, open_base, tiny_facts
from medrecipes.recipe.load import Loaded, load
from medrecipes.recipe.local_bases import is_local
from medrecipes.recipe.schema import Data, Recipe
from medrecipes.release.redistribution import withheld

if TYPE_CHECKING:
    from medrecipes.data.split import Split
    from medrecipes.data.tagged_split import TaggedSplit

# what a template is proved on where the data is not at hand: a dialogue of two questions
DIALOGUE = Conversation(
    "example", "", tuple(Message(*turn) for turn in (("user", "Is it?"), ("assistant", "Yes."), ("user", "And this?"), ("assistant", "No.")))
)  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """What is wrong, a line each that begins with a file, those of a file together; and what of a recipe could not be looked at."""

    problems: list[str]
    skipped: dict[str, list[str]]


@dataclass(frozen=True)
class _Look:
    """Where a recipe's check is told, and which of its parts were skipped."""

    console: Console
    skipped: list[str] = field(default_factory=list)

    def note(self, what: str, text: str) -> None:
        """A line of the check."""
        self.console.line(f"  {what:<9} {text}")

    def skip(self, what: str, why: str) -> None:
        """The same, of a part that is not checked."""
        self.skipped.append(what)
        self.note(what, why)

    def quiet(self) -> AbstractContextManager[None]:
        """Inside, what libraries print goes to the log."""
        return self.console.quiet(cache_root() / "log.txt")


def check_all(
    paths: Sequence[str], overrides: Sequence[str], console: Console, *, schema_only: bool = False
) -> Checked:
    """Check several recipes, each with a line of what was found and what was skipped."""
    found: dict[str, list[str]] = {}
    skipped: dict[str, list[str]] = {}
    for path in paths:
        console.line(path)
        look = _Look(console)
        try:
            loaded = load(path, overrides)
        except RecipeError as error:
            problems = error.problems
        else:
            told = [*withheld(loaded.recipe, loaded.at)]
            told += _early(loaded, look) if schema_only else _all(loaded, look)
            problems = [p if p.startswith(f"{path}:") else f"{path}: {p}" for p in told]
        look.note("result", _result(len(problems), look.skipped))
        skipped |= {path: look.skipped} if look.skipped else {}
        for problem in problems:
            found.setdefault(problem, []).append(path)
    return Checked(list(_grouped(found)), skipped)


def _result(problems: int, skipped: Sequence[str]) -> str:
    """E.g. `no problems found; 3 checks skipped: base, data, template`."""
    said = f"{problems or 'no'} problem{'' if problems == 1 else 's'} found"
    return f"{said}; {len(skipped)} check{'s' * (len(skipped) > 1)} skipped: {', '.join(skipped)}" if skipped else said


def _grouped(found: dict[str, list[str]]) -> Iterator[str]:
    """The problems by file; what several recipes inherit from one file is said once."""
    files: dict[str, list[str]] = {}
    for problem, recipes in found.items():
        shared = f" (in {len(recipes)} recipes: {', '.join(recipes)})" if len(recipes) > 1 else ""
        files.setdefault(problem.partition(":")[0], []).append(problem + shared)
    for problems in files.values():
        yield from problems


def _trains(loaded: Loaded) -> bool:
    """Whether the recipe has a base of its own; one that only builds datasets needs none."""
    return not loaded.recipe.build.sets or "model.base" in loaded.origins


def _early(loaded: Loaded, look: _Look) -> list[str]:
    """What needs neither data nor a tokenizer nor the network."""
    return _base(loaded, look, hub=False)[1] + _settings(loaded)


def _settings(loaded: Loaded) -> list[str]:
    """What the engine that the recipe names would not honour."""
    if loaded.recipe.model.engine != "unsloth":
        return []
    from medrecipes.engines import trl_only

    return [
        f"{key} = {value}: Unsloth does not honour it; set model.engine = 'trl' (needs an NVIDIA GPU)"
        for key, value in trl_only(loaded.recipe).items()
    ]


def _base(loaded: Loaded, look: _Look, *, hub: bool) -> tuple[Base | None, list[str]]:
    """The base, if it can be had, and what the recipe asks of it that it does not have."""
    model = loaded.recipe.model
    if not _trains(loaded):
        return None, []
    if model.base.startswith("tiny:"):
        facts = tiny_facts(model.base)
        look.note("base", f"{model.base}: {facts}, built on the spot")
        return None, list(contradictions(loaded.recipe, facts))
    if not hub and (not is_local(model.base) or model.base.endswith(".gguf")):
        return None, []
    try:
        with look.quiet():  # the client draws bars
            base = open_base(model.base, model.revision)
            admit(model, base)
    except UnreachableError as error:
        look.skip("base", f"not looked at: {error}")
        return None, []
    except MedRecipesError as error:
        return None, str(error).splitlines()
    at = f"@{base.revision[:12]}" if base.revision else ""
    look.note("base", f"{model.base}{at}: {base.facts}{', gated' if base.gated else ''}")
    if not base.facts.modules:
        look.note("note", f"the modules of {base.facts.architecture} are not known before it is loaded")
    return base, list(contradictions(loaded.recipe, base.facts))


def _all(loaded: Loaded, look: _Look) -> list[str]:
    """The base's own config and tokenizer, the template, and every row of the data."""
    from medrecipes.engines import tokenizer_base

    recipe = loaded.recipe
    base, problems = _base(loaded, look, hub=True)
    problems += _settings(loaded)
    if recipe.task == "tag":
        return problems + _tags(recipe, base, look)
    try:
        split = _split(recipe, look)
        if split and _trains(loaded):
            split.parts()
        if split and recipe.model.base.startswith("tiny:") and _trains(loaded):
            with look.quiet():
                base = tokenizer_base(recipe, split)
        if base:
            _prove(recipe, base, split, look)
        elif _trains(loaded):
            look.skip("template", "not proved: it needs the base's tokenizer")
    except MedRecipesError as error:
        problems += str(error).splitlines()
    return list(dict.fromkeys(problems))


def _tags(recipe: Recipe, base: Base | None, look: _Look) -> list[str]:
    """The tagged data, and that its tags come back from the base's own pieces."""
    from medrecipes.data.tagged_split import prepare_tagged
    from medrecipes.engines import tokenizer_base
    from medrecipes.rendering.word_windows import prove

    try:
        if not recipe.data.path and source_of(recipe.data.entries[0]).repo is None:
            look.skip("data", f"not looked at: set data.path; {recipe.data.source} is not on the Hub")
            look.skip("words", "not proved: they need the rows")
            return []
        split = prepare_tagged(recipe)
        look.note("data", f"{tally.parts(split.report)}; tags {' '.join(split.labels)}")
        _tell(look, split.report)
        split.parts()
        _held(recipe, split, look)
        if recipe.model.base.startswith("tiny:"):
            with look.quiet():
                base = tokenizer_base(recipe, split)
        if base is None:
            look.skip("words", "not proved: it needs the base's tokenizer")
            return []
        for name, rows in (("train", split.train), ("dev", split.dev), ("test", split.test)):
            proof = prove(base.tokenizer, rows, split.labels, recipe.data.max_tokens, recipe.tag.overlap)
            look.note(name, str(proof))
    except UnreachableError as error:
        look.skip("data", f"not looked at: {error}")
    except MedRecipesError as error:
        return str(error).splitlines()
    return []


def _split(recipe: Recipe, look: _Look) -> Split | None:
    """The prepared data, if it is at hand."""
    from medrecipes.data.split import prepare

    for entry in recipe.data.entries:
        source = source_of(entry)
        if entry.path or (recipe.data.mix and recipe.data.path):
            continue
        if source.repo is None:
            look.skip("data", f"not looked at: {source.name} is not on the Hub; get it from {source.homepage} "
                  "and set data.path")  # fmt: skip
            return None
    try:
        split = prepare(recipe)
    except UnreachableError as error:
        look.skip("data", f"not looked at: {error}")
        return None
    look.note("data", tally.parts(split.report))
    _tell(look, split.report)
    _held(recipe, split, look)
    return split


def _held(recipe: Recipe, split: Split | TaggedSplit, look: _Look) -> None:
    """Personal data and HTML in the rows: a person decides what is to be done about them."""
    from medrecipes.release.personal_data.survey import held

    for kind, text in held(split, pushes=recipe.publish.push):
        look.note(kind, text)


def _prove(recipe: Recipe, base: Base, split: Split | None, look: _Look) -> None:
    """The template over every row, or over an example where the rows are not at hand."""
    from medrecipes.rendering import mixing
    from medrecipes.rendering.base_template import base_template
    from medrecipes.rendering.chat_template import generation_config
    from medrecipes.rendering.overflow import fit_parts, told, told_of_reasoning
    from medrecipes.rendering.proofs import prove, template_notes

    template = base_template(recipe, base.tokenizer, recipe.model.base, split.rows if split else ())
    stops = generation_config(template)["eos_token_id"]
    rows = {"train": split.train, "dev": split.dev, "test": split.test} if split else {"template": (DIALOGUE,)}
    fitted = fit_parts(template, rows, recipe.data if split else Data(), split.stage_key if split else "")
    for name, part in fitted.items():
        look.note(name, str(prove(template, part.conversations, part.examples, stops)))
    for kind, text in [*told(fitted, recipe.data), *told_of_reasoning(fitted, recipe)]:
        look.note(kind, text)
    if split:
        for kind, text in mixing.told(mixing.mix(recipe, fitted["train"].examples, mixing.labels(split.report)).report):
            look.note(kind, text)
    for note in template_notes(template):
        look.note("note", note)


def _tell(look: _Look, report: Mapping[str, Any]) -> None:
    for kind, text in tally.told(report):
        look.note(kind, text)
