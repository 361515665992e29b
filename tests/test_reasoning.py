"""Reasoning before answers: read, rendered as the base's family does, supervised as the recipe says, and never scored."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medrecipes.core.console import Console
from medrecipes.core.errors import DataError, TemplateError
from medrecipes.data.exclusion import Texts
from medrecipes.data.reasoning import split_reasoning
from medrecipes.data.records import Conversation, Message
from medrecipes.data.sources import Files, Ledger, open_source
from medrecipes.engines import Decoding
from medrecipes.evaluation.answers import Questions, held_out, predict
from medrecipes.evaluation.chat_report import BASE, TUNED, as_markdown, report
from medrecipes.evaluation.compare.figures import paired
from medrecipes.pipeline.build import build
from medrecipes.recipe.schema import Columns, Data, Eval, Recipe
from medrecipes.release.personal_data import survey
from medrecipes.release.verify import texts
from medrecipes.rendering.answer_text import Answer, answer_of
from medrecipes.rendering.base_template import base_template, own_text
from medrecipes.rendering.chat_template import (
    MASKED,
    OWN,
    ChatTemplate,
    as_trained,
    for_others,
    generation_config,
    save_tokenizer,
)
from medrecipes.rendering.overflow import UNSUPERVISED, fit, fit_parts
from medrecipes.rendering.proofs import prove
from medrecipes.rendering.template_shapes import Supervision
from medrecipes.rendering.tokenizer import Tokenizer
from medrecipes.scoring.predictions import Prediction, read_predictions
from tests import families
from tests.attack.harness import attack, refused
from tests.test_evaluate import Listed
from tests.test_templates import bound

THOUGHT = "The patient wheezes at night.\n\nIgE of 320 kU/L: an allergy, so   asthma."
ANSWER = "Asthma.\n\n1. An inhaler."
QUESTION = "What is it?"
TOOLS = [{"type": "function", "function": {"name": "dose", "description": "Looks up a dose", "parameters": {"type": "object", "properties": {"drug": {"type": "string"}}}}}]  # fmt: skip
CALL = {"type": "function", "function": {"name": "dose", "arguments": {"drug": "salbutamol", "for": "Kinder über 4"}}}


def extra(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)


def dialogue(*turns: Message, id: str = "x") -> Conversation:
    return Conversation(id, "", turns)


ROWS = [
    Conversation.of("one", "", QUESTION, ANSWER, reasoning=THOUGHT),
    Conversation.of("none", "", QUESTION, ANSWER),
    dialogue(
        Message("system", "Be brief."), Message("user", QUESTION), Message("assistant", ANSWER, "An earlier thought."),
        Message("user", "Sure?"), Message("assistant", "Yes é.", THOUGHT), id="two",
    ),
    dialogue(Message("user", QUESTION), Message("assistant", ANSWER, THOUGHT), Message("user", "Sure?"), Message("assistant", "Yes."), id="earlier"),
    Conversation.of("marks", "", QUESTION, "It is asthma", reasoning="Mid-thought </ think > and 3 < 4.  Done "),
]  # fmt: skip
CALLING = [
    dialogue(
        Message("system", "Be brief.", extra=extra(tools=TOOLS)), Message("user", "What dose?"),
        Message("assistant", "", "I should look it up.", extra=extra(tool_calls=[CALL, CALL])),
        Message("tool", '{"mg": 2}', extra=extra(name="dose")), Message("tool", "none"),
        Message("assistant", "Two milligrams.", "It says 2 mg."), id="calls",
    ),
    dialogue(
        Message("user", "What dose?", extra=extra(tools=TOOLS)), Message("assistant", "Let me look.", extra=extra(tool_calls=[CALL])),
        Message("tool", "2 mg"), Message("assistant", "2 mg."), Message("user", "Thanks"), Message("assistant", "Welcome."), id="plain calls",
    ),
    dialogue(Message("user", "What dose?"), Message("assistant", "", extra=extra(tool_calls=[CALL])), id="ends with a call"),
]  # fmt: skip


@lru_cache
def folder(place: str, data: Path) -> Path:
    made = Path(place)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (made / name).write_bytes(gzip.decompress((data / "tokenizers" / "qwen3" / f"{name}.gz").read_bytes()))
    return made


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    return folder(str(tmp_path_factory.mktemp("qwen3")), real_data)


@lru_cache
def theirs(qwen: Path) -> Any:
    """Plain transformers' tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(qwen)


@lru_cache
def tokenizer(qwen: Path) -> Tokenizer:
    return Tokenizer(qwen)


@lru_cache
def template(qwen: Path, name: str = "qwen3", *, thinking: bool = True, **told: Any) -> ChatTemplate:
    text = own_text(qwen) if name == OWN else None
    return ChatTemplate(name, tokenizer(qwen), text, thinking=thinking, supervision=Supervision(**told))


def chat(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The turns as transformers is given them."""
    return [
        {"role": m.role, "content": m.content, **({"reasoning_content": m.reasoning} if m.reasoning else {}), **{k: v for k, v in m.more.items() if k != "tools"}}
        for m in messages
    ]  # fmt: skip


def supervised(template: ChatTemplate, row: Conversation) -> list[str]:
    """The supervised stretches of a row, control tokens spelled."""
    [example] = template.examples([row])
    stretches = groupby(example.labels, key=lambda label: label != MASKED)
    return template.tokenizer.decode([list(ids) for learned, ids in stretches if learned], control=True)


def proved(template: ChatTemplate, rows: Sequence[Conversation]) -> int:
    return prove(template, rows, list(template.examples(rows)), generation_config(template)["eos_token_id"]).answers


@pytest.mark.parametrize("name", ["qwen3", OWN])
@pytest.mark.parametrize("rows", [ROWS, CALLING], ids=["reasoning", "tools"])
@pytest.mark.parametrize("supervise", ["answer", "reasoning_and_answer"])
def test_no_id_differs_from_qwen3s_own_template_with_thoughts_on(
    name: str, rows: list[Conversation], supervise: str, qwen: Path
) -> None:
    ours = template(qwen, name, supervise=supervise)
    assert proved(ours, rows) == sum(m.role == "assistant" for row in rows for m in row.messages)
    differing = []
    for row, example in zip(rows, ours.examples(rows), strict=True):
        told = {
            "tokenize": True,
            "return_dict": True,
            "enable_thinking": True,
            "tools": row.messages[0].more.get("tools"),
        }
        whole = theirs(qwen).apply_chat_template(chat(row.messages), **told)["input_ids"]
        asked = theirs(qwen).apply_chat_template(chat(row.prompt()), add_generation_prompt=True, **told)["input_ids"]
        differing += [row.id] * (example.input_ids != whole or ours.prompts([row.prompt()]) != [asked])
        assert example.input_ids[: len(asked)] == asked
    assert differing == []


@pytest.mark.parametrize("name", ["qwen3", OWN])
@pytest.mark.parametrize("thinking", [True, False])
def test_no_id_differs_once_reasoning_is_dropped(name: str, thinking: bool, qwen: Path) -> None:
    ours = template(qwen, name, thinking=thinking, reasoning="drop")
    proved(ours, ROWS)
    for row, example in zip(ROWS, ours.examples(ROWS), strict=True):
        bare = [{"role": m.role, "content": m.content} for m in row.messages]
        told = {"tokenize": True, "return_dict": True, "enable_thinking": thinking}
        assert example.input_ids == theirs(qwen).apply_chat_template(bare, **told)["input_ids"]


@pytest.mark.parametrize("name", ["qwen3", OWN])
@pytest.mark.parametrize("thinking", [True, False])
def test_a_program_that_says_nothing_of_thinking_asks_as_was_trained(
    name: str, thinking: bool, qwen: Path, tmp_path: Path
) -> None:
    ours = template(qwen, name, thinking=thinking, reasoning="drop")
    save_tokenizer(ours, tmp_path)
    others = theirs(tmp_path)
    for row in ROWS:
        bare = [{"role": m.role, "content": m.content} for m in row.prompt()]
        asked = others.apply_chat_template(bare, add_generation_prompt=True, tokenize=True, return_dict=True)
        assert ours.prompts([row.prompt()]) == [asked["input_ids"]]
        for other in (True, False):  # whoever does say it is heard
            told = {"add_generation_prompt": True, "tokenize": False, "enable_thinking": other}
            assert others.apply_chat_template(bare, **told) == theirs(qwen).apply_chat_template(bare, **told)
    text = (tmp_path / "chat_template.jinja").read_text()
    assert text != ours.text == as_trained(text)
    # a base that was saved so, and trained again, is saved so once more
    for before in (True, False):
        inner = for_others(template(qwen, name, thinking=before))
        again = ChatTemplate(OWN, tokenizer(qwen), inner, thinking=thinking)
        assert as_trained(for_others(again)) == inner


@pytest.mark.parametrize("change", ["none", "as before", "turned", "another"])
def test_a_saved_template_that_was_made_to_think_is_found(change: str, qwen: Path) -> None:
    ours = template(qwen, OWN, thinking=False)
    text = {
        "none": for_others(ours),
        "as before": ours.text,  # saved when nothing was said of thinking
        "turned": for_others(ours).replace("enable_thinking = false", "enable_thinking = true", 1),
        "another": for_others(ours) + " ",
    }[change]
    evidence = SimpleNamespace(
        text=lambda _: text, state={"template_sha256": ours.sha256}, template=ours, by_code=lambda wrong, told: wrong,
        own=SimpleNamespace(template=SimpleNamespace(name=None)),
    )  # fmt: skip
    found = texts.template(evidence)  # type: ignore[arg-type]
    wrong = found if isinstance(found, list) else found.wrong
    assert bool(wrong) is (change in ("turned", "another"))
    assert change != "turned" or "thinks by itself where the recipe does not" in wrong[0]


@pytest.mark.parametrize("name", ["qwen3", OWN])
def test_what_is_supervised_is_what_the_recipe_says_stop_token_included(name: str, qwen: Path) -> None:
    thought, end = f"<think>\n{THOUGHT}\n</think>\n\n", "<|im_end|>"
    both, alone = template(qwen, name), template(qwen, name, supervise="answer")
    assert supervised(both, ROWS[0]) == [thought + ANSWER + end]
    assert supervised(alone, ROWS[0]) == [ANSWER + end]
    assert supervised(both, ROWS[1]) == ["<think>\n\n</think>\n\n" + ANSWER + end]
    assert supervised(alone, ROWS[1]) == [ANSWER + end]
    # an earlier thought is dropped, as the makers do
    assert supervised(both, ROWS[2]) == [ANSWER + end, thought + "Yes é." + end]
    assert supervised(alone, ROWS[2]) == [ANSWER + end, "Yes é." + end]
    assert supervised(template(qwen, name, turns="last"), ROWS[2]) == [thought + "Yes é." + end]
    call = '<tool_call>\n{"name": "dose", "arguments": {"drug": "salbutamol", "for": "Kinder über 4"}}\n</tool_call>'
    assert supervised(both, CALLING[0]) == [
        f"<think>\nI should look it up.\n</think>\n\n{call}\n{call}{end}", f"<think>\nIt says 2 mg.\n</think>\n\nTwo milligrams.{end}",
    ]  # fmt: skip
    assert supervised(alone, CALLING[0]) == [f"{call}\n{call}{end}", f"Two milligrams.{end}"]
    assert supervised(alone, CALLING[1]) == [f"Let me look.\n{call}{end}", f"2 mg.{end}", f"Welcome.{end}"]
    assert supervised(alone, CALLING[2]) == [call + end]


@pytest.mark.parametrize("name", ["qwen3", OWN])
def test_turns_of_weight_0_are_context(name: str, qwen: Path) -> None:
    ours = template(qwen, name)
    turns = ROWS[2].messages
    weighed = replace(ROWS[2], messages=(*turns[:2], replace(turns[2], supervised=False), *turns[3:]))
    [before], [after] = ours.examples([ROWS[2]]), ours.examples([weighed])
    assert before.input_ids == after.input_ids
    assert before.answer_bytes - after.answer_bytes == len(ANSWER.encode())
    assert supervised(ours, weighed) == supervised(ours, ROWS[2])[1:]
    assert proved(ours, [weighed]) == 1
    # the last one of weight 0, and the last alone supervised: nothing is left to learn
    nothing = replace(ROWS[2], messages=(*turns[:4], replace(turns[4], supervised=False)))
    fitted = fit(template(qwen, name, turns="last"), [ROWS[0], nothing], 2048, "drop")
    assert (len(fitted.examples), fitted.dropped, fitted.rows) == (1, {UNSUPERVISED: ["two"]}, 2)


def test_bits_are_shared_out_over_what_is_supervised(qwen: Path) -> None:
    [both] = template(qwen).examples([ROWS[0]])
    [alone] = template(qwen, supervise="answer").examples([ROWS[0]])
    assert (both.answer_bytes, alone.answer_bytes) == (len((THOUGHT + ANSWER).encode()), len(ANSWER.encode()))


def test_a_base_without_thoughts_gets_them_as_text_or_not_at_all() -> None:
    told = {name: bound(name).tokenizer for name in ("mistral-v1", "mistral-v3", "llama3", "gemma", "gpt-oss")}
    for name, known in told.items():
        kept = ChatTemplate(name, known)
        with pytest.raises(TemplateError, match="row one: holds reasoning, and template") as error:
            list(kept.examples(ROWS[:1]))
        assert "data.reasoning = " in str(error.value)
        if name == "gpt-oss":
            continue
        text = ChatTemplate(name, known, supervision=Supervision("as_text"))
        alone = ChatTemplate(name, known, supervision=Supervision("as_text", "answer"))
        stop = text.stops[0]
        want = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}{stop}"
        assert proved(text, ROWS) == proved(alone, ROWS) == 7
        assert supervised(text, ROWS[0])[0].strip() == want
        assert supervised(alone, ROWS[0])[0].strip() == ANSWER + stop
        assert supervised(text, ROWS[1]) == supervised(alone, ROWS[1]) == supervised(bound(name), ROWS[1])
        assert len(supervised(text, ROWS[2])) == 2  # as text, earlier thoughts stay
        assert f"<think>\nAn earlier thought.\n</think>\n\n{ANSWER}" in text.render(ROWS[2].messages)
        dropped = ChatTemplate(name, known, supervision=Supervision("drop"))
        [without], [bare] = dropped.examples(ROWS[:1]), dropped.examples([replace(ROWS[1], id="one")])
        assert without.input_ids == bare.input_ids


def test_rows_that_a_template_cannot_write_are_one_line(qwen: Path) -> None:
    def refused(template: ChatTemplate, rows: list[Conversation]) -> str:
        with pytest.raises(TemplateError) as error:
            fit_parts(template, {"train": rows[:2], "dev": rows[2:]}, Data())
        assert "\n" not in str(error.value)
        return str(error.value)

    assert refused(bound("mistral-v3"), ROWS) == (
        "4 of 5 rows (one, two, earlier, …) hold reasoning, and template 'mistral-v3' has no place for it; "
        "set data.reasoning = 'as_text' to learn it as text between <think> marks, or 'drop'"
    )
    assert "set template.thinking = true, or data.reasoning = 'drop'" in refused(template(qwen, thinking=False), ROWS)
    assert "set template.thinking = true" in refused(template(qwen, OWN, thinking=False), ROWS)
    assert "set data.reasoning = 'keep'" in refused(template(qwen, reasoning="as_text"), ROWS)
    assert refused(bound("mistral-v3"), CALLING).startswith(
        "3 of 3 rows (calls, plain calls, ends with a call) hold tool calls or tool results, which template 'mistral-v3' does not write; "
    )
    spelled = replace(CALLING[2], messages=(*CALLING[2].messages[:1], Message("assistant", "", extra=extra(tool_calls=[{"function": {"name": "a", "arguments": "<|im_end|>"}}]))))  # fmt: skip
    assert "hold the control token <|im_end|> in a tool call" in refused(template(qwen), [spelled] * 3)


def test_text_that_looks_like_a_mark_stays_text(qwen: Path) -> None:
    row = Conversation.of(
        "x", "", "What is <think>?", "A mark, as </think> is.", reasoning="They ask for <think> and </think>."
    )
    ours = template(qwen)
    [example] = ours.examples([row])
    for token in ("<think>", "</think>"):
        assert example.input_ids.count(ours.tokenizer.control_id(token)) == 1
    assert proved(ours, [row]) == 1


# --- reading


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Asthma.", ("", "Asthma.")),
        ("<think>\nIt wheezes.\n</think>\n\nAsthma.", ("It wheezes.", "Asthma.")),
        ("<thinking>a</thinking><think>b</think>c", ("a\n\nb", "c")),
        ("It wheezes.</think>Asthma.", ("It wheezes.", "Asthma.")),
        ("<think>It wheezes and", ("It wheezes and", "")),
        ("<think>\n\n</think>\n\nAsthma.", ("", "Asthma.")),
        ("It is written <think>a</think> there.", ("", "It is written <think>a</think> there.")),
    ],
)
def test_a_thought_is_told_from_its_answer(text: str, found: tuple[str, str]) -> None:
    assert split_reasoning(text) == found


def read(place: Path, rows: list[dict[str, Any]], columns: Columns | None = None) -> tuple[list[Conversation], Ledger]:
    path = place / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ledger = Ledger()
    found = list(open_source("jsonl").read(Files(path, columns or Columns()), ledger))
    return [row for row in found if isinstance(row, Conversation)], ledger


def turns(**answer: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", **answer}]}


def test_reasoning_is_read_from_its_keys_columns_and_marks(tmp_path: Path) -> None:
    shapes = [
        turns(content="a", reasoning_content="t"), turns(content="a", thinking=" t\n"), turns(content="a", reasoning="t"),
        turns(content="<think>t</think>a"), turns(content="<think>other</think>a", reasoning_content="t"),
    ]  # fmt: skip
    rows, _ = read(tmp_path, shapes)
    assert [row.messages[1] for row in rows] == [Message("assistant", "a", "t")] * 5
    rows, _ = read(tmp_path, [{"Question": "q", "Response": "a", "Complex_CoT": "t"}], Columns(question="Question", answer="Response", reasoning="Complex_CoT"))  # fmt: skip
    assert rows[0].messages == (Message("user", "q"), Message("assistant", "a", "t"))
    rows, _ = read(
        tmp_path, [{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "<think>t</think>a"}]}]
    )
    assert rows[0].messages[1] == Message("assistant", "a", "t")


def test_what_cannot_be_learned_from_is_counted(tmp_path: Path) -> None:
    rows, ledger = read(tmp_path, [turns(content="<think>never ends"), turns(content="", reasoning="t"), turns(content=" "), turns(content="a", weight=0), turns(content="b")])  # fmt: skip
    assert [row.answer for row in rows] == ["b"]
    assert dict(ledger.dropped) == {"reasoning without an answer": 2, "empty answer": 1, "no turn is supervised": 1}


def test_weights_and_tools_are_read(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "dose", "arguments": '{"drug": "x"}'}}
    messages = [
        {"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [call], "weight": 0},
        {"role": "tool", "content": "2", "tool_call_id": "c1"}, {"role": "assistant", "content": "a", "weight": 1},
    ]  # fmt: skip
    [row], _ = read(tmp_path, [{"messages": messages, "tools": json.dumps(TOOLS)}])
    user, calling, tool, answer = row.messages
    assert user.more == {"tools": TOOLS}
    assert calling.more["tool_calls"] == [{**call, "function": {"name": "dose", "arguments": {"drug": "x"}}}]
    assert (calling.supervised, answer.supervised) == (False, True)
    assert tool == Message("tool", "2", extra=extra(tool_call_id="c1"))


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (
            {"content": "a", "weight": 2},
            "weight = 2 of a turn by the assistant; give an assistant's turn 0 (not supervised) or 1",
        ),
        ({"content": "a", "reasoning_content": 3}, "reasoning_content is 3 where text belongs; quote it"),
        ({"content": "a", "tool_calls": [{"name": "x"}]}, "a tool call is no object with name and arguments"),
    ],
)
def test_a_wrong_turn_is_one_line(turn: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, [turns(**turn)])
    assert str(error.value).startswith("rows.jsonl: row 1: ") or "rows.jsonl: row 1: " in str(error.value)
    assert words in str(error.value)


def test_the_order_of_turns_with_tools(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "q"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "a"},
    ]
    with pytest.raises(DataError, match="turn 2 is 'tool' where 'assistant' belongs"):
        read(tmp_path, [{"messages": messages}])
    called = turns(content="", tool_calls=[CALL])["messages"]
    with pytest.raises(
        DataError, match=r"turn 3 is 'user' where 'tool' belongs; order the turns as .* with tool turns behind"
    ):
        read(
            tmp_path, [{"messages": [*called, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]
        )


def test_a_message_is_kept_whole_and_a_plain_one_as_ever() -> None:
    assert Message("user", "q").row() == ["user", "q"]
    for message in (
        Message("assistant", "a", "t"),
        Message("assistant", "a", "", False),
        Message("tool", "a", extra="{}"),
    ):
        assert Message(*json.loads(json.dumps(message.row()))) == message
    assert Message("assistant", "a", "t").row() == ["assistant", "a", "t"]


def test_keys_of_runs_that_say_nothing_of_reasoning_stay(tmp_path: Path) -> None:
    plain = Recipe()
    told = Recipe.model_validate({"data": {"reasoning": "keep"}, "train": {"supervise": "reasoning_and_answer", "turns": "all"}, "eval": {"max_reasoning_tokens": 0}})  # fmt: skip
    assert told.key == plain.key
    for section, key, value in (("data", "reasoning", "drop"), ("train", "supervise", "answer"), ("train", "turns", "last"), ("eval", "max_reasoning_tokens", 9)):  # fmt: skip
        assert Recipe.model_validate({section: {key: value}}).key != plain.key


# --- evaluation


def ids(template: ChatTemplate, text: str) -> list[int]:
    """A text as a model writes it, its control tokens as such."""
    return template.tokenizer.read_whole([text])[0]


LEAK = "PLANTED secret 999 mg"
# what a model writes (Qwen3's marks are control tokens), the answer that is scored, and whether its thought ended
WRITTEN = [
    (f"<think>\n{LEAK}\n</think>\n\nAsthma.<|im_end|>", "Asthma.", True),
    (f"<think>{LEAK}</think>Asthma.<|im_end|>", "Asthma.", True),
    (f"\n<think>\n{LEAK}\n</think>\n<think>{LEAK}</think>\n\nAsthma.<|im_end|>", "Asthma.", True),
    (f"{LEAK}\n</think>\n\nAsthma.<|im_end|>", "Asthma.", True),
    (f"<think>\n{LEAK} and so on", "", False),
    (f"<think>\n{LEAK}<|im_end|>", "", False),
    (f"<think>\n{LEAK}\n</think>\n\n<think>\n{LEAK}", "", False),
    (f"Asthma. <think>\n{LEAK}", "Asthma.", False),
    ("<think>\n\n</think>\n\nAsthma.<|im_end|>", "Asthma.", None),
    ("Asthma.<|im_end|>", "Asthma.", None),
]


@pytest.mark.parametrize(("text", "answer", "finished"), WRITTEN)
def test_a_planted_thought_never_reaches_the_score(text: str, answer: str, finished: bool | None, qwen: Path) -> None:
    for name in ("qwen3", OWN):
        ours = template(qwen, name)
        said = answer_of(ours, ids(ours, text), Eval())
        assert (said.text, said.reasoning_finished) == (answer, finished)
        assert (said.reasoning_tokens is None) == (finished is None)
        if finished is None:
            assert said.tokens == len(ids(ours, text))
    # a base without thoughts writes the marks as text, whether it was taught so or not
    for supervision in (Supervision(), Supervision("as_text")):
        other = ChatTemplate("mistral-v3", bound("mistral-v3").tokenizer, supervision=supervision)
        plain = text.removesuffix("<|im_end|>")
        said = answer_of(other, other.tokenizer.encode([plain], continuing=False)[0], Eval())
        assert (said.text, said.reasoning_finished) == (answer, finished)


def test_reasoning_has_a_budget_and_the_answer_its_own(qwen: Path) -> None:
    ours = template(qwen)
    written = ids(ours, f"<think>\n{LEAK}\n</think>\n\nAsthma, a disease of the airways.<|im_end|>")
    thought = written.index(ours.tokenizer.control_id("</think>")) + 1
    assert answer_of(ours, written, Eval(max_reasoning_tokens=thought, max_new_tokens=99)) == Answer(
        "Asthma, a disease of the airways.", len(written) - thought, True, thought, True
    )
    assert answer_of(ours, written, Eval(max_reasoning_tokens=thought - 1)) == Answer("", 0, True, thought - 1, False)
    cut = answer_of(ours, written, Eval(max_reasoning_tokens=thought, max_new_tokens=2))
    assert (cut.text, cut.tokens, cut.stopped) == ("A", 2, False)
    assert Decoding.of(Recipe(eval=Eval(max_reasoning_tokens=40, max_new_tokens=2))).max_new_tokens == 42


class Thinker(Listed):
    """Answers that a list holds, control tokens as such."""

    def __init__(self, template: ChatTemplate, answers: Sequence[str]) -> None:
        super().__init__(template, answers)
        self._ids = [ids(template, answer) for answer in answers]


def test_evaluation_scores_answers_alone_and_reports_their_reasoning(qwen: Path, tmp_path: Path) -> None:
    ours, recipe = template(qwen), Recipe(eval=Eval(max_reasoning_tokens=30, max_new_tokens=20, draws=10))
    rows = [Conversation.of(str(n), str(n), QUESTION, "Asthma.", reasoning=THOUGHT) for n in range(3)]
    rows.append(CALLING[2])  # ends with a tool call: nothing to score
    asked = held_out(recipe, fit(ours, rows, 2048, "drop"))
    assert len(asked) == 3
    before = [
        "<think>\nHm.\n</think>\n\nAsthma.<|im_end|>",
        f"<think>\n{LEAK}",
        f"<think>{'so ' * 60}</think>\n\nAsthma.<|im_end|>",
    ]
    after = ["Asthma.<|im_end|>"] * 3
    base, tuned = (predict(name, Thinker(ours, said), Questions(asked, ours, recipe.eval, tmp_path, Console.silent())) for name, said in ((BASE, before), (TUNED, after)))  # fmt: skip
    assert [p.prediction for p in base] == ["Asthma.", "", ""]
    text = (tmp_path / "predictions.jsonl").read_text()
    assert LEAK not in text
    assert text.count("reasoning_tokens") == 3
    assert [p for p in read_predictions(tmp_path / "predictions.jsonl", own=True) if p.model == BASE] == base
    made = report(recipe, ("test", "k"), base, tuned)
    assert made["reasoning"][TUNED] == {"rows": 0, "of_rows": 3, "mean_tokens": None, "unfinished": 0}
    assert made["reasoning"][BASE] | {"mean_tokens": 0} == {"rows": 3, "of_rows": 3, "mean_tokens": 0, "unfinished": 2}
    assert made["reasoning"][BASE]["mean_tokens"] == sum(p.reasoning_tokens or 0 for p in base) / 3
    assert (made["base"]["exact_match"]["value"], made["tuned"]["exact_match"]["value"]) == (1 / 3, 1)
    written = as_markdown("x", made, base, tuned)
    assert "at most 20 tokens behind at most 30 of reasoning" in written
    assert "| unfinished, so without an answer | 2 | 0 |" in written
    assert "reasoning" not in report(Recipe(eval=Eval(draws=10)), ("test", "k"), tuned, tuned)


# --- other families, by the templates of their makers as TRL bundles them


def makers(place: Path, family: str, text: str, **told: Any) -> ChatTemplate:
    """A template of a maker's own on a tokenizer of its kind, thinking."""
    shutil.copytree(families.folder(family), place / "base")
    (place / "base" / "chat_template.jinja").write_text(text, encoding="utf-8")
    recipe = Recipe.model_validate({"template": {"thinking": True}, **told})
    return base_template(recipe, Tokenizer(place / "base"), "a base")


def bundled(name: str) -> str:
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def test_gpt_oss_thinks_in_its_analysis_channel(tmp_path: Path) -> None:
    ours = makers(tmp_path / "a", "gpt-oss", bundled("gptoss"))
    alone = makers(tmp_path / "b", "gpt-oss", bundled("gptoss"), train={"supervise": "answer"})
    assert (ours.name, ours.stops[0]) == (OWN, "<|return|>")
    assert proved(ours, ROWS) == proved(alone, ROWS) == 7
    thought = f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>"
    final = "<|channel|>final<|message|>"
    assert supervised(ours, ROWS[0]) == [f"{thought}{ANSWER}<|return|>"]
    assert supervised(alone, ROWS[0]) == [f"{ANSWER}<|return|>"]
    assert supervised(ours, ROWS[2]) == [f"{final}{ANSWER}<|end|>", f"{thought}Yes é.<|return|>"]
    for text, answer, finished in (
        (f"{thought}Asthma.<|return|>", "Asthma.", True),
        (f"<|channel|>analysis<|message|>{LEAK}", "", False),
        (f"<|channel|>analysis<|message|>{LEAK}<|end|><|start|>assistant<|channel|>commentary", "", False),
        (f"{final}Asthma.<|return|>", "Asthma.", None),
    ):
        said = answer_of(ours, ids(ours, text), Eval())
        assert (said.text, said.reasoning_finished) == (answer, finished)


def test_deepseeks_prompt_opens_the_thought(tmp_path: Path) -> None:
    ours = makers(tmp_path / "a", "deepseek-r1", bundled("deepseek_r1_distill"))
    alone = makers(tmp_path / "b", "deepseek-r1", bundled("deepseek_r1_distill"), train={"supervise": "answer"})
    assert ours.name == "deepseek-r1"
    assert proved(ours, ROWS) == proved(alone, ROWS) == 7
    stop = "<｜end▁of▁sentence｜>"
    assert ours.render(ROWS[0].prompt(), ask=True).endswith("<｜Assistant｜><think>\n")
    assert supervised(ours, ROWS[0]) == [f"{THOUGHT}\n</think>\n\n{ANSWER}{stop}"]
    assert supervised(alone, ROWS[0]) == [ANSWER + stop]
    assert supervised(ours, ROWS[2]) == [ANSWER + stop, f"{THOUGHT}\n</think>\n\nYes é.{stop}"]
    for text, answer, finished in (
        (f"{LEAK}\n</think>\n\nAsthma.{stop}", "Asthma.", True),
        (LEAK, "", False),
        (f"{LEAK}{stop}", "", False),
    ):
        said = answer_of(ours, ids(ours, text), Eval())
        assert (said.text, said.reasoning_finished) == (answer, finished)


# in the style of SmolLM3's: thoughts are control tokens within the content, and its own empty thought ends with one line break
SMOLLM3 = "{{ '<|im_start|>system\nReasoning Mode: ' + ('/think' if enable_thinking else '/no_think') + '\n' }}{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{% if message.role == 'assistant' %}{% if not enable_thinking %}{{ \"<think>\\n\\n</think>\\n\" }}{% endif %}{{ message.content.lstrip('\n') + '<|im_end|>\n' }}{% else %}{{ message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if not enable_thinking %}{{ \"<think>\\n\\n</think>\\n\" }}{% endif %}{% endif %}"


def test_a_template_that_takes_thoughts_within_contents_gets_them_as_its_own_tokens(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    ours = makers(tmp_path / "a", "qwen3", SMOLLM3)
    alone = makers(tmp_path / "b", "qwen3", SMOLLM3, train={"supervise": "answer"})
    assert ours.name == OWN
    assert proved(ours, ROWS) == proved(alone, ROWS) == 7
    assert supervised(ours, ROWS[0]) == [f"<think>\n{THOUGHT}\n</think>\n{ANSWER}<|im_end|>"]
    assert supervised(alone, ROWS[0]) == [f"{ANSWER}<|im_end|>"]
    plain = AutoTokenizer.from_pretrained(tmp_path / "a" / "base")
    for row, example in zip(ROWS, ours.examples(ROWS), strict=True):
        marked = [{"role": m.role, "content": f"<think>\n{m.reasoning}\n</think>\n{m.content}" if m.reasoning else m.content} for m in row.messages]  # fmt: skip
        whole = plain.apply_chat_template(marked, tokenize=True, return_dict=True, enable_thinking=True)
        assert example.input_ids == whole["input_ids"]
    quiet = makers(tmp_path / "c", "qwen3", SMOLLM3, template={"thinking": False})
    assert "asks for an answer without a thought; set template.thinking = true" in str(quiet.problem(ROWS[0].messages))


# --- around it


def test_a_built_dataset_reads_back_as_it_was(tmp_path: Path) -> None:
    call = {"id": "c1", **CALL}
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "What dose?"}, {"role": "assistant", "content": "", "tool_calls": [call], "weight": 0},
                      {"role": "tool", "content": "2 mg", "tool_call_id": "c1"}, {"role": "assistant", "content": "Two.", "reasoning_content": "It says 2."}], "tools": TOOLS},
        {"messages": [{"role": "user", "content": "What is gout?"}, {"role": "assistant", "content": "An arthritis.", "reasoning": "Uric acid."}]},
    ]  # fmt: skip
    before, _ = read(tmp_path, rows)
    recipe = Recipe.model_validate({
        "name": "traces", "model": {"base": "tiny:qwen3"}, "template": {"name": "qwen3", "thinking": True}, "train": {"keep_best": "last"},
        "data": {"source": "jsonl", "path": tmp_path / "rows.jsonl", "split": {"train": 1.0, "dev": 0.0, "test": 0.0}},
    })  # fmt: skip
    [built] = build(recipe, tmp_path / "built", ["jsonl"])
    files_ = Files(built.folder / "data" / "train.jsonl", Columns())
    after = [row.messages for row in open_source("jsonl").read(files_, Ledger()) if isinstance(row, Conversation)]
    assert sorted(after, key=len) == sorted((row.messages for row in before), key=len)
    dropped = recipe.model_copy(update={"name": "bare", "data": recipe.data.model_copy(update={"reasoning": "drop"})})
    [built] = build(dropped, tmp_path / "built", ["jsonl"])
    assert "Uric acid" not in (built.folder / "data" / "train.jsonl").read_text(encoding="utf-8")


def test_check_says_what_becomes_of_reasoning_and_refuses_what_cannot_be(tmp_path: Path) -> None:
    data = "".join(json.dumps({"q": f"What is disease number {n}?", "a": f"It is number {n}.", "cot": f"Think of {n}."}) + "\n" for n in range(40))  # fmt: skip
    (tmp_path / "t.jsonl").write_text(data, encoding="utf-8")
    text = '[model]\nbase = "tiny:mistral"\n[data]\nsource = "jsonl"\npath = "t.jsonl"\ncolumns = { question = "q", answer = "a", reasoning = "cot" }\nmax_tokens = 256\n'
    (tmp_path / "r.toml").write_text(text + 'reasoning = "as_text"\n', encoding="utf-8")
    found = attack("check", "r.toml", cwd=tmp_path)
    assert found.code == 0, found.err
    assert "40 of 40 rows hold reasoning: text between <think> marks (data.reasoning = 'as_text')" in found.out
    assert "eval.max_reasoning_tokens = 0 leaves reasoning and answer eval.max_new_tokens = 256 together" in found.out
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    refused(
        attack("check", "r.toml", cwd=tmp_path),
        "40 of 40 rows (",
        "hold reasoning, and template 'mistral-v1' has no place for it; set data.reasoning",
    )


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('[train]\nturns = "last"\nloss_on = "all"\n', "train.turns = 'last' contradicts x.toml:3: train.loss_on = 'all'"),
        ('[train]\nsupervise = "answer"\n[data]\nreasoning = "drop"\n', "train.supervise is about reasoning, which x.toml:4: data.reasoning = 'drop' leaves out"),
        ('[eval]\nmax_reasoning_tokens = 9\n[data]\nreasoning = "drop"\n', "eval.max_reasoning_tokens is about reasoning"),
        ('task = "tag"\n[train]\nturns = "last"\n', "train.turns: a tag recipe has no use for it"),
    ],
)  # fmt: skip
def test_settings_that_contradict_are_one_line(lines: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(lines, encoding="utf-8")
    found = attack("check", "--schema-only", "x.toml", cwd=tmp_path)
    assert found.code == 2
    assert words in found.err


def test_bits_of_answers_and_of_reasoning_are_not_compared() -> None:
    def said(size: int) -> list[Prediction]:
        return [
            Prediction(str(n), str(n), "qa", "q", "Asthma.", "Asthma.", "tuned", True, 3, 9, 8.0, size)
            for n in range(3)
        ]

    assert "bits_per_byte" in paired(said(7), said(7))
    assert "bits_per_byte" not in paired(said(7), said(90))
    assert "rougeL" in paired(said(7), said(90))


def test_rows_that_end_with_calls_alone_leave_nothing_to_score(qwen: Path) -> None:
    with pytest.raises(DataError, match="all 1 held-out rows end with a tool call, and evaluation scores texts"):
        held_out(Recipe(), fit(template(qwen), CALLING[2:], 2048, "drop"))


def test_a_benchmarks_question_is_found_in_a_thought_too() -> None:
    row = Conversation.of("1", "", "Go on.", "Yes.", reasoning="They ask which nerve drops the wrist.")
    assert b"which nerve drops the wrist" in Texts.of(row).whole
    assert survey.texts_of(row) == ("Go on.", "Yes.", "They ask which nerve drops the wrist.")  # so is personal data
