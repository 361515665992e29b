"""Tool calls and tool results as a base's own template writes them: its ids, the calls supervised, one line where it cannot."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import TemplateError
from medrecipes.data.records import Conversation, Message
from medrecipes.recipe.schema import Data, Recipe
from medrecipes.rendering.base_template import base_template, own_text
from medrecipes.rendering.chat_template import OWN, ChatTemplate
from medrecipes.rendering.overflow import fit_parts
from medrecipes.rendering.tokenizer import Tokenizer
from tests import families
from tests.test_reasoning import CALL, TOOLS, bundled, chat, dialogue, extra, proved, supervised

ONE, TWO = ({"id": id, **CALL} for id in ("abcdefgh1", "abcdefgh2"))
RESULT = '{"mg": 2, "said": "a \\"b\\" é"}\n next '
SPOKEN, BRIEF = Message("user", " What dose?"), Message("system", "Be brief.")


def calls(*made: Any, text: str = "") -> Message:
    return Message("assistant", text, extra=extra(tool_calls=list(made)))


def result(text: str, call: Any = ONE) -> Message:
    return Message("tool", text, extra=extra(name="dose", tool_call_id=call["id"]))


def told(message: Message) -> Message:
    """A first turn that brings the tools along."""
    return replace(message, extra=extra(tools=TOOLS))


ROWS = [
    dialogue(told(BRIEF), SPOKEN, calls(ONE), result(RESULT), Message("assistant", "Two milligrams."), id="system"),
    dialogue(told(SPOKEN), calls(ONE), result("2 mg"), Message("assistant", "2 mg."), Message("user", "Thanks"), Message("assistant", "Welcome."), id="goes on"),
    dialogue(told(SPOKEN), calls(ONE), id="ends with a call"),
    dialogue(told(SPOKEN), Message("assistant", "Ask a doctor."), id="not called"),
    dialogue(Message("user", "Hi"), Message("assistant", "Hello."), id="no tools"),
]  # fmt: skip
SEVERAL = dialogue(told(SPOKEN), calls(ONE, TWO), result("2 mg"), result("3 mg", TWO), Message("assistant", "5 mg."), id="several")  # fmt: skip
TALKING = dialogue(
    told(SPOKEN), calls(ONE, text="Let me look."), result("2 mg"), Message("assistant", "2."), id="talking"
)

# in the styles of makers, written for these tests
MISTRAL = """{%- if messages[0].role == 'system' -%}{%- set head = messages[0].content + '\n\n' -%}{%- set rest = messages[1:] -%}{%- else -%}{%- set head = '' -%}{%- set rest = messages -%}{%- endif -%}
{{- bos_token -}}
{%- set ns = namespace(asked=0) -%}{%- for message in rest -%}{%- if message.role == 'user' -%}{%- set ns.asked = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for message in rest -%}
    {%- if message.role == 'user' -%}
        {%- if tools is not none and loop.index0 == ns.asked -%}{{- '[AVAILABLE_TOOLS] ' + tools | tojson + '[/AVAILABLE_TOOLS]' -}}{%- endif -%}
        {{- '[INST] ' + (head if loop.index0 == ns.asked else '') + message.content + '[/INST]' -}}
    {%- elif message.tool_calls is defined and message.tool_calls is not none -%}
        {{- '[TOOL_CALLS] [' -}}
        {%- for call in message.tool_calls -%}
            {%- if call.id | length != 9 -%}{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') -}}{%- endif -%}
            {{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' + (']' + eos_token if loop.last else ', ') -}}
        {%- endfor -%}
    {%- elif message.role == 'assistant' -%}
        {{- ' ' + message.content + eos_token -}}
    {%- elif message.role == 'tool' -%}
        {{- '[TOOL_RESULTS] ' + {'content': message.content, 'call_id': message.tool_call_id} | tojson + '[/TOOL_RESULTS]' -}}
    {%- endif -%}
{%- endfor -%}"""
CHATML = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
HERMES = """{{- '<|im_start|>system\nYou call functions. <tools>' }}
{%- for tool in tools %} {{- tool | tojson }}{% endfor %}
{{- '</tools><|im_end|>\n' }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- if loop.previtem and loop.previtem.role != 'tool' %}{{- '<|im_start|>tool\n' }}{% endif %}
        {{- '<tool_response>\n' + message.content }}
        {{- '\n</tool_response>' + ('<|im_end|>\n' if loop.last or loop.nextitem.role != 'tool' else '\n') }}
    {%- elif message.role == 'assistant' and message.tool_calls is defined %}
        {{- '<|im_start|>assistant' }}
        {%- for call in message.tool_calls %}
            {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}
"""


def alone(text: str) -> Callable[[Path], None]:
    """A base whose only chat template this is."""

    def write(place: Path) -> None:
        (place / "chat_template.jinja").write_text(text, encoding="utf-8")

    return write


def two(place: Path) -> None:
    """A base with a template for tools beside its usual one, in the file of its tokenizer."""
    (place / "chat_template.jinja").unlink()
    config = json.loads((place / "tokenizer_config.json").read_text(encoding="utf-8"))
    both = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": HERMES}]
    (place / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": both}), encoding="utf-8")


def two_files(place: Path) -> None:
    """The same in files of their own, as newer versions of transformers keep them."""
    alone(CHATML)(place)
    (place / "additional_chat_templates").mkdir()
    (place / "additional_chat_templates" / "tool_use.jinja").write_text(HERMES, encoding="utf-8")


def made(place: Path, family: str, write: Callable[[Path], None], real: str | None = None) -> Path:
    """A base's folder, with the makers' tokenizer in place of one of its kind where that is at hand."""
    shutil.copytree(families.folder(family), place)
    if real and (data := os.environ.get("MEDRECIPES_DATA")):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            packed = Path(data) / "tokenizers" / real / f"{name}.gz"
            (place / name).write_bytes(gzip.decompress(packed.read_bytes()))
    write(place)
    return place


def own(folder: Path, rows: Sequence[Conversation] = ROWS) -> ChatTemplate:
    return base_template(Recipe(), Tokenizer(folder), "a base", rows)


def ends(call: str, *texts: str) -> list[list[str]]:
    """What is supervised in the four rows with tools."""
    two_mg, done, thanks, asked = texts
    return [[call, two_mg], [call, done, thanks], [call], [asked]]


ARGUMENTS = '{"drug": "salbutamol", "for": "Kinder über 4"}'
NAMED = f'{{"name": "dose", "arguments": {ARGUMENTS}}}'
SAID = ("Two milligrams.", "2 mg.", "Welcome.", "Ask a doctor.")
# the tokenizer, the template, and what of the rows is supervised
BASES: dict[str, tuple[str, Callable[[Path], None], list[list[str]]]] = {
    "Llama 3.1": ("llama3", alone(bundled("llama3_1")), ends(f'{{"name": "dose", "parameters": {ARGUMENTS}}}<|eot_id|>', *(f"{t}<|eot_id|>" for t in SAID))),
    "Mistral's style": ("mistral-v3", alone(MISTRAL), ends(f'[TOOL_CALLS] [{NAMED[:-1]}, "id": "abcdefgh1"}}]</s>', *(f"{t}</s>" for t in SAID))),
    "Hermes' style": ("qwen3", two, ends(f"<tool_call>\n{NAMED}\n</tool_call><|im_end|>", *(f"{t}<|im_end|>" for t in SAID))),
    "Hermes' style, in files": ("qwen3", two_files, ends(f"<tool_call>\n{NAMED}\n</tool_call><|im_end|>", *(f"{t}<|im_end|>" for t in SAID))),
    "Qwen 2.5": ("qwen3", alone(bundled("qwen2_5")), ends(f"<tool_call>\n{NAMED}\n</tool_call><|im_end|>", *(f"{t}<|im_end|>" for t in SAID))),
    "gpt-oss": ("gpt-oss", alone(bundled("gptoss")), ends(f" to=functions.dose<|channel|>commentary json<|message|>{ARGUMENTS}<|call|>", *(f"<|channel|>final<|message|>{t}{'<|end|>' if t == '2 mg.' else '<|return|>'}" for t in SAID))),
}  # fmt: skip


@pytest.mark.parametrize("name", BASES)
def test_no_id_differs_from_the_bases_own_template_and_calls_are_supervised(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer
    from transformers.utils import chat_template_utils

    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2024, 7, 26)

    monkeypatch.setattr(chat_template_utils, "datetime", Now)  # gpt-oss's template asks for the day

    family, write, learned = BASES[name]
    folder = made(tmp_path / "base", family, write, {"Llama 3.1": "llama3_1", "Qwen 2.5": "qwen3"}.get(name))
    ours, theirs = own(folder), AutoTokenizer.from_pretrained(folder)
    rows = [*ROWS, SEVERAL] if name not in ("Llama 3.1", "gpt-oss") else ROWS  # these two take one call a turn
    assert ours.name == OWN
    proved(ours, rows)
    differing = []
    for row, example in zip(rows, ours.examples(rows), strict=True):
        given = {
            "tokenize": True,
            "return_dict": True,
            "tools": row.messages[0].more.get("tools"),
            "enable_thinking": False,
        }
        whole = theirs.apply_chat_template(chat(row.messages), **given)["input_ids"]
        asked = theirs.apply_chat_template(chat(row.prompt()), add_generation_prompt=True, **given)["input_ids"]
        differing += [row.id] * (example.input_ids != whole or ours.prompts([row.prompt()]) != [asked])
    assert differing == []
    assert [supervised(ours, row) for row in ROWS[:4]] == learned
    for stretches in learned:  # generation stops where each ends
        assert all(any(text.endswith(stop) for stop in (*ours.stops, "<|end|>")) for text in stretches)


def refused(folder: Path, rows: Sequence[Conversation]) -> str:
    with pytest.raises(TemplateError) as error:
        fit_parts(own(folder, rows), {"train": rows[:1], "dev": rows[1:]}, Data())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_a_base_cannot_write_is_one_line_with_the_rows(tmp_path: Path) -> None:
    gemma = made(tmp_path / "gemma", "gemma", alone(bundled("gemma3")))
    assert refused(gemma, ROWS) == (
        '4 of 5 rows (system, goes on, ends with a call, …) hold tool calls or tool results, which template "the base\'s own" '
        "does not write; drop them, or choose a base whose chat template does"
    )
    llama = made(tmp_path / "llama", "llama3", alone(bundled("llama3_1")))
    said = refused(llama, [*ROWS, SEVERAL])
    assert said.startswith("1 of 6 rows (several) ")
    assert "This model only supports single tool-calls at once!" in said
    said = refused(llama, [*ROWS, TALKING, replace(TALKING, id="too")])
    assert said.startswith("2 of 7 rows (talking, too) ")
    assert "leaves out the content of turn 2 (assistant)" in said
    mistral = made(tmp_path / "mistral", "mistral-v3", alone(MISTRAL))
    bare = replace(ROWS[2], messages=(told(SPOKEN), calls(CALL)), id="without an id")
    assert refused(mistral, [ROWS[0], bare]).startswith("1 of 2 rows (without an id) ")


def test_a_base_with_a_template_for_tools_keeps_its_usual_one_for_rows_without(tmp_path: Path) -> None:
    folder = made(tmp_path / "base", "qwen3", two)
    assert own(folder, ROWS[4:]).render(ROWS[4].messages) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"  # fmt: skip
    assert "You call functions" not in own(folder).render(ROWS[4].messages)
    assert "You call functions" in own(folder).render(ROWS[3].messages)
    assert own_text(made(tmp_path / "plain", "qwen3", alone(CHATML))) == CHATML
