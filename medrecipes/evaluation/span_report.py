"""A tagging run's held-out rows tagged and scored against gold and against a dictionary: predictions and report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrecipes.core.files import write_json, write_text
from medrecipes.core.markup import plain
from medrecipes.data.bio_tags import Span, read_spans
from medrecipes.data.records import Tagged
from medrecipes.data.tagged_split import TaggedSplit
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.word_windows import DECODING, decode, gather
from medrecipes.scoring.bootstrap import difference, draw_weights, estimate
from medrecipes.scoring.figures import intervals
from medrecipes.scoring.predictions import SPANS, Prediction, spans_text
from medrecipes.scoring.span_report import confusion_rows, headline, span_report, type_rows
from medrecipes.scoring.spans import WAYS, Tagging, look_up, majority, types_of
from medrecipes.scoring.tables import METRICS, aligned, markdown, show

if TYPE_CHECKING:
    from medrecipes.engines.trainer.tags import Tagger

DICTIONARY, TUNED = "dictionary", "tuned"
PARTS = ("base", "tuned", "difference")


@dataclass(frozen=True)
class TaggedRows:
    """Rows with the spans that somebody found in them; of a model, how likely each is, and what decoding had to repair."""

    rows: Sequence[Tagging]
    probabilities: Sequence[Sequence[float]] | None = None
    repaired: Counter[str] = field(default_factory=Counter)


def looked_up(train: Sequence[Tagged], rows: Sequence[Tagged]) -> TaggedRows:
    """Rows as a dictionary tags them: every word as it is tagged most often in the training rows."""
    dictionary = majority((row.tokens, row.tags) for row in train)
    return TaggedRows(taggings(rows, [look_up(dictionary, row.tokens) for row in rows]))


def tagged(engine: Tagger, rows: Sequence[Tagged]) -> TaggedRows:
    """Rows as a model tags them."""
    found = engine.windows(rows)
    said = [decode(words, engine.labels) for words in gather(len(rows), found, list(engine.predict(found)))]
    repaired: Counter[str] = sum((one.repaired for one in said), Counter())
    return TaggedRows(taggings(rows, [one.spans for one in said]), [one.probabilities for one in said], repaired)


def report(recipe: Recipe, split: TaggedSplit, baseline: TaggedRows, model: TaggedRows, folder: Path) -> dict[str, Any]:
    """Write predictions.jsonl, report.json and report.md."""
    found = make_report(recipe, split, model.rows, baseline.rows, model.repaired)
    lines = [*predictions(baseline.rows, DICTIONARY, None), *predictions(model.rows, TUNED, model.probabilities)]
    write_text(folder / "predictions.jsonl", "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
    write_json(folder / "report.json", found)
    write_text(folder / "report.md", "\n".join(as_markdown(recipe.name, found)))
    return found


def taggings(rows: Sequence[Tagged], spans: Sequence[Sequence[Span]]) -> list[Tagging]:
    """Rows with what somebody found in them."""
    return [
        Tagging(row.id, row.group, row.tokens, tuple(read_spans(row.tags)), tuple(found))
        for row, found in zip(rows, spans, strict=True)
    ]


def predictions(
    rows: Sequence[Tagging], model: str, probabilities: Sequence[Sequence[float]] | None
) -> list[dict[str, Any]]:
    """The rows as lines of a predictions file: a span a line, its type, first and last word, and text."""
    lines = []
    for number, row in enumerate(rows):
        said = Prediction(
            row.id, row.group, SPANS, " ".join(row.tokens), spans_text(row.tokens, row.gold),
            spans_text(row.tokens, row.found), model,
        )  # fmt: skip
        line = {name: value for name, value in asdict(said).items() if value is not None}
        if probabilities is not None:
            line["probabilities"] = [round(p, 4) for p in probabilities[number]]
        lines.append(line)
    return lines


def make_report(
    recipe: Recipe, split: TaggedSplit, model: Sequence[Tagging], baseline: Sequence[Tagging], repaired: Counter[str]
) -> dict[str, Any]:
    """Every figure with its interval over groups; the dictionary stands where chat reports have the base."""
    draws, seed = recipe.eval.draws, recipe.seed
    groups = [row.group for row in model]
    weights, of_row = draw_weights(groups, draws, seed)
    types = types_of([*baseline, *model])
    before, after = headline(baseline, types), headline(model, types)
    return {
        "task": "tag",
        "split": split.held_out_name,
        "split_key": split.key,
        "rows": len(model),
        "groups": len(set(groups)),
        "groups_are": split.report["groups"]["are"],
        "intervals": intervals(draws, seed, len(set(groups))),
        "tagging": {"method": DECODING, "repaired": dict(repaired)},
        # by the names that reports of conversations have: compare and cards read them
        "columns": [DICTIONARY, TUNED, "difference"],
        "base": {name: estimate(figure, weights, of_row).as_dict() for name, figure in before.items()},
        "tuned": {name: estimate(figure, weights, of_row).as_dict() for name, figure in after.items()},
        "difference": {name: difference(after[name], before[name], weights, of_row).as_dict() for name in before},
        **span_report(model, draws, seed),
        "dictionary": span_report(baseline, draws, seed)["strict"],
    }


def headline_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """The dictionary, the model, and their difference."""
    rows = [["strict", *report["columns"]]]
    for name in report["tuned"]:
        shown = (show(name, report[part][name], signed=part == "difference") for part in PARTS)
        rows.append([METRICS[name][0], *shown])
    return rows


def summary(report: Mapping[str, Any], width: float) -> list[str]:
    """The few lines that a run ends with."""
    types = aligned(type_rows(report["strict"], report["support"], show), width)
    return [f"{report['rows']:,} {report['split']} rows", *aligned(headline_rows(report), width), "", *types]


def as_markdown(name: str, report: Mapping[str, Any]) -> list[str]:
    """report.md."""
    accuracy = report["token_accuracy"]
    shares = {key: "-" if value is None else f"{value:.1%}" for key, value in accuracy.items()}
    lines = [
        f"# {plain(name)}: spans against gold",
        "",
        f"{report['rows']:,} rows of {report['groups']:,} groups of the {report['split']} split ({plain(report['groups_are'])}); "
        f"intervals: {report['intervals']}. Decoding: {report['tagging']['method']}.",
        "",
        "The dictionary gives every word the tag that it bears most often in the training rows.",
        "",
        *markdown(headline_rows(report)),
        "",
    ]
    for way, meaning in WAYS.items():
        lines += [f"## {way.replace('_', ' ').capitalize()}", "", f"{meaning[0].upper()}{meaning[1:]}.", "",
                  *markdown(type_rows(report[way], report["support"], show)), ""]  # fmt: skip
    lines += [
        "## Words",
        "",
        f"Share of words with the right tag, `O` counted: {shares['with_O']}; without the words that are `O` in gold: "
        f"{shares['without_O']}. Both flatter a tagger: most words are no entity, and half a span counts for half. They are "
        "shown because others report them.",
        "",
        "## Confusion",
        "",
        "A row for what gold says, a column for what was found in its place.",
        "",
        *markdown(confusion_rows(report["confusion"])),
        "",
        *(f"- repaired when decoding, {what}: {count:,}" for what, count in report['tagging']["repaired"].items()),
        "",
        "## The most frequent errors",
        "",
        "In the context, [gold] stands in brackets and {what was found} in braces.",
        "",
        *markdown([["times", "gold", "found", "first place"], *(
            [str(error["count"]), error["gold"], error["found"], error["context"]] for error in report["errors"]
        )]),
        "",
    ]  # fmt: skip
    return lines
