"""What others serve with says what was trained: Ollama's Go template against ours, and the stops of both."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import lru_cache
from itertools import product
from pathlib import Path

import pytest

from medrecipes.core.errors import TemplateError
from medrecipes.data.records import Message
from medrecipes.engines.bases import Base
from medrecipes.recipe.schema import Recipe, template_names
from medrecipes.release.export.serving import bos_of, go_template, llama_server, modelfile, vllm_command
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.tokenizer import Tokenizer
from tests import families, gotemplate
from tests.test_templates import FAMILY

TURNS = (
    "What is asthma?",
    "A disease of the {{ airways }}.",
    'Is it "bad"?\n\nTell me.',
    "<b>No</b>, é ü 日本.",
    "Thanks\\n",
)
TALKS = [
    [Message("system", "Be brief.")] * system
    + [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(TURNS[:length])]
    for system, length in product((0, 1), (1, 3, 5))
]
RECIPE = Recipe()
GO = shutil.which("go")
PROGRAM = """package main
import ("encoding/json"; "os"; "text/template")
type message struct { Role, Content string }
type row struct { Template, System string; Messages []message }
func main() {
  var rows []row; var said []string
  if err := json.NewDecoder(os.Stdin).Decode(&rows); err != nil { panic(err) }
  for _, r := range rows {
    t := template.Must(template.New("").Option("missingkey=zero").Parse(r.Template))
    var b buffer
    if err := t.Execute(&b, map[string]any{"System": r.System, "Messages": r.Messages, "Response": ""}); err != nil { panic(err) }
    said = append(said, string(b))
  }
  json.NewEncoder(os.Stdout).Encode(said)
}
type buffer []byte
func (b *buffer) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }
"""


@lru_cache
def bound(name: str, system: str | None = None) -> ChatTemplate:
    return ChatTemplate(name, Tokenizer(families.folder(FAMILY[name])), system=system)


def handed(messages: list[Message]) -> list[dict[str, str]]:
    return [{"Role": m.role, "Content": m.content} for m in messages]


def ours(template: ChatTemplate, messages: list[Message]) -> str:
    """The prompt of training, but for the BOS that Ollama puts before every prompt itself."""
    return template.render(messages, ask=True).removeprefix(bos_of(template))


def test_all_templates_are_here() -> None:
    assert len(template_names()) >= 10
    assert set(template_names()) <= set(FAMILY)


@pytest.mark.parametrize("name", template_names())
def test_the_prompt_that_ollama_makes_is_ours(name: str) -> None:
    template = bound(name)
    for messages in TALKS:
        assert gotemplate.render(go_template(template), handed(messages)) == ours(template, messages)


@pytest.mark.skipif(GO is None, reason="no Go here to render its templates with; tests/gotemplate.py stands for it")
def test_go_itself_makes_the_same_prompts(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text(PROGRAM)
    cases = [(bound(name), messages) for name in template_names() for messages in TALKS]
    rows = [
        {"Template": go_template(template), "Messages": handed(messages),
         "System": "\n\n".join(m.content for m in messages if m.role == "system")}
        for template, messages in cases
    ]  # fmt: skip
    done = subprocess.run([str(GO), "run", str(tmp_path / "main.go")], input=json.dumps(rows), capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [ours(template, messages) for template, messages in cases]


def test_the_interpreter_knows_what_go_trims_and_how_it_chooses() -> None:
    one = [{"Role": "user", "Content": " a "}]
    assert gotemplate.render("x \n{{- if eq 1 2 }}no{{ else }} yes {{ end -}}\n z", one) == "x yes z"
    assert gotemplate.render("{{ range $i, $m := .Messages }}[{{ $m.Content }}]{{ end }}{{ $.System }}", one) == "[ a ]"
    assert gotemplate.render('{{ if and $.System (eq 1 1) }}s{{ else if not (eq 1 2) }}{{ "}}\\n" }}{{ end }}', one) == "}}\n"  # fmt: skip


def test_the_modelfile_in_full() -> None:
    assert modelfile("model-q8_0.gguf", RECIPE, bound("gemma", "Be brief.")) == (
        "FROM ./model-q8_0.gguf\n"
        'TEMPLATE """{{- range $i, $message := .Messages -}}\n'
        '{{- if eq $message.Role "system" -}}\n'
        '{{- "<start_of_turn>user\\n" -}}{{- $message.Content -}}{{- "\\n\\n" -}}\n'
        '{{- else if eq $message.Role "user" -}}\n'
        '{{- if eq $i 0 -}}{{- "<start_of_turn>user\\n" -}}\n'
        '{{- else if not (and $.System (eq $i 1)) -}}{{- "\\n<start_of_turn>user\\n" -}}{{- end -}}\n'
        "{{- $message.Content -}}\n"
        '{{- else if eq $message.Role "assistant" -}}\n'
        '{{- "<end_of_turn>\\n<start_of_turn>model\\n" -}}{{- $message.Content -}}{{- "<end_of_turn>" -}}\n'
        "{{- end -}}\n"
        "{{- end -}}\n"
        '{{- "<end_of_turn>\\n<start_of_turn>model\\n" -}}"""\n'
        'SYSTEM """Be brief."""\n'
        'PARAMETER stop "<end_of_turn>"\n'
        'PARAMETER stop "<eos>"\n'
        "PARAMETER temperature 0\n"
        "PARAMETER top_p 1\n"
        "PARAMETER repeat_penalty 1\n"
    )


@pytest.mark.parametrize("name", template_names())
def test_the_modelfile_stops_at_every_stop_token(name: str) -> None:
    template = bound(name)
    stops = [
        json.loads(s)
        for s in re.findall(r"^PARAMETER stop (.+)$", modelfile("model-q8_0.gguf", RECIPE, template), re.MULTILINE)
    ]
    assert stops == template.stops
    assert len(stops) >= 1


def test_the_recipes_system_message_is_said_once() -> None:
    written = modelfile("model-q8_0.gguf", RECIPE, bound("llama3", "You are a doctor."))
    assert written.count("You are a doctor.") == 1


def test_a_system_message_that_a_modelfile_cannot_hold_is_refused() -> None:
    with pytest.raises(TemplateError, match='the system message holds """, which ends it in an Ollama Modelfile'):
        modelfile("model-q8_0.gguf", RECIPE, bound("llama3", 'Say """.'))


def test_a_template_that_changes_from_turn_to_turn_is_refused() -> None:
    text = bound("mistral-v1").text.replace(
        "{{- '[INST] ' + ns", "{{- '[INST] ' + ('again ' if loop.index > 1 else '') + ns"
    )
    assert text != bound("mistral-v1").text
    odd = ChatTemplate("odd", bound("mistral-v1").tokenizer, text)
    assert "again" in go_template(odd)  # a first turn of its own is fine
    text = text.replace("loop.index > 1", "loop.index > 3")
    with pytest.raises(TemplateError, match="template 'odd' changes from turn to turn"):
        go_template(ChatTemplate("odd", bound("mistral-v1").tokenizer, text))


def test_vllm_serves_adapter_and_merged_weights_with_the_trained_template() -> None:
    base = Base("unsloth/mistral-7b-instruct-v0.2-bnb-4bit", Path("."), "abc123")
    always = (
        " --chat-template chat_template.jinja --generation-config ."
        ' --override-generation-config \'{"temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.0}\''
    )
    mistral = bound("mistral-v1")
    assert vllm_command("adapter", RECIPE, mistral, base, "mine") == (
        "vllm serve unsloth/mistral-7b-instruct-v0.2-bnb-4bit --revision abc123 --tokenizer . --enable-lora "
        "--max-lora-rank 16 --lora-modules mine=." + always
    )
    assert (
        vllm_command("merged-16bit", RECIPE, mistral, base, "mine") == "vllm serve . --served-model-name mine" + always
    )
    large = RECIPE.model_copy(update={"lora": RECIPE.lora.model_copy(update={"rank": 24})})
    assert "--max-lora-rank 32 " in vllm_command("adapter", large, mistral, base, "mine")


@pytest.mark.parametrize(
    ("name", "thinking", "parser", "told"),
    [
        ("qwen3", True, "qwen3", False), ("qwen3", False, None, True), ("deepseek-r1", True, "deepseek_r1", False),
        ("deepseek-r1", False, None, True), ("mistral-v1", False, None, False), ("gemma4", True, None, False),
    ],
)  # fmt: skip
def test_servers_take_thoughts_apart_where_the_model_thinks_and_there_alone(
    name: str, thinking: bool, parser: str | None, told: bool
) -> None:
    template = ChatTemplate(name, Tokenizer(families.folder(FAMILY[name])), thinking=thinking)
    command = vllm_command("merged-16bit", RECIPE, template, Base("b", Path("."), ""), "mine")
    assert re.findall("--reasoning-parser (\\S+)", command) == ([parser] if parser else [])
    no = " --chat-template-kwargs '{\"enable_thinking\": false}'"
    assert llama_server("m.gguf", template) == "llama-server -m m.gguf --jinja" + no * told
