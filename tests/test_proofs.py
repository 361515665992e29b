"""The proof over all rows finds every way in which a row can be wrong, and says which rows and how many."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import TemplateError
from medrecipes.data.records import Conversation
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, Example
from medrecipes.rendering.proofs import Proof, prove, template_notes, tokenizer_notes
from medrecipes.rendering.tokenizer import Tokenizer
from tests import corpus, families
from tests.test_templates import DIALOGUE, FAMILY, bound, tokenizer

ROWS = [Conversation.of(f"row-{n}", f"doc-{n}", f"What is {n}?", f"It is {n}.") for n in range(3)]
ROWS.append(Conversation("row-3", "doc-3", DIALOGUE))


def failure(name: str, examples: Sequence[Example], rows: Sequence[Conversation] = ROWS) -> str:
    with pytest.raises(TemplateError) as error:
        prove(bound(name), rows, examples, bound(name).stop_ids)
    return str(error.value)


def spoilt(name: str, row: int, **changes: Any) -> list[Example]:
    examples = list(bound(name).examples(ROWS))
    examples[row] = replace(examples[row], **changes)
    return examples


@pytest.mark.parametrize("name", FAMILY)
def test_the_whole_corpus_is_proved(name: str) -> None:
    rows = corpus.conversations()
    examples = list(bound(name).examples(rows))
    proof = prove(bound(name), rows, examples, bound(name).stop_ids)
    assert proof.rows == len(rows) >= 300
    assert proof.answers == sum(message.role == "assistant" for row in rows for message in row.messages)
    assert proof.supervised == sum(label != MASKED for example in examples for label in example.labels)


def test_a_proof_is_one_line_and_plain_json() -> None:
    template = bound("mistral-v3")
    proof = prove(template, ROWS, list(template.examples(ROWS)), template.stop_ids)
    assert str(proof) == "4 rows proved: 5 answers end with a supervised stop token; 25 of 67 tokens supervised (37.3%)"
    assert Proof(**json.loads(json.dumps(proof.to_json()))) == proof
    assert proof.template_sha256 == template.sha256
    assert str(replace(proof, cut=2)).startswith("4 rows proved: 5 answers (but 2, which were cut short) end")


def test_no_rows_are_proved_as_they_are() -> None:
    assert prove(bound("llama3"), [], [], bound("llama3").stop_ids).rows == 0


def test_a_second_bos_is_found() -> None:
    [example] = bound("mistral-v3").examples(ROWS[:1])
    twice = spoilt("mistral-v3", 0, input_ids=[1, *example.input_ids], labels=[MASKED, *example.labels])
    message = failure("mistral-v3", twice)
    assert "template 'mistral-v3': not exactly one BOS: 1 of 4 rows (25.0%), row-0" in message.splitlines()


def test_llama2_has_one_bos_a_user_turn() -> None:
    template = bound("llama2")
    [example] = template.examples(ROWS[3:])
    assert example.input_ids.count(1) == 2
    assert prove(template, ROWS[3:], [example], template.stop_ids).answers == 2


def test_an_unlearned_stop_token_is_found() -> None:
    [example] = bound("llama3").examples(ROWS[:1])
    examples = spoilt("llama3", 0, labels=[*example.labels[:-1], MASKED])
    assert failure("llama3", examples) == (
        "template 'llama3': an answer's stop token is masked: 1 of 4 rows (25.0%), row-0"
    )


def test_a_learned_prompt_is_found() -> None:
    [example] = bound("llama3").examples(ROWS[:1])
    message = failure("llama3", spoilt("llama3", 0, labels=list(example.input_ids)))
    assert "the learned tokens decode to another text than the answer: 1 of 4 rows (25.0%), row-0" in message


def test_an_unlearned_answer_is_found() -> None:
    [example] = bound("llama3").examples(ROWS[:1])
    message = failure("llama3", spoilt("llama3", 0, labels=[MASKED] * len(example.labels)))
    assert "tokens supervised that are no answer, or an answer that is masked: 1 of 4 rows" in message


def test_a_label_that_is_not_its_token_is_found() -> None:
    [example] = bound("llama3").examples(ROWS[:1])
    message = failure("llama3", spoilt("llama3", 0, labels=[*example.labels[:-2], 7, example.labels[-1]]))
    assert "tokens supervised that are no answer, or an answer that is masked: 1 of 4 rows" in message


def test_a_control_token_out_of_content_is_found() -> None:
    [example] = bound("llama3").examples(ROWS[:1])
    eot = bound("llama3").stop_id
    ids = [*example.input_ids[:6], eot, *example.input_ids[6:]]
    message = failure("llama3", spoilt("llama3", 0, input_ids=ids, labels=[MASKED, *example.labels]))
    assert "control tokens that the template did not write: 1 of 4 rows (25.0%), row-0" in message


def test_a_literal_backslash_n_is_found_and_rows_are_named_up_to_five() -> None:
    rows = [Conversation.of(f"row-{n}", "doc", "q", r"one\ntwo" if n < 7 else "one\ntwo") for n in range(10)]
    assert failure("llama3", list(bound("llama3").examples(rows)), rows) == (
        r"template 'llama3': a content holds a literal \n; turn it into a line break: "
        "7 of 10 rows (70.0%), row-0, row-1, row-2, row-3, row-4 and 2 more"
    )


def test_an_answer_that_the_tokenizer_cannot_write_is_found(tmp_path: Path) -> None:
    shutil.copytree(families.folder("mistral-v3"), tmp_path, dirs_exist_ok=True)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    spec["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    template = ChatTemplate("mistral-v3", Tokenizer(tmp_path))
    with pytest.raises(TemplateError, match="decode to another text than the answer: 4 of 4 rows"):
        prove(template, ROWS, list(template.examples(ROWS)), template.stop_ids)


def test_a_template_that_looks_into_contents_is_found() -> None:
    text = bound("mistral-v3").text.replace(
        "{{- '[INST]'", "{%- if 'is 2' in message['content'] -%}two {% endif %}{{- '[INST]'"
    )
    template = ChatTemplate("mistral-v3", bound("mistral-v3").tokenizer, text)
    with pytest.raises(TemplateError, match=r"the text is not what plain Jinja renders: 1 of 4 rows \(25.0%\), row-2"):
        prove(template, ROWS, list(template.examples(ROWS)), template.stop_ids)


def test_a_generation_config_without_a_stop_token_is_found() -> None:
    template = bound("llama3")
    examples = list(template.examples(ROWS))
    with pytest.raises(TemplateError) as error:
        prove(template, ROWS, examples, [template.stop_ids[1]])
    assert str(error.value) == (
        "template 'llama3': generation would not stop at <|eot_id|> <|eom_id|>; "
        "add it to eos_token_id of the generation config"
    )


def test_examples_of_other_rows_are_refused() -> None:
    message = failure("llama3", list(bound("llama3").examples(ROWS[1:])))
    assert message.startswith("the examples are not those of the conversations")


def test_the_makers_tokenizers_need_no_note() -> None:
    assert {name: tokenizer_notes(tokenizer(name)) for name in families.FAMILIES} == {
        name: [] for name in families.FAMILIES
    }
    assert {name: template_notes(bound(name)) for name in FAMILY} == {name: [] for name in FAMILY}


def test_what_transformers_converts_from_a_sentencepiece_model_is_noted(tmp_path: Path) -> None:
    shutil.copy(families.mistral_file("tokenizer.model.v1"), tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    # in a process of its own: another copy of SentencePiece's protocol, imported before, makes transformers take another way
    code = "import sys; from transformers import AutoTokenizer; AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "converted")], check=True, capture_output=True
    )
    converted = Tokenizer(tmp_path / "converted")
    order, dummy = tokenizer_notes(converted)
    assert order.startswith("the tokenizer merges runs of blanks before words, where SentencePiece merges them last")
    assert dummy.startswith("the tokenizer puts no blank before a run of text, where SentencePiece")
    faithful = Tokenizer(families.folder("mistral-v1"))
    assert converted.encode(["a  b"], continuing=True) != faithful.encode(["a  b"], continuing=True)


def test_a_blank_that_tokenizer_and_template_both_write_is_noted(tmp_path: Path) -> None:
    shutil.copytree(families.folder("mistral-v3"), tmp_path, dirs_exist_ok=True)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    spec |= {"normalizer": families.PREPEND, "pre_tokenizer": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    [note] = template_notes(ChatTemplate("mistral-v3", Tokenizer(tmp_path)))
    assert note.startswith("the tokenizer puts a blank before every run of text and template 'mistral-v3' writes one")


@pytest.mark.parametrize(("every", "count"), [(4, 4_106), pytest.param(1, 16_423, marks=pytest.mark.slow)])
def test_all_real_rows_are_proved_in_seconds(every: int, count: int, real_data: Path) -> None:
    rows = [
        Conversation(f"row-{n}", "", messages)
        for n, messages in enumerate(corpus.rows_of(real_data / "medquad" / "medquad.csv.gz", 16_423 // every))
    ]
    template = bound("mistral-v3")
    proof = prove(template, rows, list(template.examples(rows)), template.stop_ids)
    assert (proof.rows, proof.answers) == (count, count)
