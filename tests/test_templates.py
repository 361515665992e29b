"""The templates against their makers' own code, token id by token id."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from medrecipes.data.records import Conversation, Message
from medrecipes.recipe.schema import template_names
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, save_tokenizer
from medrecipes.rendering.tokenizer import Tokenizer
from tests import corpus, families

# what OpenAI writes before every conversation
HARMONY = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n"
    "Current date: 2024-07-26\n\nReasoning: medium\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>"
)
# each template: the tokenizer it is proved with, what it makes of the question `q`, and of DIALOGUE
PROOFS = {
    "mistral-v1": (
        "mistral-v1",
        "<s>[INST] q [/INST]",
        "<s>[INST] Be brief.\n\n What is asthma?\n [/INST]  A disease.</s>[INST] Thanks [/INST] Welcome </s>",
    ),
    "mistral-v3": (
        "mistral-v3",
        "<s>[INST] q[/INST]",
        "<s>[INST] Be brief.\n\n What is asthma?\n[/INST]  A disease.</s>[INST] Thanks[/INST] Welcome</s>",
    ),
    "mistral-v3-tekken": (
        "mistral-v3-tekken",
        "<s>[INST]q[/INST]",
        "<s>[INST]Be brief.\n\n What is asthma?\n[/INST] A disease.</s>[INST]Thanks[/INST]Welcome</s>",
    ),
    "mistral-v7": (
        "mistral-v7",
        "<s>[INST] q[/INST]",
        "<s>[SYSTEM_PROMPT] Be brief.[/SYSTEM_PROMPT][INST]  What is asthma?\n[/INST]  A disease.</s>"
        "[INST] Thanks[/INST] Welcome</s>",
    ),
    "llama2": (
        "mistral-v1",
        "<s>[INST] q [/INST]",
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n What is asthma? [/INST] A disease. </s>"
        "<s>[INST] Thanks [/INST] Welcome </s>",
    ),
    "llama3": (
        "llama3",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhat is asthma?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA disease.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nThanks<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nWelcome<|eot_id|>",
    ),
    "gemma": (
        "gemma",
        "<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n",
        "<bos><start_of_turn>user\nBe brief.\n\nWhat is asthma?<end_of_turn>\n"
        "<start_of_turn>model\nA disease.<end_of_turn>\n"
        "<start_of_turn>user\nThanks<end_of_turn>\n"
        "<start_of_turn>model\nWelcome<end_of_turn>\n",
    ),
    "gemma3": (
        "gemma",
        "<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n",
        "<bos><start_of_turn>user\nBe brief.\n\nWhat is asthma?<end_of_turn>\n"
        "<start_of_turn>model\nA disease.<end_of_turn>\n"
        "<start_of_turn>user\nThanks<end_of_turn>\n"
        "<start_of_turn>model\nWelcome<end_of_turn>\n",
    ),
    "mistral-v7-tekken": (
        "mistral-v7-tekken",
        "<s>[INST]q[/INST]",
        "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST] What is asthma?\n[/INST] A disease.</s>"
        "[INST]Thanks[/INST]Welcome</s>",
    ),
    "llama4": (
        "llama4",
        "<|begin_of_text|><|header_start|>user<|header_end|>\n\nq<|eot|><|header_start|>assistant<|header_end|>\n\n",
        "<|begin_of_text|><|header_start|>system<|header_end|>\n\nBe brief.<|eot|>"
        "<|header_start|>user<|header_end|>\n\nWhat is asthma?<|eot|>"
        "<|header_start|>assistant<|header_end|>\n\nA disease.<|eot|>"
        "<|header_start|>user<|header_end|>\n\nThanks<|eot|>"
        "<|header_start|>assistant<|header_end|>\n\nWelcome<|eot|>",
    ),
    "gemma4": (
        "gemma4",
        "<bos><|turn>user\nq<turn|>\n<|turn>model\n",
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nWhat is asthma?<turn|>\n<|turn>model\nA disease.<turn|>\n"
        "<|turn>user\nThanks<turn|>\n<|turn>model\nWelcome<turn|>\n",
    ),
    "qwen25": (
        "qwen25",
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n What is asthma?\n<|im_end|>\n"
        "<|im_start|>assistant\nA disease.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n"
        "<|im_start|>assistant\nWelcome<|im_end|>\n",
    ),
    "qwen3": (
        "qwen3",
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n What is asthma?\n<|im_end|>\n"
        "<|im_start|>assistant\nA disease.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\nWelcome<|im_end|>\n",
    ),
    "smollm2": (
        "smollm2",
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n What is asthma?\n<|im_end|>\n"
        "<|im_start|>assistant\nA disease.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n"
        "<|im_start|>assistant\nWelcome<|im_end|>\n",
    ),
    "deepseek-r1": (
        "deepseek-r1",
        "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜><think>\n\n</think>\n\n",
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜> What is asthma?\n<｜Assistant｜>A disease.<｜end▁of▁sentence｜>"
        "<｜User｜>Thanks<｜Assistant｜><think>\n\n</think>\n\nWelcome<｜end▁of▁sentence｜>",
    ),
    "phi4": (
        "phi4",
        "<|im_start|>user<|im_sep|>q<|im_end|><|im_start|>assistant<|im_sep|>",
        "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|> What is asthma?\n<|im_end|>"
        "<|im_start|>assistant<|im_sep|> A disease.<|im_end|><|im_start|>user<|im_sep|>Thanks<|im_end|>"
        "<|im_start|>assistant<|im_sep|>Welcome <|im_end|>",
    ),
    "gpt-oss": (
        "gpt-oss",
        HARMONY + "<|start|>user<|message|>q<|end|><|start|>assistant<|channel|>final<|message|>",
        HARMONY + "<|start|>developer<|message|># Instructions\n\nBe brief.\n\n<|end|>"
        "<|start|>user<|message|> What is asthma?\n<|end|><|start|>assistant<|channel|>final<|message|> A disease.<|end|>"
        "<|start|>user<|message|>Thanks<|end|><|start|>assistant<|channel|>final<|message|>Welcome <|return|>",
    ),
    "question-answer": (
        "mistral-v1",
        "<s>### Question:\nq\n\n### Answer:\n",
        "<s>Be brief.\n\n### Question:\nWhat is asthma?\n\n### Answer:\nA disease.</s>"
        "### Question:\nThanks\n\n### Answer:\nWelcome</s>",
    ),
    "patient-doctor": (
        "mistral-v1",
        "<s>### Patient query:\nq\n\n### Doctor opinion:\n",
        "<s>Be brief.\n\n### Patient query:\nWhat is asthma?\n\n### Doctor opinion:\nA disease.</s>"
        "### Patient query:\nThanks\n\n### Doctor opinion:\nWelcome</s>",
    ),
}
# thoughts are dropped from earlier answers, so that these alone are asked for after another prompt than they were trained after
FORGETFUL = ("qwen3", "deepseek-r1")
FAMILY = {name: tokenizer for name, (tokenizer, _, _) in PROOFS.items()}
DIALOGUE = (
    Message("system", "Be brief."),
    Message("user", " What is asthma?\n"),
    Message("assistant", " A disease."),
    Message("user", "Thanks"),
    Message("assistant", "Welcome "),
)

MISTRAL = {
    "mistral-v1": "tokenizer.model.v1",
    "mistral-v3": "mistral_instruct_tokenizer_240323.model.v3",
    "mistral-v3-tekken": "tekken_240718.json",
    "mistral-v7": "mistral_instruct_tokenizer_241114.model.v7",
    "mistral-v7-tekken": "tekken_240911.json",
}


@lru_cache
def tokenizer(family: str) -> Tokenizer:
    return Tokenizer(families.folder(family))


@lru_cache
def bound(name: str) -> ChatTemplate:
    return ChatTemplate(name, tokenizer(FAMILY[name]))


@lru_cache
def mistral(name: str) -> Callable[[Sequence[Message]], list[int]]:
    """mistral-common's own encoding of a dialogue, request normaliser included."""
    from mistral_common.protocol.instruct import messages as protocol
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    with tempfile.TemporaryDirectory() as folder:
        file = families.mistral_file(MISTRAL[name])
        if (
            name == "mistral-v7-tekken"
        ):  # the file with its version raised: what is bundled has the pieces and control tokens, and an older version
            spec = json.loads(file.read_text(encoding="utf-8"))
            spec["config"]["version"] = "v7"
            file = Path(folder) / "tekken.json"
            file.write_text(json.dumps(spec), encoding="utf-8")
        reference = MistralTokenizer.from_file(str(file), mode=ValidationMode.finetuning)
    kinds = {
        "system": protocol.SystemMessage,
        "user": protocol.UserMessage,
        "assistant": protocol.AssistantMessage,
    }

    def encode(messages: Sequence[Message]) -> list[int]:
        turns = [kinds[m.role](content=m.content) for m in messages]
        return list(reference.encode_chat_completion(ChatCompletionRequest(messages=turns)).tokens)

    return encode


def folded(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The rule of v3: the system message stands in the first user turn, where mistral-common takes the last."""
    if messages[0].role != "system":
        return tuple(messages)
    system, user, *rest = messages
    return (Message("user", f"{system.content}\n\n{user.content}" if system.content else user.content), *rest)


@lru_cache
def llama3() -> Callable[[Sequence[Message]], list[int]]:
    """llama-models' own encoding, without the header that it adds for an answer to come."""
    from llama_models.datatypes import RawMessage
    from llama_models.llama3.chat_format import ChatFormat
    from llama_models.llama3.tokenizer import Tokenizer as Reference

    form = ChatFormat(Reference.get_instance())
    header = form._encode_header("assistant")

    def encode(messages: Sequence[Message]) -> list[int]:
        ids = form.encode_dialog_prompt([RawMessage(role=m.role, content=m.content) for m in messages]).tokens
        return list(ids[: -len(header)])

    return encode


@lru_cache
def llama4() -> Callable[[Sequence[Message]], list[int]]:
    """`encode_message` of llama-models for Llama 4, word for word: its module wants torchvision for the pictures."""
    from llama_models.llama4.tokenizer import Tokenizer as Reference

    reference = Reference.get_instance()
    start, end, eot = (reference.special_tokens[f"<|{name}|>"] for name in ("header_start", "header_end", "eot"))

    def text(part: str) -> list[int]:
        return list(reference.encode(part, bos=False, eos=False))

    def encode(messages: Sequence[Message]) -> list[int]:
        turns = [[start, *text(m.role), end, *text("\n\n"), *text(m.content), eot] for m in messages]
        return [reference.special_tokens["<|begin_of_text|>"], *(id for turn in turns for id in turn)]

    return encode


LLAMA = {"llama3": llama3, "llama4": llama4}


def stripped(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The rule of llama3: contents lose the white space around them."""
    return tuple(Message(m.role, m.content.strip()) for m in messages)


def differing(
    template: ChatTemplate, rows: Iterable[Conversation], reference: Callable[[Sequence[Message]], list[int]]
) -> list[str]:
    rows = list(rows)
    ours = [example.input_ids for example in template.examples(rows)]
    return [row.id for row, ids in zip(rows, ours, strict=True) if ids != reference(row.messages)]


def test_the_corpus_is_as_large_and_as_awkward_as_the_proofs_need() -> None:
    rows = corpus.conversations()
    assert len(rows) >= 300
    assert sum(len(row.messages) > 3 for row in rows) >= 50
    assert sum(row.messages[0].role == "system" for row in rows) >= 50
    assert any(message.content == "" for row in rows for message in row.messages)
    assert any(len(message.content) > 20_000 for row in rows for message in row.messages)
    assert all(any(token in row.answer for row in rows) for token in corpus.CONTROL_STRINGS)


@pytest.mark.parametrize("name", ["mistral-v1", "mistral-v7", "mistral-v7-tekken"])
def test_mistral_v1_and_v7_are_mistral_commons_ids(name: str) -> None:
    assert differing(bound(name), corpus.conversations(), mistral(name)) == []


@pytest.mark.parametrize("name", ["mistral-v3", "mistral-v3-tekken"])
def test_mistral_v3_is_mistral_commons_ids_but_for_the_place_of_the_system_message(name: str) -> None:
    assert differing(bound(name), corpus.conversations(), lambda m: mistral(name)(folded(m))) == []


@pytest.mark.parametrize("name", LLAMA)
def test_llama3_and_llama4_are_llama_models_ids_of_stripped_contents(name: str) -> None:
    rows = corpus.conversations()
    assert differing(bound(name), rows, lambda m: LLAMA[name]()(stripped(m))) == []


def test_the_rule_of_mistral_v3_is_that_the_system_message_stands_first() -> None:
    single, several = DIALOGUE[:3], DIALOGUE
    for name in ("mistral-v3", "mistral-v3-tekken"):
        assert differing(bound(name), [Conversation("one", "", single)], mistral(name)) == []
        assert differing(bound(name), [Conversation("two", "", several)], mistral(name)) == ["two"]
        assert any("folded into the first user turn" in rule for rule in bound(name).differs)
    assert bound("mistral-v3").render(several).startswith("<s>[INST] Be brief.\n\n What is asthma?\n[/INST]  A")


@pytest.mark.parametrize("name", ["mistral-v3", "mistral-v7"])
def test_the_rule_of_reference_documents_is_that_they_stay_text(name: str) -> None:
    row = Conversation.of("row", "", "see [REFERENCE_DOC_3]", "no [REFERENCE_DOC_0]")
    [example] = bound(name).examples([row])
    ids = mistral(name)(row.messages)
    assert {767, 770} < set(ids)
    assert not {767, 770} & set(example.input_ids)
    assert bound(name).tokenizer.decode([example.input_ids])[0].endswith("no [REFERENCE_DOC_0]")
    assert any("[REFERENCE_DOC_0]" in rule for rule in bound(name).differs)


def test_the_rules_of_llama3_are_that_contents_are_stripped_and_words_whole() -> None:
    padded = Conversation.of("padded", "", " q ", "\na")
    plain = Conversation.of("plain", "", "q", "a")
    one, other = bound("llama3").examples([padded, plain])
    assert one.input_ids == other.input_ids
    assert differing(bound("llama3"), [padded, plain], llama3()) == ["padded"]
    word = Conversation.of("word", "", "q", "immuno" * 4200)
    assert differing(bound("llama3"), [word], llama3()) == ["word"]
    assert [rule.split(",")[0].split(" ")[0] for rule in bound("llama3").differs] == [
        "contents",
        "a",
        "default",
        "system:",
    ]


def meta_llama2(messages: Sequence[Message]) -> list[int]:
    """`chat_completion` of Meta's reference code for Llama 2, word for word, on a SentencePiece model of its kind."""
    processor = _processor()
    b_inst, e_inst, b_sys, e_sys = "[INST]", "[/INST]", "<<SYS>>\n", "\n<</SYS>>\n\n"
    dialog = list(messages)
    if dialog[0].role == "system":
        dialog = [Message("user", b_sys + dialog[0].content + e_sys + dialog[1].content), *dialog[2:]]
    ids: list[int] = []
    for prompt, answer in zip(dialog[::2], dialog[1::2], strict=True):
        text = f"{b_inst} {(prompt.content).strip()} {e_inst} {(answer.content).strip()} "
        ids += [processor.bos_id(), *processor.encode(text), processor.eos_id()]
    return ids


@lru_cache
def _processor() -> Any:
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(families.mistral_file("tokenizer.model.v1")))


def test_llama2_is_the_ids_of_metas_reference_code() -> None:
    assert differing(bound("llama2"), corpus.conversations(), meta_llama2) == []


def test_every_template_has_its_proofs() -> None:
    assert template_names() == sorted(PROOFS)
    assert len(PROOFS) >= 18


@pytest.mark.parametrize("name", FAMILY)
def test_a_dialogue_is_rendered_as_published(name: str) -> None:
    _, asked, rendered = PROOFS[name]
    assert bound(name).render([Message("user", "q")], ask=True) == asked
    assert bound(name).render(DIALOGUE) == rendered


@pytest.mark.parametrize("name", FAMILY)
def test_the_head_names_models_source_control_tokens_stop_and_system_rule(name: str) -> None:
    template = bound(name)
    assert set(template.head) - {"bos", "thinking", "tools"} == {"models", "source", "control", "stop", "system"}
    assert all(template.head.values())


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("mistral-v3", ["</s>"]),
        ("llama2", ["</s>"]),
        ("llama3", ["<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"]),
        ("gemma", ["<end_of_turn>", "<eos>"]),
        ("gemma4", ["<turn|>", "<eos>"]),
        ("llama4", ["<|eot|>", "<|end_of_text|>", "<|eom|>"]),
        ("qwen3", ["<|im_end|>", "<|endoftext|>"]),
        ("smollm2", ["<|im_end|>"]),
        ("gpt-oss", ["<|return|>", "<|end|>", "<|call|>"]),
    ],
)
def test_generation_stops_at_all_that_the_maker_stops_at(name: str, stops: list[str]) -> None:
    template = bound(name)
    assert template.stops == stops
    assert template.stop_ids == [template.tokenizer.control[token] for token in stops]
    assert template.stop_id == template.stop_ids[0]


@pytest.mark.parametrize("name", FAMILY)
def test_what_is_asked_is_what_training_put_before_the_answer(name: str) -> None:
    template = bound(name)
    rows = corpus.conversations()
    for row, example in zip(rows, template.examples(rows), strict=True):
        for end, message in enumerate(row.messages):
            if message.role == "assistant" and (name not in FORGETFUL or end + 1 == len(row.messages)):
                [asked] = template.prompts([row.messages[:end]])
                assert example.input_ids[: len(asked)] == asked, row.id
                assert example.labels[len(asked) - 1] == MASKED, row.id
                assert example.labels[len(asked)] != MASKED, row.id


@pytest.mark.parametrize("name", FAMILY)
def test_plain_transformers_gives_the_same_ids_with_the_saved_tokenizer(name: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    template = bound(name)
    save_tokenizer(template, tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved.pad_token_id == template.pad[1]
    assert saved.pad_token_id != template.stop_id
    rows = [row for row in corpus.conversations() if not _holds_control(template, row)]
    assert len(rows) >= 150
    asked = template.prompts([row.prompt() for row in rows])
    for row, example, prompt in zip(rows, template.examples(rows), asked, strict=True):
        chat = [{"role": message.role, "content": message.content} for message in row.messages]
        ids = saved.apply_chat_template(chat[:-1], add_generation_prompt=True, tokenize=True, return_dict=True)
        assert ids["input_ids"] == prompt, row.id
        whole = saved.apply_chat_template(chat, tokenize=True, return_dict=True)
        assert whole["input_ids"] == example.input_ids, row.id


def _holds_control(template: ChatTemplate, row: Conversation) -> bool:
    return any(token in message.content for message in row.messages for token in template.tokenizer.control)
