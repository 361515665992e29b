"""The claims that only the model itself can settle: base and adapter are opened once, and asked again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from medrecipes import chatreport, evaluate, hardware, judge, spanreport
from medrecipes.console import Console
from medrecipes.engines import Engine
from medrecipes.gates.runs import TOLERANCE
from medrecipes.records import Message
from medrecipes.rendering import ChatTemplate
from medrecipes.scoring.predictions import Prediction
from medrecipes.scoring.text import bits
from medrecipes.tagging import Decoded, decode, gather
from medrecipes.verify.claims import Claim, Found, as_json, settle, unlike
from medrecipes.verify.evidence import Evidence

T = TypeVar("T")
LOSS, BASE, ANSWERS, FINDINGS = "evaluation loss", "base figures", "answers", "findings"
SAMPLE = 32  # rows that the base is asked again, drawn anew each time
ANSWERED = 8  # rows that both models answer again, and cases, also drawn anew; and up to how many tokens of each
TOKENS = 32
# bits per byte of one row's answer: a reload in the same number format on the same versions, and any other
ROW_EXACT, ROW = 0.001, 0.02
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
LIKELY = 0.02  # of a probability that is noted with four digits
SAME = 16  # characters by which an answer in half precision is the same, whatever follows
FAR = 0.02  # between span figures on one machine and on another
FEW = 0.25  # share of such answers that may part before


@dataclass(frozen=True)
class Model:
    """An opened run: what answers, and the rows that it is asked."""

    engine: Engine
    template: ChatTemplate
    rows: Sequence[evaluate.Row]


def with_model(e: Evidence, console: Console) -> Iterator[Claim]:
    """The claims of a run of conversations; where its model cannot be opened, each says why."""
    limit = min(TOKENS, e.own.eval.max_new_tokens)
    recipe = e.recipe.model_copy(update={"eval": e.own.eval.model_copy(update={"max_new_tokens": limit})})
    looks: dict[str, Callable[[Evidence, Model], Found]] = {LOSS: loss, BASE: base, ANSWERS: answers}
    claims: list[Claim] = []

    def ask() -> Found:
        _ = e.base  # the run's own, or there is nothing to hold against it
        with (
            judge.opened(recipe, e.rundir, e.rundir.adapter, console, e.split) as (engine, template, rows, _),
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
            from medrecipes.engines.tagger import Tagger

            engine = Tagger(e.recipe, base, split.labels)
            engine.open_adapter(e.rundir.adapter)
            found = engine.windows(split.held_out)
            said = [decode(words, engine.labels) for words in gather(len(split.held_out), found, list(engine.predict(found)))]  # fmt: skip
            stage.says(f"{len(said)} rows tagged again")
        return _findings(e, said)

    yield settle(FINDINGS, ask)


def exact(e: Evidence) -> bool:
    """Whether this machine computes as the run's did, so that only the last digits may differ."""
    known = hardware.versions()
    same = all(known.get(name) == e.state["versions"].get(name) for name in LIBRARIES)
    return same and e.state.get("choices", {}).get("precision", {}).get("value") == "fp32"


# --- how likely the references are


def loss(e: Evidence, model: Model) -> Found:
    """Every reference under the saved adapter, in all and row by row."""
    nats = model.engine.answer_nats([example for _, example in model.rows])
    return _likelihood(e, model.rows, nats, chatreport.TUNED)


def base(e: Evidence, model: Model) -> Found:
    """The same under the base alone, on some of the rows."""
    rows = list(model.rows)
    if not e.manifest and len(rows) > SAMPLE:
        rows = random.SystemRandom().sample(rows, SAMPLE)
    with model.engine.base():
        nats = model.engine.answer_nats([example for _, example in rows])
    return _likelihood(e, rows, nats, chatreport.BASE)


def _likelihood(e: Evidence, rows: Sequence[evaluate.Row], nats: Sequence[float], model: str) -> Found:
    """Bits per byte of these rows as they are now, as the answers' lines have them, and as the report does."""
    size = sum(conversation.answer_bytes for conversation, _ in rows)
    made = [bits(value) for value in nats]
    mean, wrong = sum(made) / size, []
    if e.manifest:  # the answers are not released
        claimed = e.report[model]["bits_per_byte"]["value"]
    else:
        lines = {p.id: p.bits for p in e.predictions[model]}
        said = [lines[conversation.id] for conversation, _ in rows]
        claimed = sum(value for value in said if value is not None) / size
        room = ROW_EXACT if exact(e) else ROW
        for (conversation, _), one, other in zip(rows, made, said, strict=True):
            if other is None or not abs(one - other) <= room * conversation.answer_bytes:
                yours = "none" if other is None else f"{other:.2f}"
                wrong.append(f"row {conversation.id}: {one:.2f} bits, claimed {yours}")
        if len(rows) == len(lines) and not abs(e.report[model]["bits_per_byte"]["value"] - mean) <= TOLERANCE:
            claimed = e.report[model]["bits_per_byte"]["value"]
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
    lines = {name: {p.id: p for p in e.predictions[name]} for name in (chatreport.BASE, chatreport.TUNED)}
    said = [lines[name][conversation.id] for name in lines for conversation, _ in rows] + cases
    parted = [p for p, ids in zip(said, [*before, *after], strict=True) if not _gives(e, model, p, ids)]
    told = f"{len(said)} given again up to {min(TOKENS, e.own.eval.max_new_tokens)} tokens"
    if exact(e) or len(parted) > FEW * len(said):
        return Found(told, [f"{p.model} {p.id}: is answered otherwise" for p in parted])
    return Found(told + (f", {len(parted)} of them otherwise, as half precision may" if parted else ""))


def _some(rows: Sequence[T]) -> list[T]:
    return list(rows) if len(rows) <= ANSWERED else random.SystemRandom().sample(rows, ANSWERED)


def _gives(e: Evidence, model: Model, said: Prediction, ids: Sequence[int]) -> bool:
    """Whether an answer is the one that its line has, as far as it was given again."""
    text = model.template.tokenizer.decode([ids])[0].strip()
    stopped = bool(ids) and ids[-1] in model.template.stop_ids
    if not exact(e):
        return said.prediction[:SAME] == text[:SAME]
    if stopped or len(ids) == e.own.eval.max_new_tokens:
        return (said.prediction, said.stopped, said.tokens) == (text, stopped, len(ids))
    return said.prediction.startswith(text.rstrip("\ufffd"))  # half of a character, where it was cut


def _findings(e: Evidence, said: Sequence[Decoded]) -> Found:
    """What the model tags now, held against the lines that it wrote, or against the figures of a release."""
    found = [one.spans for one in said]
    told, repaired = f"{len(said)} rows tagged again", sum((one.repaired for one in said), Counter[str]())
    if e.manifest:
        made = as_json(e.span_report(found, repaired))
        if exact(e):
            return Found(told, list(unlike(made, e.report)))
        far = [name for name, figure in made["tuned"].items() if not abs(figure["value"] - e.report["tuned"][name]["value"]) <= FAR]  # fmt: skip
        return Found(told, [f"{name} is {made['tuned'][name]['value']:.3f} here" for name in far])
    lines = [line for line in e.lines("eval/predictions.jsonl") if line["model"] == spanreport.TUNED]
    written = spanreport.predictions(spanreport.taggings(e.tagged.held_out, found), spanreport.TUNED, [one.probabilities for one in said])  # fmt: skip
    parted = [one["id"] for one, other in zip(written, lines, strict=True) if not _finds(one, other)]
    wrong = [f"row {id}: is tagged otherwise" for id in parted]
    if exact(e):
        return Found(told, [*wrong, *unlike(dict(repaired), e.report["tagging"]["repaired"], "repaired")])
    return Found(told + (f", {len(parted)} of them otherwise" if parted else ""), wrong if len(parted) > FEW * len(said) else [])  # fmt: skip


def _finds(made: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    one, other = made["probabilities"], said["probabilities"]
    return made["prediction"] == said["prediction"] and all(
        abs(a - b) <= LIKELY for a, b in zip(one, other, strict=True)
    )
