"""From conversations to ids and labels: text stays text, answers are learned, mistakes are one line."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from functools import lru_cache
from pathlib import Path

import pytest

from medrecipes.core.errors import DataError, TemplateError
from medrecipes.data.records import Conversation, Message
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, save_tokenizer
from medrecipes.rendering.tokenizer import Tokenizer
from tests import corpus, families
from tests.test_templates import DIALOGUE, FAMILY, bound

QUESTION = Conversation.of("row-1", "doc", "What is asthma?", "A disease.")


@lru_cache
def tokenizer(family: str) -> Tokenizer:
    return Tokenizer(families.folder(family))


def pieces(template: ChatTemplate, row: Conversation) -> list[tuple[str, bool]]:
    [example] = template.examples([row])
    learned = [label != MASKED for label in example.labels]
    return [(template.tokenizer.token(id), on) for id, on in zip(example.input_ids, learned, strict=True)]


def learned(template: ChatTemplate, row: Conversation) -> list[str]:
    return [piece for piece, on in pieces(template, row) if on]


def test_the_answer_and_its_stop_token_are_learned_and_nothing_else() -> None:
    assert pieces(bound("mistral-v3"), QUESTION) == [
        ("<s>", False), ("[INST]", False), ("▁What", False), ("▁is", False), ("▁ast", False), ("h", False),
        ("ma", False), ("?", False), ("[/INST]", False), ("▁A", True), ("▁disease", True), (".", True), ("</s>", True),
    ]  # fmt: skip


def test_every_answer_of_a_dialogue_is_learned() -> None:
    row = Conversation("row", "doc", DIALOGUE)
    assert learned(bound("mistral-v1"), row) == ["▁", "▁A", "▁disease", ".", "</s>", "▁Welcome", "▁", "</s>"]
    assert learned(bound("llama3"), row) == ["A", "Ġdisease", ".", "<|eot_id|>", "Welcome", "<|eot_id|>"]
    [example] = bound("mistral-v1").examples([row])
    assert example.supervised == 8


def test_the_line_break_after_gemmas_stop_token_is_not_learned() -> None:
    found = pieces(bound("gemma"), QUESTION)
    assert found[-2:] == [("<end_of_turn>", True), ("\n", False)]


@pytest.mark.parametrize("name", FAMILY)
def test_no_content_becomes_a_control_token(name: str) -> None:
    template = bound(name)
    control = set(template.tokenizer.control.values())
    strings = [*template.tokenizer.control, *corpus.CONTROL_STRINGS]
    assert len(strings) >= 27
    plain, *rows = template.examples(
        [QUESTION]
        + [Conversation.of(s, "doc", f"What is {s}? {s}", f"{s} A disease{s}.") for s in strings]
        + [Conversation.of(s, "doc", s, s) for s in strings]
    )
    wanted = [id for id in plain.input_ids if id in control]
    for row in rows:
        assert [id for id in row.input_ids if id in control] == wanted, row.id


def test_merges_that_spell_a_control_token_are_left_out(tmp_path: Path) -> None:
    shutil.copytree(families.folder("mistral-v1"), tmp_path, dirs_exist_ok=True)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    assert "</" in spec["model"]["vocab"]
    spec["model"]["vocab"]["s>"] = 31_999
    spec["model"]["merges"] += [["s", ">"], ["</", "s>"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    [ids] = Tokenizer(tmp_path).encode(["</s>"], continuing=True)
    assert 2 not in ids


def test_a_system_message_of_the_recipe_is_put_before_conversations_that_have_none() -> None:
    template = ChatTemplate("llama3", tokenizer("llama3"), system="Be kind.")
    given = [
        Message("system", "Be kind."), Message("user", "What is asthma?"), Message("assistant", "A disease."),
    ]  # fmt: skip
    assert template.turns(QUESTION.messages) == given
    assert template.turns(DIALOGUE)[0] == Message("system", "Be brief.")
    assert template.render(QUESTION.messages).count("Be kind.") == 1


def test_private_use_characters_in_contents_are_as_good_as_any() -> None:
    row = Conversation.of("row", "doc", "\ue0000\ue001 \ue002", "\ue003 \ue000r1\ue001 \ue002x")
    template = bound("mistral-v3")
    assert template.render(row.messages) == "<s>[INST] \ue0000\ue001 \ue002[/INST] \ue003 \ue000r1\ue001 \ue002x</s>"
    [example] = template.examples([row])
    assert template.tokenizer.decode([example.input_ids])[0].endswith("\ue003 \ue000r1\ue001 \ue002x")


@pytest.mark.parametrize("family", ["mistral-v1", "mistral-v3"])
def test_looking_words_up_gives_the_ids_of_the_whole_text(family: str) -> None:
    texts = [message.content for row in corpus.conversations() for message in row.messages]
    by_words, whole = Tokenizer(families.folder(family)), Tokenizer(families.folder(family))
    assert by_words._by_words
    whole.__dict__["_by_words"] = False
    for continuing in (True, False):
        assert by_words.encode(texts, continuing=continuing) == whole.encode(texts, continuing=continuing)


def test_a_vocabulary_with_pieces_over_a_blank_is_not_cut_into_words(tmp_path: Path) -> None:
    shutil.copytree(families.folder("mistral-v3"), tmp_path, dirs_exist_ok=True)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    spec["model"]["vocab"]["s▁and"] = 32_768
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    assert not Tokenizer(tmp_path)._by_words


def test_the_pad_token_is_never_a_stop_token(tmp_path: Path) -> None:
    assert tokenizer("mistral-v1").pad == ("<unk>", 0)
    assert tokenizer("mistral-v3").pad == ("[control_748]", 750)
    assert tokenizer("mistral-v3-tekken").pad == ("<pad>", 11)
    assert tokenizer("llama3").pad == ("<|finetune_right_pad_id|>", 128_004)
    assert tokenizer("gemma").pad == ("<pad>", 0)
    shutil.copytree(families.folder("mistral-v1"), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "</s>"}))
    assert Tokenizer(tmp_path).pad == ("<unk>", 0)
    config = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TemplateError, match="no token can serve as padding"):
        _ = Tokenizer(tmp_path).pad


def test_the_saved_tokenizer_is_the_bases_with_this_template_and_a_pad_token(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(families.folder("llama3"), base)
    config = json.loads((base / "tokenizer_config.json").read_text())
    config |= {"chat_template": "{{ 'another' }}", "tokenizer_class": "LlamaTokenizer", "pad_token": "<|eot_id|>"}
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    template = ChatTemplate("llama3", Tokenizer(base))
    save_tokenizer(template, tmp_path / "adapter")
    saved = json.loads((tmp_path / "adapter" / "tokenizer_config.json").read_text())
    assert "chat_template" not in saved
    assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert saved["pad_token"] == "<|finetune_right_pad_id|>"
    assert saved["eos_token"] == "<|eot_id|>"
    assert (tmp_path / "adapter" / "chat_template.jinja").read_text() == template.text
    assert (tmp_path / "adapter" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


TEXT = "{%- for m in messages -%}{%- if m.role == 'user' -%}[INST]{{ m.content }}[/INST]{%- else -%}ANSWER{%- endif -%}{%- endfor -%}"
MARKED = TEXT.replace("ANSWER", "{% generation %}{{ m.content + eos_token }}{% endgeneration %}")


def mistral_v3(text: str) -> ChatTemplate:
    return ChatTemplate("mine", tokenizer("mistral-v3"), "{# control: [INST] [/INST] #}" + text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT, "template 'mine' has no {% generation %} marks, so nothing would be learned"),
        (MARKED.replace(" + eos_token", ""), "template 'mine' does not end an answer with </s> inside"),
        (MARKED.replace("[INST]", "[TOOL_CALLS]"), "template 'mine' writes [TOOL_CALLS] as text, which is a control"),
        (
            MARKED.replace("endfor", "endfro"),
            "template 'mine' cannot be read, line 1: Encountered unknown tag 'endfro'",
        ),
        (
            MARKED.replace("m.content +", "m.content.strip('.') +"),
            "template 'mine' strips '.' from a content; strip white space alone",
        ),
        (MARKED.replace("[INST]", "{{ raise_exception('no') }}"), "template 'mine' refuses the conversation: no"),
    ],
)
def test_a_template_that_cannot_work_says_why(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as error:
        mistral_v3(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_template_gets_a_suggestion() -> None:
    with pytest.raises(TemplateError, match=r"^template 'lama3' is unknown; did you mean llama3\?$"):
        ChatTemplate("lama3", tokenizer("mistral-v1"))


def test_a_tokenizer_without_a_control_token_of_the_template_is_refused() -> None:
    with pytest.raises(TemplateError) as error:
        ChatTemplate("llama3", tokenizer("mistral-v1"))
    assert str(error.value) == (
        "template 'llama3' needs the control token <|begin_of_text|>, <|start_header_id|>, <|end_header_id|>, <|eot_id|>, "
        f"which the tokenizer of {families.folder('mistral-v1')} lacks; choose the template of this base's family"
    )


def test_a_template_of_an_older_tokenizer_is_refused_where_its_text_has_become_a_control_token() -> None:
    with pytest.raises(TemplateError, match=r"'mistral-v1' writes \[INST\] as text, which is a control token"):
        ChatTemplate("mistral-v1", tokenizer("mistral-v3"))


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("ua a", "row row-7: turn 3 is 'assistant' where 'user' belongs; order the turns as"),
        ("a", "row row-7: turn 1 is 'assistant' where 'user' belongs"),
        ("usa", "row row-7: turn 2 is 'system' where 'assistant' belongs"),
        ("u", "row row-7: the conversation must end with the assistant; drop or complete the last turn"),
        ("", "row row-7: the conversation must end with the assistant"),
    ],
)
def test_roles_out_of_order_name_the_row(roles: str, message: str) -> None:
    names = {"u": "user", "a": "assistant", "s": "system"}
    row = Conversation("row-7", "doc", tuple(Message(names[r], "x") for r in roles if r != " "))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        list(bound("llama3").examples([QUESTION, row]))


def test_an_empty_answer_names_the_row() -> None:
    with pytest.raises(
        DataError, match=r"^row row-7: an answer is empty; there is nothing to learn from it, drop the row$"
    ):
        list(bound("llama3").examples([Conversation.of("row-7", "doc", "q", " \n")]))


def test_half_a_surrogate_pair_names_the_row() -> None:
    for name in ("mistral-v3", "llama3"):
        with pytest.raises(TemplateError, match=r"^row row-7: holds half of a surrogate pair"):
            list(bound(name).examples([QUESTION, Conversation.of("row-7", "doc", "q", "a\ud800")]))


def test_a_folder_without_a_fast_tokenizer_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="the base needs a fast tokenizer: save one there"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [], "model": {"type": "Nonsense"}}')
    with pytest.raises(TemplateError, match="fetch the base again"):
        Tokenizer(tmp_path)


def test_rendered_answers_are_not_kept() -> None:
    template = bound("mistral-v3")
    rows = [Conversation.of(str(n), "", "What is it?", f"{n} " * 2000) for n in range(400)]
    template.render(rows[0].messages)
    tracemalloc.start()
    for row in rows:
        template.render(row.messages)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1e6 < sum(len(row.answer) for row in rows)
