"""Base and tuned model answer the same held-out questions; what is answered already is not asked again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.core.console import Console
from medrecipes.core.errors import DataError
from medrecipes.core.files import digest, own_file, write_bytes, write_text, writing
from medrecipes.core.notes import note
from medrecipes.data.records import Conversation, Message
from medrecipes.data.split import Split
from medrecipes.engines import Engine
from medrecipes.evaluation.cases import Case
from medrecipes.evaluation.chat_report import TUNED
from medrecipes.recipe.schema import Eval, Recipe
from medrecipes.rendering.answer_text import answer_of
from medrecipes.rendering.chat_template import ChatTemplate, Example
from medrecipes.rendering.overflow import Fitted
from medrecipes.rendering.stored_examples import bytes_of, lengths_of, supervised_of
from medrecipes.scoring.entities import TASKS
from medrecipes.scoring.predictions import ALIASES, QA, Prediction, read_prediction
from medrecipes.scoring.text_overlap import bits

Row = tuple[Conversation, Example]


def held_out(recipe: Recipe, fitted: Fitted) -> list[Row]:
    """The rows that are evaluated: at most eval.rows, the same ones for everybody who uses this seed."""
    # a tool call alone is learned, and no text to score
    scored = [
        (digest(f"{recipe.seed}:{c.id}"), number) for number, c in enumerate(fitted.conversations) if c.answer.strip()
    ]
    if fitted.conversations and not scored:
        raise DataError(f"all {len(fitted.conversations):,} held-out rows end with a tool call, and evaluation scores texts; give some rows an answer behind it")  # fmt: skip
    return [(fitted.conversations[number], fitted.examples[number]) for _, number in sorted(scored)[: recipe.eval.rows]]


def count_tokens(conversations: Sequence[Conversation], examples: Sequence[Example]) -> dict[str, int]:
    """Tokens of rows and bytes of their answers: what turns a loss a token into bits per byte of answer; and of how many
    rows an answer has reasoning, where some has."""
    thoughts = {"reasoning": sum(any(m.reasoning for m in c.messages) for c in conversations)}
    return {
        "tokens": int(lengths_of(examples).sum()),
        "supervised": int(supervised_of(examples).sum()),
        "answer_bytes": int(bytes_of(examples).sum()),
        **(thoughts if thoughts["reasoning"] else {}),
    }


def data_report(split: Split, fitted: Mapping[str, Fitted], mixture: Mapping[str, Any]) -> dict[str, Any]:
    """What data.json holds: the report of the split, the tokens of its rows, what became of those that are too long, and how
    an epoch is mixed of them where the recipe mixes."""
    counted = {name: count_tokens(f.conversations, f.examples) for name, f in fitted.items()}
    return {**split.report, "tokens": counted, "overflow": {name: f.to_json() for name, f in fitted.items()}, **({"mixture": mixture} if mixture.get("by") else {})}  # fmt: skip


@dataclass(frozen=True)
class Questions:
    """The rows that models answer, in which template and by which settings, and where the answers go."""

    rows: Sequence[Row]
    template: ChatTemplate
    settings: Eval
    folder: Path
    console: Console


def predict(model: str, engine: Engine, asked: Questions) -> list[Prediction]:
    """Answer every row, a line of predictions.jsonl each as it comes; lines of an earlier attempt are kept."""
    rows, template, settings, console = asked.rows, asked.template, asked.settings, asked.console
    path = asked.folder / "predictions.jsonl"
    limit = settings.max_new_tokens
    done = {p.id: p for p in _earlier(path, rows, limit) if p.model == model}
    # neighbours of similar length waste little padding; the order is the same in every attempt
    todo = sorted((row for row in rows if row[0].id not in done), key=lambda row: len(row[1].input_ids))
    nats = engine.answer_nats([example for _, example in todo])
    prompts = template.prompts([conversation.prompt() for conversation, _ in todo])
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with own_file(path) as file, console.bar(model, len(rows), len(done), at_once=True) as bar:
            for row, ids, value in zip(todo, engine.generate(prompts), nats, strict=True):
                said = answer_of(template, ids, settings)
                prediction = Prediction(
                    **stated(row, limit),
                    prediction=said.text,
                    model=model,
                    stopped=said.stopped,
                    tokens=said.tokens,
                    bits=bits(value),
                    reasoning_tokens=said.reasoning_tokens,
                    reasoning_finished=said.reasoning_finished,
                )
                file.write(prediction.line())
                file.flush()
                done[prediction.id] = prediction
                bar.at(len(done))
    return [done[conversation.id] for conversation, _ in rows]


def stated(pair: Row, limit: int) -> dict[str, Any]:
    """What a line of predictions.jsonl says of its row, whatever a model answers."""
    row, example = pair
    return {
        "id": row.id,
        "group": row.group,
        "task": _task(row),
        "prompt": "\n\n".join(m.content for m in row.prompt() if m.role != "system"),
        "gold": row.answer,
        "limit": limit,
        "bytes": example.answer_bytes,
    }


def answer_cases(
    engine: Engine, template: ChatTemplate, cases: Sequence[Case], settings: Eval, folder: Path
) -> list[Prediction]:
    """Put hand-written cases to the tuned model; the answers are a predictions file too."""
    prompts = template.prompts([[Message("user", case.prompt)] for case in cases])
    found = [answer_of(template, ids, settings) for ids in engine.generate(prompts)]
    answers = [
        Prediction(
            case.id, case.id, case.task, case.prompt, case.expect, said.text, TUNED, said.stopped, said.tokens,
            settings.max_new_tokens, reasoning_tokens=said.reasoning_tokens, reasoning_finished=said.reasoning_finished,
        )
        for case, said in zip(cases, found, strict=True)
    ]  # fmt: skip
    write_text(folder / "cases.jsonl", "".join(answer.line() for answer in answers))
    return answers


def _earlier(path: Path, rows: Sequence[Row], limit: int) -> list[Prediction]:
    """The answers of an earlier attempt; lines that are no whole answer to a row, or two of them, are taken off the file."""
    if not path.exists():
        return []
    asked = {row[0].id: stated(row, limit) for row in rows}
    *lines, torn = path.read_bytes().split(b"\n")
    found: dict[tuple[str, str], set[bytes]] = {}
    answers: dict[bytes, Prediction] = {}
    for number, line in enumerate(lines, 1):
        with suppress(DataError, UnicodeDecodeError):
            answer = read_prediction(f"{path}:{number}", line.decode("utf-8"), own=True)
            if all(getattr(answer, name) == value for name, value in asked.get(answer.id, {}).items()):
                found.setdefault((answer.model, answer.id), set()).add(line)
                answers[line] = answer
    # of two answers to a question nobody knows which was given by whom
    kept = [line for same in found.values() for line in same if len(same) == 1]
    if spoiled := len(lines) - len(kept):
        note(
            f"{path}: {spoiled} of {len(lines)} lines are broken, doubled or of other rows; their questions are asked again"
        )
    if spoiled or torn:  # torn: the line that a killed process was writing
        write_bytes(path, b"".join(line + b"\n" for line in kept))
    return [answers[line] for line in kept]


def _task(conversation: Conversation) -> str:
    """What an answer is evaluated as: the source says which list it is; everything else is a question."""
    task = str(conversation.meta.get("task", QA))
    task = ALIASES.get(task, task)
    return task if task in TASKS else QA
