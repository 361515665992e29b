"""What a finished run's files hold, each read once, and what its recipe gives when it is worked out anew from the source."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

from medrecipes.core.errors import MedRecipesError, SpoiledError, reason
from medrecipes.core.files import digest
from medrecipes.data.bio_tags import Span
from medrecipes.data.split import Split, prepare
from medrecipes.data.tagged_split import TaggedSplit, prepare_tagged
from medrecipes.engines import recipe_base, tag_base
from medrecipes.engines.bases import Base, open_base
from medrecipes.evaluation import answers as evaluate
from medrecipes.evaluation import chat_report
from medrecipes.evaluation import span_report as spanreport
from medrecipes.recipe.load import load
from medrecipes.recipe.rules.names import TINY
from medrecipes.recipe.schema import Recipe
from medrecipes.release.verify.claims import Found
from medrecipes.rendering.base_template import base_template
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.mixing import Mixture, labels, mix
from medrecipes.rendering.overflow import Fitted, fit_parts
from medrecipes.rendering.packing import pack
from medrecipes.rendering.word_windows import Proof, prove
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import LOSS_COLUMNS, RunDir
from medrecipes.scoring.predictions import Prediction, as_taggings, read_predictions

T = TypeVar("T")
OTHER_DATA = "the data at hand is not what it was made of; name that with --set data.path=…"


class once(Generic[T]):  # noqa: N801 - read like cached_property, which forgets an error and works for it again
    """A property that is worked out once, and raises once more what it raised then."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make, self.__doc__ = make, make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> once[T] | T:
        if instance is None:
            return self
        errors = instance.__dict__.setdefault("_errors", {})
        if self._name in errors:
            raise errors[self._name]
        try:
            value = instance.__dict__[self._name] = self._make(instance)
        except MedRecipesError as error:
            errors[self._name] = error
            raise
        return value


@dataclass(eq=False)
class Evidence:
    """A finished run, or a release that is laid out as one; `manifest`: what a release says of itself."""

    rundir: RunDir
    overrides: Sequence[str] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.rundir.path

    @property
    def state(self) -> dict[str, Any]:
        """What run.json says."""
        return self.rundir.state

    @once
    def same_code(self) -> bool:
        """Whether this very version wrote the run: then every text of it can be written again, letter by letter."""
        return bool(self.state.get(file_hashes.KEY, {}).get("code") == file_hashes.code())

    # --- what the files hold

    def text(self, name: str) -> str:
        """A file's text."""
        try:
            return (self.path / name).read_bytes().decode("utf-8")  # line ends as they are
        except (OSError, UnicodeDecodeError) as error:
            raise SpoiledError(f"{name} cannot be read ({reason(error)})") from None

    def json(self, name: str) -> Any:
        """A file's JSON; numbers that are none are refused, and keys that stand twice."""
        try:
            return _parsed(self.text(name))
        except (ValueError, RecursionError) as error:
            raise SpoiledError(f"{name} is no JSON that a run writes ({reason(error)})") from None

    def table(self, name: str) -> dict[str, Any]:
        """A file's JSON, which is an object."""
        value = self.json(name)
        if not isinstance(value, dict):
            raise SpoiledError(f"{name} is no JSON that a run writes (no object)")
        return value

    def lines(self, name: str) -> list[Any]:
        """A file's lines, each of them JSON."""
        try:
            return [_parsed(line) for line in self.text(name).splitlines()]
        except (ValueError, RecursionError) as error:
            raise SpoiledError(f"{name} is no JSON that a run writes ({reason(error)})") from None

    @once
    def own(self) -> Recipe:
        """The recipe as its file has it."""
        return load(self.path / "recipe.toml").recipe

    @once
    def given(self) -> Recipe:
        """The recipe with what the command line lays over it."""
        return load(self.path / "recipe.toml", self.overrides).recipe

    @once
    def recipe(self) -> Recipe:
        """The same, with base and data at the commits that the run had."""
        return self.rundir.pinned(self.given)

    @once
    def data(self) -> dict[str, Any]:
        """data.json."""
        return self.table("data.json")

    @once
    def stats(self) -> dict[str, Any]:
        """trainer_stats.json."""
        return self.table("trainer_stats.json")

    @once
    def report(self) -> dict[str, Any]:
        """eval/report.json."""
        return self.table("eval/report.json")

    @once
    def losses(self) -> list[dict[str, str]]:
        """The rows of loss.csv, every one of them whole."""
        reader = csv.DictReader(io.StringIO(self.text("loss.csv"), newline=""))
        rows = list(reader)
        if tuple(reader.fieldnames or ()) != LOSS_COLUMNS or any(None in row or None in row.values() for row in rows):
            raise SpoiledError("loss.csv has other columns than a run writes")
        return rows

    @once
    def predictions(self) -> dict[str, list[Prediction]]:
        """The answers by model, in the order in which they are evaluated."""
        return self._answers("eval/predictions.jsonl")

    @once
    def cases(self) -> list[Prediction]:
        """The answers to the hand-written cases."""
        name = "eval/cases.jsonl"
        return (
            [case for rows in self._answers(name, sort=False).values() for case in rows] if self.own.eval.cases else []
        )

    def _answers(self, name: str, *, sort: bool = True) -> dict[str, list[Prediction]]:
        text = self.text(name)
        try:
            found = read_predictions(self.path / name, own=True)
        except MedRecipesError as error:
            raise SpoiledError(reason(error).replace(f"{self.path}/", "")) from None
        if self.own.task == "chat" and "".join(p.line() for p in found) != text:
            raise SpoiledError(f"{name} holds more than the answers that can be read from it")
        models = dict.fromkeys(p.model for p in found)
        rows = {model: [p for p in found if p.model == model] for model in models}
        if sort and self.own.task == "chat":
            rows = {m: sorted(those, key=lambda p: digest(f"{self.own.seed}:{p.id}")) for m, those in rows.items()}
        return rows

    # --- what is worked out anew

    @once
    def from_source(self) -> Split | TaggedSplit:
        """The split made anew from its source rows, as this version makes it of the data at hand."""
        make: Callable[..., Split | TaggedSplit] = prepare if self.own.task == "chat" else prepare_tagged
        try:
            return make(self.recipe, fresh=True)
        except MedRecipesError as error:
            raise MedRecipesError(f"{reason(error)}; name the data with --set data.path=…") from None

    @once
    def same_data(self) -> bool:
        """Whether the data at hand are what the run was made of: a key holds the content of local ones."""
        contents = [
            [source["content"] for source in report["sources"]] for report in (self.from_source.report, self.data)
        ]
        return contents[0] == contents[1] or bool(self.given.key == self.state["key"])

    @once
    def split(self) -> Split:
        """The split of a run of conversations, from its source rows."""
        return cast("Split", self._own_split())

    @once
    def tagged(self) -> TaggedSplit:
        """The split of a tagging run, from its source rows."""
        return cast("TaggedSplit", self._own_split())

    def _own_split(self) -> Split | TaggedSplit:
        """The split from its source, where that may be the run's; of other rows nothing can be held against anything."""
        made, claimed = self.from_source, str(self.state["split_key"])
        if made.key == claimed or (self.same_code and self.same_data):
            return made
        raise MedRecipesError(f"this version splits the rows into {made.key[:12]}, and {claimed[:12]} was claimed" if self.same_data else OTHER_DATA)  # fmt: skip

    @once
    def base(self) -> Base:
        """The base: of the Hub at the run's commit, a folder, or built on the split's own rows."""
        if self.recipe.model.base not in TINY:
            return open_base(self.recipe.model.base, self.recipe.model.revision)

        base = recipe_base(self.recipe, self.split) if self.own.task == "chat" else tag_base(self.recipe, self.tagged)
        if Path(base.name).name != (was := Path(str(self.state["base"])).name):
            raise MedRecipesError(f"{self.recipe.model.base} becomes {Path(base.name).name} here, and was {was}: another version built it")  # fmt: skip
        return base

    @once
    def template(self) -> ChatTemplate:
        """The recipe's template on the base's own tokenizer."""
        return base_template(self.own, self.base.tokenizer, self.own.model.base, self.split.rows)

    @once
    def fitted(self) -> dict[str, Fitted]:
        """The rows of every part as the model saw them."""
        return fit_parts(self.template, self.split.parts(), self.own.data, self.split.stage_key)

    @once
    def mixture(self) -> Mixture:
        """Which of the training rows an epoch held."""
        return mix(self.own, self.fitted["train"].examples, labels(self.split.report))

    @once
    def rows(self) -> list[evaluate.Row]:
        """The held-out rows that are evaluated."""
        return evaluate.held_out(self.own, self.fitted["held out"])

    @once
    def proved(self) -> dict[str, Proof]:
        """What the proof of every part of a tagging run counts."""
        tokenizer, labels, data, overlap = self.base.tokenizer, self.tagged.labels, self.own.data, self.own.tag.overlap
        parts = self.tagged.parts().items()
        return {name: prove(tokenizer, rows, labels, data.max_tokens, overlap) for name, rows in parts}

    @once
    def packs(self) -> int:
        """What a step is made of: rows, packs of rows, or windows."""
        if self.own.task == "tag":
            return self.proved["train"].windows
        examples, train = self.mixture.of(self.fitted["train"].examples), self.own.train
        return len(pack(examples, self.own.data.max_tokens, packing=train.packing, order=train.order))

    @once
    def made_report(self) -> dict[str, Any]:
        """The report, worked out again from the answers, or from what was found in them."""
        answers = self.predictions
        if self.own.task == "tag":
            repaired = self.report["tagging"]["repaired"]  # of what the model said, before it was read
            return self.span_report([tagging.found for tagging in as_taggings(answers[spanreport.TUNED])], repaired)
        made = chat_report.report(
            self.own, ("test" if self.data["rows"]["test"] else "dev", self.data["key"]),
            answers[chat_report.BASE], answers[chat_report.TUNED], self.cases,
            self.state.get("computed"),
        )  # fmt: skip
        return made | chat_report.on_dev(self.stats)

    def span_report(self, found: Sequence[Sequence[Span]], repaired: Mapping[str, int]) -> dict[str, Any]:
        """The report of a tagging run whose model found this in the held-out rows."""
        rows = self.tagged.held_out
        baseline = spanreport.looked_up(self.tagged.train, rows).rows
        model = spanreport.taggings(rows, found)
        return spanreport.make_report(self.own, self.tagged, model, baseline, Counter(repaired))

    # --- verdicts

    def by_code(self, wrong: Sequence[str], told: str) -> Found:
        """A difference in what a version of this package words or counts; another version may well do it otherwise."""
        if not wrong or self.same_code:
            return Found(told, wrong)
        return Found(unknown=f"{wrong[0]}; either it was edited, or another version of medrecipes wrote it")


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_no_key_twice)


def _finite(text: str) -> float:
    value = float(text)  # Python's own words for what JSON does not know too: NaN, Infinity, -Infinity
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
