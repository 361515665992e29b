"""Conversations that are too long: what is cut, what always survives, and what is counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medrecipes.core.errors import TemplateError
from medrecipes.data.records import Conversation, Message
from medrecipes.recipe.schema import Data
from medrecipes.rendering.chat_template import MASKED
from medrecipes.rendering.overflow import cut_middle, fit, fit_parts, split_cue, told
from medrecipes.rendering.proofs import prove
from tests import families
from tests.attack.harness import attack, refused
from tests.conftest import Cli, sets
from tests.test_templates import FAMILY, bound

ARTICLE = " ".join(f"Sentence {n} names aspirin." for n in range(60))
CUE = "List of extracted chemicals:"
LONG_QUESTION = Conversation.of("long-question", "doc", f"Article: {ARTICLE}\n\n{CUE}\n", "- aspirin\n- ibuprofen")
LONG_ANSWER = Conversation.of("long-answer", "doc", "What does it name?", ARTICLE)
SHORT = Conversation.of("short", "doc", "What is asthma?", "A disease.")
ROWS = [SHORT, LONG_QUESTION, LONG_ANSWER]
ROOM = {
    "gpt-oss": 300
}  # tokens of a row; its makers write more than a hundred of a small vocabulary before every conversation


def test_drop_leaves_out_what_is_too_long_and_counts_it() -> None:
    fitted = fit(bound("mistral-v3"), ROWS, 100, "drop")
    assert [example.id for example in fitted.examples] == ["short"]
    assert [conversation.id for conversation in fitted.conversations] == ["short"]
    assert fitted.dropped == {"longer than max_tokens": ["long-question", "long-answer"]}
    assert fitted.counts == {}


def test_error_names_the_first_row_and_its_length() -> None:
    [example] = bound("mistral-v3").examples([LONG_QUESTION])
    with pytest.raises(TemplateError) as error:
        fit(bound("mistral-v3"), ROWS, 100, "error")
    assert str(error.value) == (
        f"row long-question: {len(example.input_ids)} tokens, over data.max_tokens = 100; "
        "raise it, or choose data.on_overflow"
    )


@pytest.mark.parametrize("name", FAMILY)
def test_a_shortened_context_keeps_its_beginning_its_cue_and_the_whole_answer(name: str) -> None:
    template = bound(name)
    fitted = fit(template, ROWS, ROOM.get(name, 100), "shorten_context")
    assert [example.id for example in fitted.examples] == ["short", "long-question"]
    assert fitted.dropped == {"longer than max_tokens": ["long-answer"]}  # no question can be cut for this answer
    assert fitted.counts == {"shorten_context": 1}
    example, shown = fitted.examples[1], fitted.conversations[1]
    assert len(example.input_ids) <= ROOM.get(name, 100)
    assert template.stop_id in [label for label in example.labels if label != MASKED]
    assert shown.question.startswith("Article: ")
    assert shown.question.endswith(f"\n{CUE}\n")
    assert shown.answer == LONG_QUESTION.answer
    assert not example.cut
    prove(template, fitted.conversations, fitted.examples, template.stop_ids)


@pytest.mark.parametrize("name", FAMILY)
def test_a_shortened_answer_keeps_the_prompt_and_is_not_taught_to_stop(name: str) -> None:
    template = bound(name)
    fitted = fit(template, ROWS, ROOM.get(name, 100), "shorten_answer")
    assert [example.id for example in fitted.examples] == ["short", "long-answer"]
    assert fitted.counts == {"shorten_answer": 1}
    example, shown = fitted.examples[1], fitted.conversations[1]
    [asked] = template.prompts([LONG_ANSWER.prompt()])
    assert -10 <= len(example.input_ids) - ROOM.get(name, 100) <= 0
    assert example.input_ids[: len(asked)] == asked
    assert example.cut
    assert all(label != MASKED for label in example.labels[len(asked) :])
    assert not set(template.stop_ids) & set(example.labels)
    assert ARTICLE.startswith(shown.answer)
    assert template.tokenizer.decode([example.input_ids])[0].endswith(shown.answer)
    prove(template, fitted.conversations, fitted.examples, template.stop_ids)


def test_the_oldest_turns_go_before_the_question_is_cut_and_the_system_message_stays() -> None:
    turns = [Message("system", "Be brief.")]
    for n in range(6):
        turns += [Message("user", f"Question {n}?"), Message("assistant", f"Answer {n}. " + "More of it. " * 8)]
    fitted = fit(bound("llama3"), [Conversation("row", "doc", tuple(turns))], 120, "shorten_context")
    [shown] = fitted.conversations
    assert [message.content[:11] for message in shown.messages] == [
        "Be brief.", "Question 4?", "Answer 4. M", "Question 5?", "Answer 5. M",
    ]  # fmt: skip


def test_a_prompt_without_room_for_an_answer_is_dropped() -> None:
    assert fit(bound("llama3"), [LONG_ANSWER], 12, "shorten_answer").dropped == {
        "longer than max_tokens": ["long-answer"]
    }
    assert fit(bound("llama3"), [LONG_QUESTION], 20, "shorten_context").dropped == {
        "longer than max_tokens": ["long-question"]
    }


def test_the_cue_is_the_last_line_or_the_end_of_an_endless_one() -> None:
    assert split_cue("Article.\n\nList:\n") == ("Article.\n\n", "List:\n")
    assert split_cue("One line?") == ("", "One line?")
    context, cue = split_cue("word " * 100 + "What is it?")
    assert (len(cue) <= 300, cue.endswith("What is it?"), context + cue) == (True, True, "word " * 100 + "What is it?")
    assert split_cue("x" * 400) == ("x" * 100, "x" * 300)


def test_the_middle_is_cut_at_blanks() -> None:
    assert cut_middle("one two three four five", 14) == "one five"
    assert cut_middle("one two", 99) == "one two"
    assert cut_middle("one two", 0) == ""


# what is left out is told where it is decided, and nothing left is an error before any weight is loaded


def test_what_is_left_out_is_told_with_its_share() -> None:
    template = bound("mistral-v3")
    many = [SHORT] * 19
    [long] = template.examples([LONG_ANSWER])
    [(kind, text)] = told(fit_parts(template, {"train": [*many, LONG_ANSWER], "dev": [SHORT]}, Data(max_tokens=100)), Data(max_tokens=100))  # fmt: skip
    assert (kind, "1 of 20 train rows (5.0%): they are longer, up to " in text, "dev" in text) == ("note", True, False)
    assert f"up to {len(long.input_ids):,} tokens; raise it" in text
    [(kind, text)] = told(fit_parts(template, {"train": [*many[1:], LONG_ANSWER]}, Data(max_tokens=100)), Data(max_tokens=100))  # fmt: skip
    assert (kind, "1 of 19 train rows (5.3%)" in text) == ("warning", True)
    short = Data(max_tokens=100, on_overflow="shorten_answer")
    [(kind, text)] = told(fit_parts(template, {"train": [*many, LONG_ANSWER]}, short), short)
    assert (kind, "cut 1 of 20 train rows (5.0%)" in text) == ("note", True)
    assert told(fit_parts(template, {"train": many}, short), short) == []


def test_a_part_of_which_nothing_is_left_is_an_error() -> None:
    data = Data(max_tokens=100)
    with pytest.raises(TemplateError) as error:
        fit_parts(bound("mistral-v3"), {"train": [SHORT, LONG_ANSWER], "dev": [], "held out": [LONG_ANSWER]}, data)
    assert str(error.value).startswith("data.max_tokens = 100 leaves no rows in held out (0 of 1, the shortest of ")
    assert "\n" not in str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe on a base whose tokenizer is there and whose weights are not, and 60 rows of 20 documents."""
    shutil.copytree(families.folder("mistral-v1"), tmp_path / "base")
    config = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "max_position_embeddings": 32768,
              "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
              "num_attention_heads": 32, "num_key_value_heads": 8}  # fmt: skip
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    rows = ({"q": f"Thing {n}?", "a": f"Thing {n}, " + "and so on, " * (n % 5), "d": f"d{n // 3}"} for n in range(60))
    (tmp_path / "own.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "r.toml").write_text(
        '[model]\nbase = "base"\n[train]\nkeep_best = "last"\noptim = "adamw_torch"\n[data]\nsource = "jsonl"\npath = "own.jsonl"\n'
        'columns = { question = "q", answer = "a", document = "d" }\nsplit = { train = 0.6, dev = 0.2, test = 0.2 }\n'
    )
    (tmp_path / "tag.toml").write_text(
        'task = "tag"\n[model]\nbase = "base"\n[train]\nkeep_best = "last"\n[data]\nsource = "bio_ner"\npath = "x.tsv"\n'
    )
    lines = (f"Gout{n}\tB-Disease\nhurts\tO\n\n" for n in range(400))
    (tmp_path / "x.tsv").write_text("".join(lines))
    return tmp_path


WARNED = ("data.max_tokens = 25 leaves out ", " train rows (")
GONE = {
    "data.max_tokens=9": "data.max_tokens = 9 leaves no rows in train (0 of ",
    "data.split={train=1.0,dev=0.0,test=0.0}": "data.split leaves no rows to evaluate on: dev and test are 0; raise one of them",
}


def test_check_and_plan_tell_what_is_left_out_and_that_nothing_is_left(folder: Path) -> None:
    for command in (("check", "r.toml"), ("plan", "r.toml", "--gpu", "h200")):
        done = attack(*command, *sets(f"model.base={folder}/base", "data.max_tokens=25"), cwd=folder)
        assert (done.code, [word for word in (*WARNED, "warning") if word not in done.out]) == (0, [])
        for setting, message in GONE.items():
            refused(attack(*command, *sets(f"model.base={folder}/base", setting), cwd=folder), message)


def test_a_preview_says_which_rows_a_run_will_not_see(folder: Path) -> None:
    done = attack("preview", "r.toml", "-n", "60", *sets(f"model.base={folder}/base", "data.max_tokens=25"), cwd=folder)
    assert done.out.count("longer than data.max_tokens = 25: a run leaves it out") == 36


def test_a_run_ends_before_it_loads_the_base(warm: Cli, folder: Path) -> None:
    for setting, message in GONE.items():
        done = warm("run", folder / "r.toml", "--runs", folder / "runs", *sets(f"model.base={folder}/base", setting))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith(message)
        assert "\nload " not in done.stdout


def test_a_tagging_run_without_rows_to_evaluate_on_is_told_at_once(warm: Cli, folder: Path) -> None:
    setting, message = list(GONE.items())[1]
    refused(attack("check", "tag.toml", *sets(f"model.base={folder}/base", setting), cwd=folder), message)
    done = warm("run", folder / "tag.toml", "--runs", folder / "runs", *sets(f"model.base={folder}/base", setting))
    assert (done.returncode, done.stderr.startswith(message), done.stdout) == (2, True, "")
    done = attack(
        "check", "tag.toml", *sets(f"model.base={folder}/base", "data.max_tokens=3", "tag.overlap=0"), cwd=folder
    )
    refused(done, "row x:1: a word of ", "does not fit into 2 tokens; raise data.max_tokens")
