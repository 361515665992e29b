"""Answering, resuming and reporting, with an engine that answers from a list instead of a model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.console import Console
from medrecipes.core.errors import DataError
from medrecipes.data.records import Conversation
from medrecipes.engines import Choice, Decoding, Engine
from medrecipes.evaluation.answers import Questions, Row, answer_cases, count_tokens, predict
from medrecipes.evaluation.cases import read_cases
from medrecipes.evaluation.chat_report import kept, on_dev, report, said_on_dev, write_report
from medrecipes.pipeline.tasks import Answers
from medrecipes.pipeline.tasks.chat import Chat
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Eval, Recipe
from medrecipes.rendering.chat_template import ChatTemplate, Example
from medrecipes.runs.folder import RunDir
from medrecipes.scoring.predictions import Prediction, read_predictions
from tests.conftest import ROOT, Cli
from tests.test_templates import bound

CASES = sorted((ROOT / "data" / "cases").glob("*.toml"))


class Listed:
    """Says what it is told to, a row after another, and counts what it was asked; one nat a supervised token."""

    name = "listed"

    def __init__(self, template: ChatTemplate, answers: Sequence[str], stop: bool = True) -> None:
        self.choices: dict[str, Choice] = {}
        self._ids = [
            template.tokenizer.encode([answer], continuing=False)[0] + [template.stop_id] * stop for answer in answers
        ]
        self.asked = 0

    def train(
        self, train: Sequence[Example], dev: Sequence[Example], rundir: RunDir, console: Console
    ) -> dict[str, Any]:
        raise NotImplementedError

    def base(self) -> AbstractContextManager[None]:
        return nullcontext()

    def generate(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        for ids, _ in zip(self._ids, prompts, strict=False):
            self.asked += 1
            yield ids

    def stream(self, prompt: Sequence[int], decoding: Decoding, stop: threading.Event | None = None) -> Iterator[int]:
        raise NotImplementedError

    def answer_nats(self, examples: Sequence[Example]) -> list[float]:
        return [float(example.supervised) for example in examples]

    def open_adapter(self, folder: Path) -> None:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        raise NotImplementedError


PROMPT = "Create a list only of the {} mentioned.\n\nAspirin eased the headache.\n\nList of extracted {}:"


def rows(template: ChatTemplate) -> list[Row]:
    conversations = [
        Conversation.of("q1", "d1", "What is asthma?", "A disease of the airways, not contagious."),
        Conversation.of("q2", "d2", "How much?", "Take 5 mg."),
        Conversation.of("n1", "d3", PROMPT.format("chemicals", "chemicals"), "- Aspirin", task="chemicals"),
        Conversation.of(
            "n2", "d3", PROMPT.format("influences", "influences"), "- Aspirin | headache", task="influences"
        ),
    ]
    pairs = zip(conversations, template.examples(conversations), strict=True)
    return sorted(pairs, key=lambda row: len(row[1].input_ids))  # the order in which they are answered


BASE = {"q1": "An airway disease, contagious.", "q2": "Take 5 mcg.", "n1": "- paracetamol", "n2": "I do not know."}
TUNED = {"q1": "A disease of the airways, not contagious.", "q2": "Take 5 mg.", "n1": "- aspirin\n- ibuprofen", "n2": "- Chemical Aspirin influences disease headache"}  # fmt: skip


def answered(tmp_path: Path, recipe: Recipe) -> tuple[Any, Any]:
    template = bound("mistral-v1")
    asked = rows(template)
    found = []
    for name, answers in (("base", BASE), ("tuned", TUNED)):
        engine: Engine = Listed(template, [answers[conversation.id] for conversation, _ in asked])
        found.append(predict(name, engine, Questions(asked, template, recipe.eval, tmp_path, Console())))
    return found[0], found[1]


def test_every_answer_is_streamed_with_what_scoring_needs(tmp_path: Path) -> None:
    base, tuned = answered(tmp_path, Recipe())
    assert {p.id: p.prediction for p in base} == BASE
    assert {p.id: p.task for p in tuned} == {"q1": "qa", "q2": "qa", "n1": "chemicals", "n2": "relations"}
    assert [p for p in read_predictions(tmp_path / "predictions.jsonl", own=True) if p.model == "tuned"] == tuned
    first = next(p for p in tuned if p.id == "q2")
    assert (first.group, first.prompt, first.gold, first.stopped, first.limit, first.bytes) == ("d2", "How much?", "Take 5 mg.", True, 256, 10)  # fmt: skip


def test_an_interrupted_evaluation_goes_on_where_it_stopped_even_within_a_line(tmp_path: Path) -> None:
    template = bound("mistral-v1")
    asked = rows(template)
    whole = predict("base", Listed(template, ["one", "two", "three", "four"]), Questions(asked, template, Eval(max_new_tokens=64), tmp_path / "whole", Console()))  # fmt: skip
    path = tmp_path / "torn" / "predictions.jsonl"
    path.parent.mkdir()
    lines = (tmp_path / "whole" / "predictions.jsonl").read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:25])
    engine = Listed(template, ["three", "four"])
    assert predict("base", engine, Questions(asked, template, Eval(max_new_tokens=64), path.parent, Console())) == whole
    assert engine.asked == 2
    assert path.read_text() == "".join(lines)


def test_a_limit_that_was_hit_is_not_a_stop(tmp_path: Path) -> None:
    template = bound("mistral-v1")
    asked = rows(template)
    found = predict(
        "base",
        Listed(template, ["a b c"] * 4, stop=False),
        Questions(asked, template, Eval(max_new_tokens=3), tmp_path, Console()),
    )
    assert {(p.stopped, p.tokens) for p in found} == {
        (False, len(template.tokenizer.encode(["a b c"], continuing=False)[0]))
    }
    made = report(Recipe(), ("test", "k"), found, found)
    assert (made["base"]["stops"]["value"], made["base"]["limit"]["value"]) == (0, 1)


def test_the_report_compares_base_and_tuned_in_every_figure(tmp_path: Path) -> None:
    made = report(Recipe(), ("test", "k"), *answered(tmp_path, Recipe()))
    assert list(made["base"]) == list(made["tuned"]) == list(made["difference"])
    for name in (
        "bits_per_byte",
        "rouge1",
        "rouge2",
        "rougeL",
        "stops",
        "limit",
        "length_ratio",
        "exact_match",
        "micro_f1",
    ):
        for part in ("base", "tuned", "difference"):
            assert set(made[part][name]) == {"value", "low", "high"}
    values = {name: (made["base"][name]["value"], made["tuned"][name]["value"]) for name in made["base"]}
    assert values["exact_match"] == (0, 0.75)
    assert (values["doses_kept"], values["units_contradicted"]) == ((0, 1), (1, 0))
    assert (values["negations_kept"], values["negations_contradicted"]) == ((0, 1), (1, 0))
    # aspirin and the relation found, ibuprofen besides: precision 2/3, recall 1; per task 2/3 and 1
    assert values["micro_f1"] == pytest.approx((0, 0.8))
    assert values["macro_f1"] == pytest.approx((0, (2 / 3 + 1) / 2))
    extraction = made["extraction"]
    assert extraction["base"]["tasks"]["relations"]["parse_failures"] == 1
    assert extraction["tuned"]["tasks"]["chemicals"]["hallucinated"] == 1
    assert extraction["difference"]["macro"]["recall"]["value"] == 1
    assert "filtered" not in extraction["tuned"]
    assert made["decoding"] == {"method": "greedy", "max_new_tokens": 256, "repetition_penalty": 1.0}


def test_decoding_is_recorded_and_a_penalty_on_lists_is_noted(tmp_path: Path) -> None:
    settings = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.3, "max_new_tokens": 64}
    recipe = Recipe.model_validate({"eval": settings})
    base, tuned = answered(tmp_path, recipe)
    made = report(recipe, ("test", "k"), base, tuned)
    assert made["decoding"] == {"method": "sampled", "seed": 42, **settings}
    write_report("r", tmp_path, made, base, tuned)
    text = (tmp_path / "report.md").read_text()
    drawn = "sampled decoding (temperature 0.7, top_p 0.9, seed 42), at most 64 tokens, a repetition penalty of 1.3"
    assert drawn in text
    assert "A repetition penalty of 1.3, as the recipe asks: it works against copying from the text" in text
    questions = [[p for p in part if p.task == "qa"] for part in (base, tuned)]
    assert "extraction" not in report(recipe, ("test", "k"), *questions)


def test_what_no_row_speaks_of_is_named_and_not_shown_as_zero(tmp_path: Path) -> None:
    template = bound("mistral-v1")
    asked = [row for row in rows(template) if row[0].id == "q1"]
    found = predict(
        "base",
        Listed(template, ["An answer."]),
        Questions(asked, template, Eval(max_new_tokens=64), tmp_path, Console()),
    )
    made = report(Recipe(), ("test", "k"), found, found)
    assert made["absent"] == ["doses_contradicted", "doses_kept", "units_contradicted"]
    assert "doses_kept" not in made["base"]
    assert "extraction" not in made


def test_a_filter_stands_beside_the_raw_score(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"eval": {"filter": "in_text"}})
    base, tuned = answered(tmp_path, recipe)
    made = report(recipe, ("test", "k"), base, tuned)
    part = made["extraction"]["tuned"]
    assert (part["micro"]["precision"]["value"], part["filtered"]["micro"]["precision"]["value"]) == (2 / 3, 1)
    write_report("r", tmp_path, made, base, tuned)
    text = (tmp_path / "report.md").read_text()
    assert "Filtered (predicted items that the text does not contain" in text
    for words in ("micro average", "macro average", "exact match", "no repetition penalty", "NFKC"):
        assert words in text


def test_a_runs_predictions_are_a_file_that_score_reads(tmp_path: Path, cli: Cli) -> None:
    answered(tmp_path, Recipe())
    done = cli("score", tmp_path / "predictions.jsonl", "--model", "tuned", "--json")
    assert json.loads(done.stdout)["tasks"]["chemicals"]["tp"] == 1


def test_cases_are_answered_and_shown_with_their_exact_matches(tmp_path: Path) -> None:
    template = bound("mistral-v1")
    cases = read_cases(ROOT / "data" / "cases" / "ner_instruct.toml")
    said = [cases[0].expect.upper(), "- none", "- minocycline | hyperpigmentation", "", "- allopurinol"]
    found = answer_cases(Listed(template, said), template, cases, Eval(max_new_tokens=64), tmp_path)
    base, tuned = answered(tmp_path, Recipe())
    made = report(Recipe(), ("test", "k"), base, tuned, found)
    assert made["cases"] == {"rows": 5, "exact_match": 2}
    write_report("r", tmp_path, made, base, tuned, found)
    text = (tmp_path / "report.md").read_text()
    assert "Hand-written, answered by the tuned model: exact match 2 of 5." in text
    assert "**one relation** (relations): exact match" in text
    assert "- answered: - minocycline | hyperpigmentation" in text
    assert "- answered: (nothing)" in text
    assert len(read_predictions(tmp_path / "cases.jsonl")) == 5


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_five_cases_ship_for_every_source(path: Path) -> None:
    assert len(read_cases(path)) == 5


def test_every_source_of_conversations_that_a_recipe_trains_on_has_cases() -> None:
    recipes = [load(path).recipe for path in sorted((ROOT / "recipes").glob("*.toml"))]
    sources = {entry.source for recipe in recipes if recipe.task == "chat" for entry in recipe.data.entries}
    assert len(sources) >= 6
    assert {path.stem for path in CASES} >= sources - {"jsonl"}
    tasks = [case.task for case in read_cases(ROOT / "data" / "cases" / "ner_instruct.toml")]
    assert tasks == ["chemicals", "diseases", "relations", "relations", "qa"]


BROKEN = [
    ("x = 1\n", "holds no [[case]] tables alone; write each with id, task, prompt, expect"),
    ("[[case]]\nid = 'a'\n", "case 1: task is missing or no text; every case needs id, task, prompt, expect"),
    ("[[case]]\nid = 'a'\ntask = 'chemcals'\nprompt = 'p'\nexpect = ''\n", "case 1: task 'chemcals' is unknown; did you mean chemicals?"),
    ("[[case]]\nid = 'a'\ntask = 'qa'\nprompt = 'p'\nexpect = 'e'\nexpct = ''\n", "case 1: expct is unknown; did you mean expect?"),
    ("[[case]]\nid = 'a'\ntask = 'qa'\nprompt = 'p'\nexpect = 'e'\n" * 2, "case 2: id 'a' is taken; choose another"),
    ("[[case]]\nid = 'a'\ntask = 'relations'\nprompt = 'p'\nexpect = '- x'\n", "case 1: expect holds '- x', which is no item of task relations; write '- item' a line"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_a_broken_case_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.toml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_cases(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_broken_toml_of_cases_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "cases.toml"
    path.write_text("\n[[case]\n")
    with pytest.raises(DataError, match=r"cases\.toml:2: broken TOML \(.*\); correct this line$"):
        read_cases(path)


def test_tokens_are_counted_with_the_bytes_of_answers() -> None:
    template = bound("mistral-v1")
    conversations, examples = zip(*rows(template), strict=True)
    counted = count_tokens(conversations, examples)
    assert counted["answer_bytes"] == len(
        "A disease of the airways, not contagious.Take 5 mg.- Aspirin- Aspirin | headache"
    )
    assert counted["supervised"] == sum(example.supervised for example in examples)


HELPED = {"metric": "bits_per_byte", "base_metric": 2.85, "best_metric": 2.5, "best_step": 40}


def test_what_the_dev_rows_said_is_told_and_more_so_where_tuning_did_not_help() -> None:
    assert kept(HELPED) == "best at step 40"
    assert on_dev(HELPED)["dev"] == {"metric": "bits_per_byte", "base": 2.85, "tuned": 2.5, "step": 40, "helped": True}
    assert said_on_dev(on_dev(HELPED)) == "bits per byte on the dev rows: base 2.85, tuned 2.5 at step 40"
    for metric, tuned, helped in (("loss", 2.9, False), ("loss", 2.85, False), ("f1", 2.9, True), ("f1", 2.5, False)):
        stats = {**HELPED, "metric": metric, "best_metric": tuned}
        assert on_dev(stats)["dev"]["helped"] is helped
        assert said_on_dev(on_dev(stats)).startswith("tuning did not help: ") is not helped


def test_without_dev_rows_nothing_is_called_best() -> None:
    last = {"metric": None, "base_metric": None, "best_metric": None, "best_step": 84}
    assert kept(last) == "the last step, 84, is kept"
    assert on_dev(last) == {}
    assert said_on_dev({}) == said_on_dev({"dev": {"metric": "loss"}}) == ""


def test_the_report_and_the_summary_say_that_tuning_did_not_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Prediction("1", "d1", "qa", "Q?", "A.", "A.", "base", True, 2, 64, 40.0, 20)
    other = replace(one, model="tuned")
    value = report(Recipe(), ("test", "key"), [one], [other]) | on_dev({**HELPED, "best_metric": 2.95})
    write_report("x", tmp_path, value, [one], [other])
    said = "Tuning did not help: bits per byte on the dev rows: base 2.85, tuned 2.95 at step 40, the best of its checkpoints."
    assert said in (tmp_path / "report.md").read_text().splitlines()
    assert json.loads((tmp_path / "report.json").read_text())["dev"]["helped"] is False
    Chat(Recipe()).summary(value, Answers([one], ""), Answers([other], ""), Console())
    assert f"note             t{said[1:-1]}" in capsys.readouterr().out.splitlines()


def test_a_run_records_what_its_base_reached_on_the_dev_rows(tiny_run: Path) -> None:
    stats = json.loads((tiny_run / "trainer_stats.json").read_text())
    history = json.loads((tiny_run / "checkpoints/checkpoint-12/trainer_state.json").read_text())["log_history"]
    looks = {entry["step"]: entry["eval_bits_per_byte"] for entry in history if "eval_bits_per_byte" in entry}
    assert sorted(looks) == [0, 6, 12]
    assert (stats["metric"], stats["base_metric"]) == ("bits_per_byte", looks[0])
    assert stats["best_metric"] == looks[stats["best_step"]] < looks[0]
    dev = json.loads((tiny_run / "eval/report.json").read_text())["dev"]
    assert (dev["base"], dev["helped"]) == (looks[0], True)
    assert f"Bits per byte on the dev rows: base {looks[0]:.4g}, tuned " in (tiny_run / "README.md").read_text()
