"""The claims about rows: the split made anew from its source, data.json, and whose rows the answers are to."""

from __future__ import annotations

import json
from collections.abc import Iterator

from medrecipes.evaluation import answers as evaluate
from medrecipes.evaluation import chat_report, span_report
from medrecipes.evaluation.cases import read_cases
from medrecipes.evaluation.span_report import DICTIONARY, TUNED
from medrecipes.release.verify.claims import Found, as_json, unlike, unlike_text
from medrecipes.release.verify.evidence import OTHER_DATA, Evidence
from medrecipes.scoring.predictions import Prediction, read_spans_text
from medrecipes.scoring.spans import look_up, majority


def split(e: Evidence) -> Found:
    """The split again, from its source rows."""
    claimed, data = e.state["split_key"], e.data
    if data["key"] != claimed:
        return Found(wrong=[f"data.json is of split {data['key'][:12]}, claimed {claimed[:12]}"])
    made = e.from_source
    if made.key != claimed and not e.same_data:
        return Found(unknown=OTHER_DATA)
    wrong = [] if made.key == claimed else [f"the same data gives {made.key[:12]} here, claimed {claimed[:12]}"]
    return e.by_code(wrong, f"{claimed[:12]}, made again from {', '.join(source['title'] for source in data['sources'])}")  # fmt: skip


def data(e: Evidence) -> Found:
    """data.json again, from the split and the tokens of its rows."""
    if e.own.task == "chat":
        made = as_json(evaluate.data_report(e.split, e.fitted, e.mixture.report))
    else:
        made = as_json({**e.tagged.report, "tokens": {n: p.counts() for n, p in e.proved.items()}})
    said = e.data
    for one, other, entry in zip(made["sources"], said["sources"], e.own.data.entries, strict=True):
        one["file"] = other["file"]  # which may be named otherwise here; its content is what counts
        # as it was asked for; a release names the commit in its place
        one["revision"] = other["revision"] if e.manifest or not other["repo"] else entry.revision
    return e.by_code(list(unlike(made, said)), f"{said['seen']:,} rows read, counted and split as it says")


def predictions(e: Evidence) -> Found:
    """Every answer is to a held-out row as it is in the source, both models answered all of them, and nothing else."""
    wrong = [f"answers of a model {name!r}" for name in e.predictions.keys() - {chat_report.BASE, chat_report.TUNED}]
    for model in (chat_report.BASE, chat_report.TUNED):
        answers = e.predictions.get(model, [])
        if [p.id for p in answers] != [conversation.id for conversation, _ in e.rows]:
            wrong.append(
                f"{model} answered {len(answers)} rows, which are not the {len(e.rows)} that the recipe evaluates"
            )
            continue
        for answer, row in zip(answers, e.rows, strict=True):
            wrong += _misstated(e, answer, row)
    return Found(f"{len(e.rows)} rows, answered by both models, as they are in the source", wrong)


def _misstated(e: Evidence, answer: Prediction, row: evaluate.Row) -> Iterator[str]:
    """Where a line of predictions.jsonl does not state its row as it is, or cannot be of an answer."""
    stated = evaluate.stated(row, e.own.eval.max_new_tokens)
    for name, value in stated.items():
        if getattr(answer, name) != value:
            yield f"{answer.model} {answer.id}: its {name} is not that of the row"
    if answer.bits is None:
        yield f"{answer.model} {answer.id}: does not say how likely the reference is"
    if not _ends(answer):
        yield f"{answer.model} {answer.id}: neither stopped nor reached the limit"


def _ends(answer: Prediction) -> bool:
    """Whether an answer stopped by itself, or was as long as it might be."""
    if answer.stopped is None or answer.tokens is None or answer.limit is None:
        return False
    cut = answer.tokens == answer.limit or answer.reasoning_tokens is not None
    return answer.tokens <= answer.limit and (answer.stopped or cut)


def cases(e: Evidence) -> Found:
    """The hand-written cases as their file has them."""
    file = e.own.eval.cases
    if file is None:
        return Found("none")
    wanted = [(c.id, c.id, c.task, c.prompt, c.expect) for c in read_cases(e.given.eval.cases or file)]
    wrong = [] if [(c.id, c.group, c.task, c.prompt, c.gold) for c in e.cases] == wanted else ["cases.jsonl has other cases than their file"]  # fmt: skip
    wrong += [f"answers of {case.model!r}" for case in e.cases if case.model != chat_report.TUNED]
    for case in e.cases:
        if (case.limit, case.bits, case.bytes) != (e.own.eval.max_new_tokens, None, None) or not _ends(case):
            wrong.append(f"{case.id}: neither stopped nor reached the limit")
    return Found(f"{len(e.cases)} as they stand in {file.name}", wrong)


def taggings(e: Evidence) -> Found:
    """Both findings are of the held-out rows as they are in the source, and the dictionary's are what it finds."""
    rows = e.tagged.held_out
    for model, lines in e.predictions.items():
        if [line.id for line in lines] != [row.id for row in rows]:
            return Found(wrong=[f"{model} tagged {len(lines)} rows, which are not the {len(rows)} held out"])
    dictionary = majority((row.tokens, row.tags) for row in e.tagged.train)
    looked_up = [look_up(dictionary, row.tokens) for row in rows]
    tuned = [read_spans_text(line.prediction) for line in e.predictions[TUNED]]
    likely = [line["probabilities"] for line in e.lines("eval/predictions.jsonl") if line["model"] == TUNED]
    made = [
        *span_report.predictions(span_report.taggings(rows, looked_up), DICTIONARY, None),
        *span_report.predictions(span_report.taggings(rows, tuned), TUNED, likely),
    ]
    text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in made)
    wrong = unlike_text(text, e.text("eval/predictions.jsonl"))
    for row, spans, each in zip(rows, tuned, likely, strict=True):
        if len(spans) != len(each) or not all(0 <= p <= 1 for p in each):
            wrong.append(f"row {row.id}: its probabilities are not one a span, from 0 to 1")
    return Found(f"{len(rows)} rows, tagged by dictionary and model, as they are in the source", wrong)
