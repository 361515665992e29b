"""Base and tuned model answer the same held-out questions; every figure comes with an interval over documents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medrecipes.console import Console
from medrecipes.engines import Engine
from medrecipes.overflow import Fitted
from medrecipes.recipe import Recipe
from medrecipes.records import Conversation
from medrecipes.rendering import ChatTemplate, Example
from medrecipes.rundir import RunDir
from medrecipes.scoring.bootstrap import Ratio, difference, draw_weights, estimate
from medrecipes.scoring.text import bits, rouge
from medrecipes.store import digest, write_json, write_text, writing

BASE, TUNED = "base", "tuned"
# name in the report -> what a person reads, and whether more is better
METRICS = {
    "bits_per_byte": ("bits per byte of answer", False),
    "rouge1": ("ROUGE-1", True),
    "rouge2": ("ROUGE-2", True),
    "rougeL": ("ROUGE-L", True),
    "stops": ("stops by itself", True),
}


@dataclass(frozen=True)
class Prediction:
    """One answer of one model, with what scoring needs; a line of predictions.jsonl."""

    model: str
    id: str
    group: str
    question: str
    reference: str
    answer: str
    stopped: bool
    tokens: int
    bits: float
    bytes: int


Row = tuple[Conversation, Example]


def held_out(recipe: Recipe, fitted: Fitted) -> list[Row]:
    """The rows that are judged: at most eval.rows, the same ones for everybody who uses this seed."""
    pairs = list(zip(fitted.conversations, fitted.examples, strict=True))
    pairs.sort(key=lambda pair: digest(f"{recipe.seed}:{pair[0].id}"))
    return pairs[: recipe.eval.rows]


def predict(
    model: str, engine: Engine, template: ChatTemplate, rows: Sequence[Row],
    rundir: RunDir, console: Console,
) -> list[Prediction]:  # fmt: skip
    """Answer every row, a line of predictions.jsonl each as it comes; lines of an earlier attempt are kept."""
    path = rundir.path / "eval" / "predictions.jsonl"
    done = {p.id: p for p in read_predictions(path) if p.model == model}
    # neighbours of similar length waste little padding; the order is the same in every attempt
    todo = sorted((row for row in rows if row[0].id not in done), key=lambda row: len(row[1].input_ids))
    nats = engine.answer_nats([example for _, example in todo])
    prompts = template.prompts([conversation.prompt() for conversation, _ in todo])
    stops = set(template.stop_ids)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file, console.bar(model, len(rows), len(done)) as bar:
            for (conversation, _), ids, value in zip(todo, engine.generate(prompts), nats, strict=True):
                prediction = Prediction(
                    model, conversation.id, conversation.group, conversation.question, conversation.answer,
                    template.tokenizer.decode([ids])[0].strip(), bool(ids) and ids[-1] in stops, len(ids),
                    bits(value), len(conversation.answer.encode()),
                )  # fmt: skip
                file.write(json.dumps(asdict(prediction), ensure_ascii=False) + "\n")
                file.flush()
                done[prediction.id] = prediction
                bar.at(len(done))
    return [done[conversation.id] for conversation, _ in rows]


def read_predictions(path: Path) -> list[Prediction]:
    """The whole lines of a predictions.jsonl; one that a crash cut short is left out."""
    if not path.exists():
        return []
    predictions = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            predictions.append(Prediction(**json.loads(line)))
    return predictions


def ratios(predictions: Sequence[Prediction]) -> dict[str, Ratio]:
    """Each metric as a sum over rows divided by another."""
    scores = rouge([p.reference for p in predictions], [p.answer for p in predictions])
    total = Ratio.mean([p.bits for p in predictions]).total
    over = Ratio.mean([float(p.bytes) for p in predictions]).total
    return {
        "bits_per_byte": Ratio(total, over),
        **{name: Ratio.mean(values) for name, values in scores.items()},
        "stops": Ratio.mean([float(p.stopped) for p in predictions]),
    }


def report(
    recipe: Recipe, split: str, key: str, base: Sequence[Prediction], tuned: Sequence[Prediction]
) -> dict[str, Any]:
    """Base, tuned and their difference, each metric as `{value, low, high}`."""
    assert [p.id for p in base] == [p.id for p in tuned]
    before, after = ratios(base), ratios(tuned)
    weights, of_row = draw_weights([p.group for p in base], recipe.eval.draws, recipe.seed)
    return {
        "split": split,
        "split_key": key,
        "rows": len(base),
        "groups": len({p.group for p in base}),
        "decoding": {"method": "greedy", "max_new_tokens": recipe.eval.max_new_tokens},
        "intervals": f"95%, bootstrap over groups, {recipe.eval.draws} draws, seed {recipe.seed}",
        BASE: {name: estimate(before[name], weights, of_row).as_dict() for name in METRICS},
        TUNED: {name: estimate(after[name], weights, of_row).as_dict() for name in METRICS},
        "difference": {name: difference(after[name], before[name], weights, of_row).as_dict() for name in METRICS},
    }


def write_report(
    rundir: RunDir, value: dict[str, Any], base: Sequence[Prediction], tuned: Sequence[Prediction]
) -> None:
    """report.json for programs and report.md for people."""
    folder = rundir.path / "eval"
    write_json(folder / "report.json", value)
    lines = [
        f"# {rundir.state.get('name', rundir.path.name)}: base against tuned",
        "",
        f"{value['rows']} rows of {value['groups']} documents of the {value['split']} split; intervals: {value['intervals']}.",
        "",
        *markdown_table(value),
        "",
        "## Answers",
        "",
    ]
    for before, after in list(zip(base, tuned, strict=True))[:5]:
        lines += [
            f"**{after.question}**", "", f"- reference: {_one_line(after.reference)}", f"- base: {_one_line(before.answer)}",
            f"- tuned: {_one_line(after.answer)}{'' if after.stopped else ' (hit the limit)'}", "",
        ]  # fmt: skip
    write_text(folder / "report.md", "\n".join(lines))


def markdown_table(value: dict[str, Any]) -> list[str]:
    """The metrics as a Markdown table."""
    rows = ["| metric | base | tuned | difference |", "| --- | --- | --- | --- |"]
    for name, (title, _) in METRICS.items():
        cells = " | ".join(
            show(name, value[part][name], signed=part == "difference") for part in (BASE, TUNED, "difference")
        )
        rows.append(f"| {title} | {cells} |")
    return rows


def show(name: str, figure: dict[str, float], *, signed: bool = False) -> str:
    """A figure with its interval, e.g. `1.234 [1.1, 1.3]`; shares as percentages."""
    scale, digits, unit = (100, 0, "%") if name == "stops" else (1, 3, "")
    sign = "+" if signed else ""
    value, low, high = (f"{figure[part] * scale:{sign}.{digits}f}" for part in ("value", "low", "high"))
    return f"{value}{unit} [{low}, {high}]"


def _one_line(text: str) -> str:
    return " ".join(text.split())
