"""The chat template of a base: its own, or one of `templates/` that is held against it on probe dialogues."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrecipes.core.errors import LimitError, MedRecipesError, TemplateError, reason
from medrecipes.core.files import read_json
from medrecipes.data.records import Conversation, Message, uses_tools
from medrecipes.recipe.schema import Recipe, template_names, template_path
from medrecipes.rendering.chat_template import OWN, TEMPLATE, ChatTemplate, as_trained
from medrecipes.rendering.template_shapes import Shapes, Supervision
from medrecipes.rendering.tokenizer import Tokenizer


@dataclass(frozen=True)
class Probe:
    """A dialogue on which two templates are held against each other; `system`: it begins with a system message."""

    what: str
    messages: tuple[Message, ...]
    ask: bool = False

    @property
    def system(self) -> bool:
        """Whether it begins with a system message."""
        return self.messages[0].role == "system"


def _dialogue(*contents: str, system: str | None = None) -> tuple[Message, ...]:
    turns = [Message("user" if i % 2 == 0 else "assistant", content) for i, content in enumerate(contents)]
    return tuple([Message("system", system), *turns] if system else turns)


EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
ASKED, ANSWERED = "What is asthma?", "A disease of the airways.\n\nIt comes and goes."
PROBES = (
    Probe("a question", _dialogue(ASKED), ask=True),
    Probe("a question and its answer", _dialogue(ASKED, ANSWERED)),
    Probe("a dialogue", _dialogue(ASKED, ANSWERED, "Is it common?", "Yes.")),
    Probe("a second question", _dialogue(ASKED, ANSWERED, "Is it common?"), ask=True),
    Probe("a system message", _dialogue(ASKED, ANSWERED, system="Be brief."), ask=False),
    Probe("a question under a system message", _dialogue(ASKED, system="Be brief."), ask=True),
)
_TOOL = {"type": "function", "function": {"name": "look", "description": "Looks it up", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}  # fmt: skip
_CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "look", "arguments": {"at": "asthma"}}}


def _with_tools(calls: int, text: str, *, system: bool) -> tuple[Message, ...]:
    """A question under tools, the turn that calls them, what they gave, and the answer."""
    first, *rest = _dialogue(ASKED, system="Be brief." if system else None)
    called = Message("assistant", text, extra=json.dumps({"tool_calls": [_CALL] * calls}))
    results = [Message("tool", f"{n}\n", extra=json.dumps({"name": "look", "tool_call_id": _CALL["id"]})) for n in range(calls)]  # fmt: skip
    first = replace(first, extra=json.dumps({"tools": [_TOOL]}))
    return (first, *rest, called, *results, Message("assistant", ANSWERED))


TOOL_PROBES = tuple(
    probe
    for messages in (
        _with_tools(1, "", system=False),
        _with_tools(2, "", system=True),
        _with_tools(1, "Let me look.", system=True),
    )
    for probe in (
        Probe("a tool call and its result", messages),
        Probe("a tool's result", messages[:-1], ask=True),
        Probe("a tool call", messages[: [m.calls for m in messages].index(True) + 1]),
    )
)
# a base's template for tools, where it has one of its own, by transformers' names: in tokenizer_config.json, or in a file
TOOLS, TOOL_TEMPLATE = "tool_use", "additional_chat_templates/tool_use.jinja"
# what the head of a template may leave out of the comparison, as `differs: TAG: why`
TAGS = ("blanks", "system", "default system", "cue", "thoughts")


@dataclass(frozen=True)
class Difference:
    """A probe that two templates write differently."""

    probe: Probe
    ours: str
    theirs: str


def said_of(recipe: Recipe, template: ChatTemplate) -> str:
    """Which template a run has, and whether it is the base's, in words."""
    if template.own:
        return "the base's own chat template"
    return f"template {template.name}{' (foreign to the base, as the recipe says)' if recipe.template.foreign else ''}"


def saved_template(recipe: Recipe, folder: Path) -> ChatTemplate:
    """The template and tokenizer that lie in a folder: what was trained, whatever has changed in `templates/` since."""
    path = folder / TEMPLATE
    try:
        text = as_trained(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MedRecipesError(f"{path}: cannot be read ({reason(error)}); train the run again with --fresh") from None
    settings = recipe.template
    alike = (name for name in template_names() if template_path(name).read_text(encoding="utf-8") == text)
    name = settings.name or next(alike, OWN)
    try:
        template = _bound(recipe, name, Tokenizer(folder), text)
        template.render([Message("user", ASKED)], ask=True)  # what is wrong with it is said of the file that holds it
        return template
    except TemplateError as error:
        raise type(error)(f"{path}: {error}") from None


def own_text(folder: Path) -> str | None:
    """The chat template that a base is published with, if it has one; where it is published with another for rows that use
    tools, both in one, chosen between as transformers does. Files of their own count alone."""
    named: dict[str, str] = {}
    files = {"default": folder / TEMPLATE, TOOLS: folder / TOOL_TEMPLATE}
    in_files = any(file.exists() for file in files.values())
    config = folder / "tokenizer_config.json"
    written: Any = read_json(config).get("chat_template") if config.exists() else None
    for entry in written if isinstance(written, list) else [{"name": "default", "template": written}]:
        if not in_files and isinstance(entry, dict) and isinstance(entry.get("template"), str):
            named[str(entry.get("name"))] = entry["template"]
    for name, file in files.items():
        if file.exists():
            try:
                named[name] = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise TemplateError(f"{file}: cannot be read ({reason(error)}); fetch the base again") from None
    usual, tools = named.get("default", ""), named.get(TOOLS, "")
    if not usual.strip():
        return None
    if not tools.strip():
        return usual
    tools, usual = (text.removesuffix("\n") for text in (tools, usual))  # as Jinja takes it off a whole template
    return f"{{% if tools %}}\n{tools}{{% else %}}\n{usual}{{% endif %}}"


def base_template(recipe: Recipe, tokenizer: Tokenizer, base: str, rows: Iterable[Conversation] = ()) -> ChatTemplate:
    """The template of a recipe on its base: the named one if it behaves as the base's own, or the base's own.

    A base's own template that behaves as one of `templates/` gets that one, whose answers are marked, unless `rows` use
    tools, which the base's own writes and ours does not, or otherwise.
    """
    try:
        return _base_template(recipe, tokenizer, base, tools=uses_tools(rows))
    except LimitError as error:
        raise LimitError(f"{base}: its own chat template, or that of the recipe: {error}") from None


def _base_template(recipe: Recipe, tokenizer: Tokenizer, base: str, *, tools: bool) -> ChatTemplate:
    settings, own = recipe.template, own_text(tokenizer.folder)
    if settings.name is None:
        if own is None:
            raise TemplateError(
                f"{base} has no chat template of its own; name one of {', '.join(template_names())} as template.name, with "
                "template.foreign = true"
            )
        name = _alike(own, tokenizer, thinking=settings.thinking)
        template = _bound(recipe, name or OWN, tokenizer, None if name else own)
        if tools and not (template.tools and next(differences(template, own, TOOL_PROBES), None) is None):
            return _bound(recipe, OWN, tokenizer, own)
        return template
    template = _bound(recipe, settings.name, tokenizer, None)
    if settings.foreign:
        return template
    if own is None:
        raise TemplateError(
            f"template.name = {settings.name!r}: {base} has no chat template of its own to hold it against; say with "
            "template.foreign = true that this one is meant"
        )
    probes = (*PROBES, *TOOL_PROBES) if tools and template.tools else PROBES
    if found := next(differences(template, own, probes), None):
        raise TemplateError(
            f"template.name = {settings.name!r} is not that of {base}, which would train on other tokens than the base knows: "
            f"for {found.probe.what} it writes {found.ours!r}, the base's own {found.theirs!r}; leave template.name out, or say "
            "with template.foreign = true that this is meant"
        )
    return template


def _bound(recipe: Recipe, name: str, tokenizer: Tokenizer, text: str | None) -> ChatTemplate:
    """A template with the recipe's system message, thinking, and what it supervises."""
    settings = recipe.template
    return ChatTemplate(
        name, tokenizer, text, settings.system, thinking=settings.thinking, supervision=Supervision.of(recipe)
    )


def differences(template: ChatTemplate, own: str, probes: Sequence[Probe] = PROBES) -> Iterator[Difference]:
    """The probes on which a template differs from a base's own in more than what its head lists under `differs:`."""
    bare = Shapes(own, {}, (), template.variables)
    for probe in probes:
        ours, theirs = _written(template.shapes, probe), _written(bare, probe)
        if not _same(ours, theirs, probe, tags(template), template.tokenizer.named.get("bos_token", "")):
            yield Difference(probe, ours, theirs)


def tags(template: ChatTemplate) -> set[str]:
    """What the head leaves out of the comparison with a base's own template."""
    return {tag for tag in TAGS for line in template.differs if line.startswith(f"{tag}:")}


def _same(ours: str, theirs: str, probe: Probe, left_out: set[str], bos: str) -> bool:
    if probe.system and "system" in left_out:
        return True
    if "blanks" in left_out:
        ours, theirs = ("".join(text.split()) for text in (ours, theirs))
    if ours == theirs:
        return True
    if probe.ask and "cue" in left_out and ours.startswith(theirs):
        return True
    if not probe.ask and "thoughts" in left_out and ours.replace(EMPTY_THOUGHT, "") == theirs:
        return True
    # all of ours behind the BOS is the end of theirs, which begins with a system turn of its own making
    return "default system" in left_out and theirs.endswith(ours.removeprefix(bos))


def _written(shapes: Shapes, probe: Probe) -> str:
    """The text of a probe, or how the template refuses it."""
    try:
        return shapes.text(probe.messages, ask=probe.ask)
    except LimitError:
        raise
    except TemplateError as error:
        return f"({error})"


def _alike(own: str, tokenizer: Tokenizer, *, thinking: bool) -> str | None:
    """The template of `templates/` that behaves as a base's own, the one that leaves out the least first."""
    found: list[tuple[int, str]] = []
    for name in template_names():
        try:
            template = ChatTemplate(name, tokenizer, thinking=thinking)
        except TemplateError:
            continue  # of another family: its control tokens are not there
        if next(differences(template, own), None) is None:
            found.append((len(tags(template)), name))
    return min(found)[1] if found else None
