"""How others serve an export: Ollama's Modelfile and vLLM's command, both made from the template that was trained."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from medrecipes.core.errors import TemplateError
from medrecipes.core.files import write_text
from medrecipes.data.records import Message, Role
from medrecipes.engines import Decoding
from medrecipes.engines.bases import Base
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.chat_template import TEMPLATE, ChatTemplate
from medrecipes.rendering.template_shapes import Control, Thoughts

MODELFILE, NOTES = "Modelfile", "SERVING.md"
TURNS: tuple[Role, ...] = ("user", "assistant", "user", "assistant", "user")


@dataclass(frozen=True)
class Turns:
    """A chat template as plain literals around the contents, which is all that Go's template language can say."""

    first: str  # before the first user's text
    later: str  # before every later one
    system: tuple[str, str]  # around the system message, the first user's opening included
    asked: str  # between a user's text and an answer that is known already
    cue: str  # after the last user's text: here the assistant answers
    end: str  # after an answer


def turns_of(template: ChatTemplate) -> Turns:
    """Read the literals off the template's own renderings; raise where they are not the same at every turn."""
    bare = ChatTemplate(
        template.name, template.tokenizer, template.text, thinking=template.thinking, supervision=template.supervision
    )  # the recipe's system message is SYSTEM's
    plain, system = _literals(bare, TURNS), _literals(bare, ("system", *TURNS))
    first, *between, cue = [text for text, _ in plain]
    asked, answered = between[::2], between[1::2]
    text, learned = plain[2]
    end, later = text[:learned], text[learned:]
    same = len(set(asked)) == len(set(answered)) == 1 and [text for text, _ in system[2:]] == [
        text for text, _ in plain[1:]
    ]
    if not same:
        raise TemplateError(
            f"template {template.name!r} changes from turn to turn, which an Ollama Modelfile cannot say"
        )
    bos = bos_of(template)
    before = system[0][0].removeprefix(bos), system[1][0]
    return Turns(first.removeprefix(bos), later, before, asked[0], cue, end)


def bos_of(template: ChatTemplate) -> str:
    """The BOS that a server puts before every prompt itself; none where a template never writes it, or at every turn, as
    ChatML models do whose BOS is `<|im_start|>`."""
    bos = template.tokenizer.named.get("bos_token", "")
    parts = template.parts([Message(role, "content") for role in TURNS], ask=True)
    once = sum(isinstance(part, Control) and part.text == bos for part in parts) == 1
    return bos if once or template.bos_every_turn else ""


def _literals(template: ChatTemplate, roles: tuple[Role, ...]) -> list[tuple[str, int]]:
    """The texts around the contents of a conversation, each with how much of it belongs to the answer before it."""
    found, text, learned = [], "", 0
    for part in template.parts([Message(role, "content") for role in roles], ask=True):
        for piece in (part.text,) if isinstance(part, Control) else part.pieces:
            if isinstance(piece, str):
                text += piece
                learned = len(text) if part.supervised else learned
            else:
                found.append((text, learned))
                text, learned = "", 0
    return [*found, (text, learned)]


def go_template(template: ChatTemplate) -> str:
    """The template for Ollama, which puts BOS before a prompt itself and merges a system message into `.Messages`."""
    turns = turns_of(template)
    say = {name: json.dumps(text, ensure_ascii=False) for name, text in vars(turns).items() if isinstance(text, str)}
    before, after = (json.dumps(text, ensure_ascii=False) for text in turns.system)
    return "\n".join([
        "{{- range $i, $message := .Messages -}}",
        '{{- if eq $message.Role "system" -}}',
        f"{{{{- {before} -}}}}{{{{- $message.Content -}}}}{{{{- {after} -}}}}",
        '{{- else if eq $message.Role "user" -}}',
        f"{{{{- if eq $i 0 -}}}}{{{{- {say['first']} -}}}}",
        f"{{{{- else if not (and $.System (eq $i 1)) -}}}}{{{{- {say['later']} -}}}}{{{{- end -}}}}",
        "{{- $message.Content -}}",
        '{{- else if eq $message.Role "assistant" -}}',
        f"{{{{- {say['asked']} -}}}}{{{{- $message.Content -}}}}{{{{- {say['end']} -}}}}",
        "{{- end -}}",
        "{{- end -}}",
        f"{{{{- {say['cue']} -}}}}",
    ])  # fmt: skip


def modelfile(gguf: str, recipe: Recipe, template: ChatTemplate) -> str:
    """Ollama's Modelfile beside a GGUF: the template, every stop token, the system message, and the decoding evaluated with."""
    lines = [f"FROM ./{gguf}", f'TEMPLATE """{go_template(template)}"""']
    if '"""' in (template.system or ""):
        raise TemplateError('the system message holds """, which ends it in an Ollama Modelfile; say it otherwise')
    if template.system:
        lines.append(f'SYSTEM """{template.system}"""')
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in template.stops]
    # all three, for Ollama's own defaults draw answers and punish repetition
    decoding = Decoding.of(recipe)
    lines += [f"PARAMETER temperature {decoding.temperature:g}", f"PARAMETER top_p {decoding.top_p:g}", f"PARAMETER repeat_penalty {decoding.repetition_penalty:g}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def reasoning_parser(template: ChatTemplate) -> str | None:
    """vLLM's name of what tells thoughts from answers, where a template has the model think; by who opens the thought."""
    thoughts = template.thoughts
    if not template.thinking or not isinstance(thoughts, Thoughts) or "</think>" not in thoughts.behind:
        return None
    return "qwen3" if thoughts.before else "deepseek_r1"


def llama_server(gguf: str, template: ChatTemplate) -> str:
    """llama.cpp's server, which has models think unless it is told not to."""
    words = ["llama-server", "-m", gguf, "--jinja"]
    if template.switches_thinking and not template.thinking:
        words += ["--chat-template-kwargs", json.dumps({"enable_thinking": False})]
    return shlex.join(words)


def vllm_command(kind: str, recipe: Recipe, template: ChatTemplate, base: Base, name: str) -> str:
    """What serves an export with vLLM; run it in the export's folder."""
    model, *options = vllm_arguments(kind, recipe, template, base, name)
    return shlex.join(["vllm", "serve", model, *options])


def vllm_arguments(
    kind: str, recipe: Recipe, template: ChatTemplate, base: Base, name: str, folder: str = "."
) -> list[str]:
    """The model and the options of vLLM's server, for an adapter or merged weights in a folder."""
    decoding = Decoding.of(recipe)
    evaluated = {"temperature": decoding.temperature, "top_p": decoding.top_p, "repetition_penalty": decoding.repetition_penalty}  # fmt: skip
    file = TEMPLATE if folder == "." else f"{folder}/{TEMPLATE}"
    always = ["--chat-template", file, "--generation-config", folder, "--override-generation-config", json.dumps(evaluated)]  # fmt: skip
    if parser := reasoning_parser(template):
        always += ["--reasoning-parser", parser]
    if recipe.model.trust_remote_code:
        always.append("--trust-remote-code")
    if kind != "adapter":
        return [folder, "--served-model-name", name, *always]
    lora = [
        "--enable-lora",
        "--max-lora-rank",
        str(max_lora_rank(recipe.lora.rank)),
        "--lora-modules",
        f"{name}={folder}",
    ]
    revision = ["--revision", base.revision] if base.revision else []
    return [base.name, *revision, "--tokenizer", folder, *lora, *always]


def max_lora_rank(rank: int) -> int:
    """The smallest limit that vLLM knows and the adapter fits in."""
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)


@dataclass(frozen=True)
class Served:
    """An export that is to be served: of which kind, the GGUF file if it is one, and under which name."""

    kind: str
    gguf: str | None
    name: str


def write(folder: Path, served: Served, recipe: Recipe, template: ChatTemplate, base: Base) -> list[str]:
    """Put what serves an export into its folder; returns the commands."""
    kind, gguf, name = served.kind, served.gguf, served.name
    if gguf:
        write_text(folder / MODELFILE, modelfile(gguf, recipe, template))
        commands = [f"ollama create {name} -f {MODELFILE}", f"ollama run {name}", llama_server(gguf, template)]
    else:
        commands = [vllm_command(kind, recipe, template, base, name)]
    lines = ["# Serving", "", "In this folder:", "", "```bash", *commands, "```", ""]
    if template.system:
        lines += ["Trained with this system message; send it where the server does not add it:", "", f"> {template.system}", ""]  # fmt: skip
    write_text(folder / NOTES, "\n".join(lines))
    return commands
