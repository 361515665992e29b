"""Conversations that are too long: what is cut, what always survives, and what is counted."""

from __future__ import annotations

import pytest

from medrecipes.errors import TemplateError
from medrecipes.overflow import cut_middle, fit, split_cue
from medrecipes.proofs import prove
from medrecipes.records import Conversation, Message
from medrecipes.rendering import MASKED
from tests.test_templates import FAMILY, bound

ARTICLE = " ".join(f"Sentence {n} names aspirin." for n in range(60))
CUE = "List of extracted chemicals:"
LONG_QUESTION = Conversation.of("long-question", "doc", f"Article: {ARTICLE}\n\n{CUE}\n", "- aspirin\n- ibuprofen")
LONG_ANSWER = Conversation.of("long-answer", "doc", "What does it name?", ARTICLE)
SHORT = Conversation.of("short", "doc", "What is asthma?", "A disease.")
ROWS = [SHORT, LONG_QUESTION, LONG_ANSWER]


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
    fitted = fit(template, ROWS, 100, "shorten_context")
    assert [example.id for example in fitted.examples] == ["short", "long-question"]
    assert fitted.dropped == {"longer than max_tokens": ["long-answer"]}  # no question can be cut for this answer
    assert fitted.counts == {"shorten_context": 1}
    example, shown = fitted.examples[1], fitted.conversations[1]
    assert len(example.input_ids) <= 100
    assert template.stop_id in [label for label in example.labels if label != MASKED]
    assert shown.question.startswith("Article: ")
    assert shown.question.endswith(f"\n{CUE}\n")
    assert shown.answer == LONG_QUESTION.answer
    assert not example.cut
    prove(template, fitted.conversations, fitted.examples, template.stop_ids)


@pytest.mark.parametrize("name", FAMILY)
def test_a_shortened_answer_keeps_the_prompt_and_is_not_taught_to_stop(name: str) -> None:
    template = bound(name)
    fitted = fit(template, ROWS, 100, "shorten_answer")
    assert [example.id for example in fitted.examples] == ["short", "long-answer"]
    assert fitted.counts == {"shorten_answer": 1}
    example, shown = fitted.examples[1], fitted.conversations[1]
    [asked] = template.prompts([LONG_ANSWER.prompt()])
    assert 90 <= len(example.input_ids) <= 100
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
