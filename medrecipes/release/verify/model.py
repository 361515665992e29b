"""The claims that only the model itself can settle: base and adapter are opened once, and asked again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from medrecipes.core.console import Console
from medrecipes.data.records import Message
from medrecipes.engines import Choice, Engine, open_tagger
from medrecipes.evaluation import answers as evaluate
from medrecipes.evaluation import chat_report, reopen, span_report
from medrecipes.evaluation.finished_run import ENGINE
from medrecipes.release.gates.runs import TOLERANCE
from medrecipes.release.verify.claims import Claim, Found, as_json, settle, unlike
from medrecipes.release.verify.evidence import Evidence
from medrecipes.rendering.answer_text import answer_of
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.word_windows import Decoded, decode, gather
from medrecipes.runs import environment
from medrecipes.scoring.predictions import Prediction
from medrecipes.scoring.text_overlap import bits

if TYPE_CHECKING:
    from medrecipes.engines.trainer.tags import Tagger

T = TypeVar("T")
LOSS, BASE, ANSWERS, FINDINGS = "evaluation loss", "base figures", "answers", "findings"
SAMPLE = 32  # rows that the base is asked again, drawn anew each time
ANSWERED = 8  # rows that both models answer again, and cases, also drawn anew; and up to how many tokens of each
TOKENS = 32
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
SAME = 16  # characters by which an answer in half precision is the same, whatever follows
FEW = 0.5  # share of answers, or of tagged rows, that may part before in half precision; of one from elsewhere nearly all do


@dataclass(frozen=True)
class Room:
    """How far a figure may be from the one that was noted: bits of one row, by its bytes and at all; a probability; an F1."""

    per_byte: float
    bits: float
    likely: float
    f1: float


EXACT, ROUGH = Room(0.001, 0.01, 0.001, 1e-6), Room(0.02, 0.5, 0.1, 0.1)


@dataclass(frozen=True)
class Model:
    """An opened run: what answers, and the rows that it is asked."""

    engine: Engine
    template: ChatTemplate
    rows: Sequence[evaluate.Row]


def with_model(e: Evidence, console: Console) -> Iterator[Claim]:
    """The claims of a run of conversations; where its model cannot be opened, each says why."""
    limit = min(TOKENS, e.own.eval.max_new_tokens)
    recipe = e.recipe.model_copy(
        update={"eval": e.own.eval.model_copy(update={"max_new_tokens": limit, "max_reasoning_tokens": 0})}
    )
    looks: dict[str, Callable[[Evidence, Model], Found]] = {LOSS: loss, BASE: base, ANSWERS: answers}
    claims: list[Claim] = []

    def ask() -> Found:
        _ = e.base  # the run's own, or there is nothing to hold against it
        with (
            reopen.opened(recipe, e.rundir, e.rundir.adapter, console, e.split) as (engine, template, rows, _),
            console.stage("model") as stage,
            console.quiet(e.rundir.log),
        ):
            model = Model(engine, template, rows)
            claims.extend(settle(what, partial(look, e, model)) for what, look in looks.items())
            stage.says(f"{len(rows)} rows and their base asked again")
        return Found()

    failed = settle("", ask)
    yield from claims or [Claim(what, failed.verdict, failed.found) for what in looks]


def with_tagger(e: Evidence, console: Console) -> Iterator[Claim]:
    """The claim of a tagging run's findings: its model tags the held-out rows again."""

    def ask() -> Found:
        base, split = e.base, e.tagged
        with console.stage("model") as stage, console.quiet(e.rundir.log):
            engine = open_tagger(e.recipe, base, split.labels, ENGINE)
            engine.open_adapter(e.rundir.adapter)
            found = engine.windows(split.held_out)
            said = [decode(words, engine.labels) for words in gather(len(split.held_out), found, list(engine.predict(found)))]  # fmt: skip
            stage.says(f"{len(said)} rows tagged again")
        return _findings(e, engine, said)

    yield settle(FINDINGS, ask)


def exact(e: Evidence, choices: Mapping[str, Choice]) -> bool:
    """Whether this machine computes as the run's did, in full precision, so that only the last digits may differ."""
    known, then = environment.versions(), e.state.get("choices", {}).get("precision", {}).get("value")
    same = all(known.get(name) == e.state["versions"].get(name) for name in LIBRARIES)
    return same and then == choices["precision"].value == "fp32"


# --- how likely the references are


def loss(e: Evidence, model: Model) -> Found:
    """Every reference under the saved adapter, in all and row by row."""
    nats = model.engine.answer_nats([example for _, example in model.rows])
    return _likelihood(e, model, model.rows, nats, chat_report.TUNED)


def base(e: Evidence, model: Model) -> Found:
    """The same under the base alone, on some of the rows."""
    rows = list(model.rows)
    if not e.manifest and len(rows) > SAMPLE:
        rows = random.SystemRandom().sample(rows, SAMPLE)
    with model.engine.base():
        nats = model.engine.answer_nats([example for _, example in rows])
    return _likelihood(e, model, rows, nats, chat_report.BASE)


def _likelihood(e: Evidence, model: Model, rows: Sequence[evaluate.Row], nats: Sequence[float], name: str) -> Found:
    """Bits per byte of these rows as they are now, as the answers' lines have them, and as the report does."""
    size = sum(example.answer_bytes for _, example in rows)
    made = [bits(value) for value in nats]
    mean, reported, wrong = sum(made) / size, e.report[name]["bits_per_byte"]["value"], []
    claimed, room = reported, EXACT if exact(e, model.engine.choices) else ROUGH
    if not e.manifest:  # the answers are not released
        lines = {p.id: p.bits for p in e.predictions[name]}
        said = [lines[conversation.id] for conversation, _ in rows]
        for (conversation, example), one, other in zip(rows, made, said, strict=True):
            if other is None or not abs(one - other) <= room.per_byte * example.answer_bytes + room.bits:
                wrong.append(f"row {conversation.id}: {one:.2f} bits, claimed {other}")
        if len(rows) < len(lines):  # the report is of all of them
            claimed = sum(value or 0.0 for value in said) / size
    told = f"{mean:.4f} bits per byte of answer on {len(rows)} rows, claimed {claimed:.4f}"
    return Found(told, wrong if abs(mean - claimed) <= TOLERANCE else [told, *wrong])


# --- what is answered


def answers(e: Evidence, model: Model) -> Found:
    """Both models give some of the answers again, cases among them, up to a length."""
    if e.manifest:
        return Found(unknown="a release holds none, so the figures of answers are as they were claimed")
    rows = _some(model.rows)
    prompts = model.template.prompts([conversation.prompt() for conversation, _ in rows])
    cases = _some(e.cases)
    asked = model.template.prompts([Message("user", case.prompt)] for case in cases)
    with model.engine.base():
        before = list(model.engine.generate(prompts))
    after = list(model.engine.generate([*prompts, *asked]))
    lines = {name: {p.id: p for p in e.predictions[name]} for name in (chat_report.BASE, chat_report.TUNED)}
    said = [lines[name][conversation.id] for name in lines for conversation, _ in rows] + cases
    whole = exact(e, model.engine.choices)
    parted = [p for p, ids in zip(said, [*before, *after], strict=True) if not _gives(e, model, p, ids, whole=whole)]
    told = f"{len(said)} given again up to {min(TOKENS, e.own.eval.max_new_tokens)} tokens"
    if whole or len(parted) > FEW * len(said):
        return Found(told, [f"{p.model} {p.id}: is answered otherwise" for p in parted])
    return Found(told + (f", {len(parted)} of them otherwise, as half precision may" if parted else ""))


def _some(rows: Sequence[T]) -> list[T]:
    return list(rows) if len(rows) <= ANSWERED else random.SystemRandom().sample(rows, ANSWERED)


def _gives(e: Evidence, model: Model, said: Prediction, ids: Sequence[int], *, whole: bool) -> bool:
    """Whether an answer is the one that its line has, as far as it was given again; not `whole`: by how it begins."""
    again = answer_of(model.template, ids, e.own.eval)
    if not whole:
        return again.reasoning_finished is False or said.prediction[:SAME] == again.text[:SAME]
    if (bool(ids) and ids[-1] in model.template.stop_ids) or len(ids) == e.own.eval.longest:
        now = again.text, again.stopped, again.tokens, again.reasoning_tokens, again.reasoning_finished
        return now == (said.prediction, said.stopped, said.tokens, said.reasoning_tokens, said.reasoning_finished)
    return said.prediction.startswith(again.text.rstrip("\ufffd"))  # half of a character, where it was cut


def _findings(e: Evidence, engine: Tagger, said: Sequence[Decoded]) -> Found:
    """What the model tags now, held against the lines that it wrote, or against the figures of a release."""
    whole, found = exact(e, engine.choices), [one.spans for one in said]
    room, told = EXACT if whole else ROUGH, f"{len(said)} rows tagged again"
    repaired = sum((one.repaired for one in said), Counter[str]())
    if e.manifest:
        made = as_json(e.span_report(found, repaired))["tuned"]
        far = [n for n, figure in made.items() if not _near(figure["value"], e.report["tuned"][n]["value"], room.f1)]
        return Found(told, [f"{name} is {made[name]['value']} here" for name in far])
    lines = [line for line in e.lines("eval/predictions.jsonl") if line["model"] == span_report.TUNED]
    rows = span_report.taggings(e.tagged.held_out, found)
    written = span_report.predictions(rows, span_report.TUNED, [one.probabilities for one in said])
    parted = [
        f"row {one['id']}: is tagged otherwise"
        for one, other in zip(written, lines, strict=True)
        if one["prediction"] != other["prediction"]
        or not all(_near(a, b, room.likely) for a, b in zip(one["probabilities"], other["probabilities"], strict=True))
    ]
    if whole:
        return Found(told, [*parted, *unlike(dict(repaired), e.report["tagging"]["repaired"], "repaired")])
    many = len(parted) > FEW * len(said)
    return Found(told + (f", {len(parted)} of them otherwise" if parted else ""), parted if many else [])


def _near(one: float | None, other: float | None, room: float) -> bool:
    """Whether two figures are the same, or neither of them exists."""
    return one is other is None if one is None or other is None else abs(one - other) <= room
