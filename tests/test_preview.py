"""What a person sees of a conversation before it is trained on, and the files that may be looked at."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from medrecipes.core.errors import DataError
from medrecipes.data.records import Conversation, Message, Tagged
from medrecipes.recipe.schema import Data, Recipe, Tag
from medrecipes.rendering.preview import choose, conversations_from_file, preview, preview_json
from medrecipes.rendering.preview_tags import preview_tags, tags_json
from tests.conftest import Cli
from tests.test_templates import bound

ROW = Conversation("row-1", "doc", (Message("user", "What is  </s>?\n"), Message("assistant", "A disease.")))
GREEN, BLACK_ON_GREEN, DIM = "\x1b[32m", "\x1b[30;42m", "\x1b[2m"


def shown(name: str, *, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, color_system="standard" if terminal else None, width=80)
    preview(bound(name), [ROW], console)
    return out.getvalue()


def test_a_conversation_is_shown_token_by_token_and_told_apart_without_colour() -> None:
    assert shown("mistral-v3") == (
        "template mistral-v3: begins with <s>, learns to stop with </s>, stops at </s>, pads with [control_748]\n"
        "masked  learned  «masked control»  «learned control»  │ token border  ▁ blank  ↵ line break\n"
        "\n"
        "row-1: 14 tokens, 4 learned (29%)\n"
        " masked «<s>»│«[INST]»│▁What│▁is│▁│▁</│s│>?│↵│«[/INST]»\n"
        "learned ▁A│▁disease│.│«</s>»\n"
        "\n"
        "1 conversation: 14 tokens, 4 learned (29%)\n"
    )


def test_byte_level_pieces_are_shown_as_text() -> None:
    assert "\nlearned A│▁disease│.│«<|eot_id|>»\n" in shown("llama3")
    assert "│«<|end_header_id|>»│↵↵│What│▁is│▁│▁</│s│>?│«<|eot_id|>»│" in shown("llama3")


def test_the_border_of_tokens_is_told_from_what_tokens_hold() -> None:
    out = io.StringIO()
    row = Conversation.of("row", "", "q", "a|b<|x|>│")
    preview(bound("llama3"), [row], Console(file=out, width=80))
    learned = out.getvalue().split("\nlearned ")[1].split("\n")[0]
    assert learned.replace("│", "") == "a|b<|x|>\\u2502«<|eot_id|>»"
    assert "|│b│" in learned or "│|│b" in learned


def test_on_a_terminal_what_is_learned_is_green_and_its_stop_token_inverse() -> None:
    text = shown("mistral-v3", terminal=True)
    assert f"{GREEN}▁disease" in text
    assert f"{BLACK_ON_GREEN}«</s>»" in text
    assert f"{DIM}▁What" in text


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert GREEN not in shown("mistral-v3", terminal=True)


def test_json_has_a_line_a_conversation_with_text_ids_and_labels() -> None:
    [line] = preview_json(bound("mistral-v3"), [ROW])
    value = json.loads(line)
    assert list(value) == ["id", "text", "ids", "labels"]
    assert value["text"] == "<s>[INST] What is  </s>?\n[/INST] A disease.</s>"
    assert value["ids"][:2] == [1, 3]
    assert value["labels"] == [-100] * 10 + value["ids"][10:]
    assert value["ids"][-1] == 2


def test_a_recipe_that_learns_whole_texts_is_shown_as_it_learns_them(cli: Cli) -> None:
    command = ("preview", "recipes/tiny_mistral.toml", "-n", "1")
    usual, whole = (cli(*command, *more) for more in ((), ("--set", "train.loss_on=all")))
    assert (usual.returncode, whole.returncode) == (0, 0), whole.stderr
    assert " masked " in usual.stdout
    assert "\ntrain.loss_on = 'all': every token is learned, questions and system prompts too\n" in whole.stdout
    assert "\n masked " not in whole.stdout
    assert re.search(r"^1 conversation: (\d+) tokens, \1 learned \(100%\)$", whole.stdout, re.M)
    value = json.loads(cli(*command, "--json", "--set", "train.loss_on=all").stdout)
    assert value["labels"] == value["ids"]


def test_rows_are_chosen_by_number_or_by_id() -> None:
    rows = [Conversation.of(f"doc-{n}", "", "q", "a") for n in range(9)]
    assert [row.id for row in choose(rows, 2)] == ["doc-0", "doc-1"]
    assert [row.id for row in choose(rows, 2, "doc-7")] == ["doc-7"]
    with pytest.raises(DataError, match=r"^no row has the id 'dok-7'; did you mean doc-7\?$"):
        choose(rows, 2, "dok-7")


def test_a_file_of_messages_becomes_conversations(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": turns}) + "\n\n" + json.dumps({"id": 7, "messages": turns[1:]}) + "\n")
    one, other = conversations_from_file(path)
    assert (one.id, other.id) == ("1", "7")
    assert one.messages == (Message("system", "s"), Message("user", "q"), Message("assistant", "a"))


GOOD = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"messages": [}',
            "rows.jsonl:2: invalid JSON (Expecting value: line 1 column 15 (char 14)); correct or delete the line",
        ),
        ('{"message": []}', 'rows.jsonl:2: no messages; write {"messages": [{"role": "user", "content": "…"}, …]}'),
        ("[1]", "rows.jsonl:2: no messages; write"),
        (
            '{"messages": [{"role": "human", "content": "q"}]}',
            "rows.jsonl:2: message 1 has the role 'human', not one of",
        ),
        ('{"messages": [{"role": "user"}]}', "rows.jsonl:2: message 1 has no text in content; write it as a string"),
        ('{"messages": [{"role": "user", "content": "q"}]}', "rows.jsonl:2: row 2: the conversation must end with the"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        conversations_from_file(path)
    assert str(error.value).startswith(f"{tmp_path}/{message}")


def test_a_file_that_is_missing_or_empty_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; give a file of JSON lines, one conversation each"):
        conversations_from_file(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no conversation; write one JSON object a line"):
        conversations_from_file(tmp_path / "empty.jsonl")


def test_tagged_words_are_shown_with_their_tags_and_pieces() -> None:
    out = io.StringIO()
    rows = [Tagged("a:1", "a", ("Take", "sulfate", "daily"), ("O", "B-Drug", "O")), Tagged("a:2", "a", ("Ibuprofen", "daily"), ("B-Other", "O"))]  # fmt: skip
    recipe = Recipe(task="tag", data=Data(max_tokens=6), tag=Tag(overlap=0))
    preview_tags(bound("mistral-v3").tokenizer, rows, ("O", "B-Drug", "I-Drug"), recipe, Console(file=out, width=80))
    assert out.getvalue() == (
        "a word's tag is supervised at its first piece; its other pieces are masked\n"
        "tags: O B-Drug I-Drug  │ piece border\n"
        "\n"
        "a:1: 3 words, 5 pieces, 1 window\n"
        "O        Take  ▁Take\n"
        "B-Drug   sulfate  ▁sul│f│ate\n"
        "O        daily  ▁daily\n"
        "\n"
        "a:2: 2 words, 6 pieces, 2 windows\n"
        "B-Other  Ibuprofen  ▁I│b│up│ro│fen  (not in training: scored, never supervised)\n"
        "window 2 speaks for the words from here\n"
        "O        daily  ▁daily\n"
    )
    [line, _] = tags_json(bound("mistral-v3").tokenizer, rows, ("O", "B-Drug", "I-Drug"), recipe)
    value = json.loads(line)
    assert (value["words"], value["tags"]) == (["Take", "sulfate", "daily"], ["O", "B-Drug", "O"])
    assert value["windows"][0]["labels"] == [-100, 0, 1, -100, -100, 0]
