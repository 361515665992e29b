"""Reasoning where answers are shown: apart from them on the terminal, on the page, and from the server, within its budget."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.console import Console
from medrecipes.data.records import Message
from medrecipes.engines import Decoding
from medrecipes.recipe.schema import Eval, Recipe
from medrecipes.rendering.answer_text import answer_of
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.growing_text import Growing
from medrecipes.rendering.talk import Talk
from medrecipes.rendering.template_shapes import Supervision
from medrecipes.use.chat import DIM, Opened, chat
from medrecipes.use.openai_api import BadRequest, read
from tests.test_reasoning import LEAK, WRITTEN, bundled, ids, makers
from tests.test_templates import bound

QWEN = ChatTemplate("qwen3", bound("qwen3").tokenizer, thinking=True)
# a base without thoughts writes the marks as text
PLAIN = ChatTemplate("mistral-v3", bound("mistral-v3").tokenizer, supervision=Supervision("as_text"))
SAID = f"<think>\n{LEAK}\n</think>\n\nAsthma is a disease.<|im_end|>"


def written(template: ChatTemplate, text: str) -> list[int]:
    """A text as a model writes it, its control tokens as such where the tokenizer has them."""
    if template is PLAIN:
        return template.tokenizer.encode([text.removesuffix("<|im_end|>")], continuing=False)[0]
    return ids(template, text)


def shown(growing: Growing, tokens: Sequence[int], at_once: int = 1) -> tuple[str, str]:
    """The reasoning and the answer that are shown while tokens come."""
    pieces = [piece for n in range(0, len(tokens), at_once) for piece in growing.add(tokens[n : n + at_once])]
    pieces += growing.end()
    assert all(piece.text for piece in pieces)
    thought, text = ("".join(piece.text for piece in pieces if piece.reasoning is kind) for kind in (True, False))
    return thought, text


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize(("text", "answer", "finished"), WRITTEN)
def test_what_is_shown_as_it_comes_is_what_evaluation_tells_apart(
    text: str, answer: str, finished: bool | None, at_once: int
) -> None:
    for template in (QWEN, PLAIN):
        tokens = written(template, text)
        growing = Growing(template)
        thought, said = shown(growing, tokens, at_once)
        assert growing.text == answer == answer_of(template, tokens, Eval()).text
        assert growing.thought == growing.thought.strip()
        assert (LEAK in growing.thought, growing.finished) == (finished is not None, finished is not False)
        assert (growing.reasoning > 0) == (finished is not None)
        if text.startswith(LEAK):  # nothing said that it thinks until it had
            assert LEAK in said + thought
            assert said.endswith(answer)
        else:
            assert (thought, said) == (growing.thought, growing.text)
            assert "think" not in thought + said


def test_half_a_mark_is_not_shown_and_what_only_looks_like_one_is() -> None:
    for text in ("Is 3 <thin ice?", "a </th", "<", "x <think"):
        tokens = written(PLAIN, text)
        growing = Growing(PLAIN)
        so_far = ["".join(p.text for p in growing.add([token])) for token in tokens]
        assert not "".join(so_far).rstrip().endswith(("<", "<thi", "</th", "<think"))
        assert "".join(so_far) + "".join(p.text for p in growing.end()) == text


def test_reasoning_over_its_budget_ends_the_answer_and_an_answer_has_its_own_limit() -> None:
    tokens = written(QWEN, SAID)
    thought = tokens.index(QWEN.tokenizer.control_id("</think>")) + 1
    for budget, longest in ((thought, 99), (thought - 1, 99), (thought, 2)):
        growing = Growing(QWEN, reasoning=budget, answer=longest)
        wanted = answer_of(QWEN, tokens, Eval(max_reasoning_tokens=budget, max_new_tokens=longest))
        shown(growing, tokens)
        assert (growing.text, growing.reasoning) == (wanted.text, wanted.reasoning_tokens)
        assert growing.ended == ("" if wanted.stopped and wanted.text else "limit")
    growing = Growing(QWEN, ["disease", LEAK])  # a stop string is one of the answer
    assert shown(growing, tokens) == (LEAK, "Asthma is a")
    assert growing.ended == "stop"


def test_gpt_oss_and_deepseek_are_shown_apart_too(tmp_path: Path) -> None:
    oss = makers(tmp_path / "a", "gpt-oss", bundled("gptoss"))
    said = f"<|channel|>analysis<|message|>{LEAK}<|end|><|start|>assistant<|channel|>final<|message|>Asthma.<|return|>"
    assert shown(Growing(oss), ids(oss, said)) == (LEAK, "Asthma.")
    assert shown(Growing(oss), ids(oss, "<|channel|>final<|message|>Asthma.<|return|>")) == ("", "Asthma.")
    twice = said.replace("<|channel|>analysis", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|><|channel|>analysis")  # fmt: skip
    assert shown(Growing(oss), ids(oss, twice)) == (f"Hm.\n\n{LEAK}", "Asthma.")
    deepseek = makers(tmp_path / "b", "deepseek-r1", bundled("deepseek_r1_distill"))
    stop = "<｜end▁of▁sentence｜>"
    assert shown(Growing(deepseek), ids(deepseek, f"{LEAK}\n</think>\n\nAsthma.{stop}")) == (LEAK, "Asthma.")
    assert shown(Growing(deepseek), ids(deepseek, f"{LEAK} and")) == (f"{LEAK} and", "")


def test_an_earlier_turns_reasoning_is_the_templates_to_keep_or_drop() -> None:
    for template, kept in ((QWEN, False), (PLAIN, True), (bound("mistral-v3"), False)):
        talk = Talk(template, 2000)
        talk.ask("What is it?", 9)
        talk.answered("Asthma.", LEAK)
        prompt, _ = talk.ask("Sure?", 9)
        text = template.tokenizer.decode([prompt])[0]
        assert "Asthma." in text
        assert (LEAK in text) == kept


class Says:
    """An engine that writes the same each time."""

    def __init__(self, template: ChatTemplate, *answers: str) -> None:
        self.answers = [written(template, answer) for answer in answers]
        self.prompts: list[list[int]] = []

    def talking(self) -> Any:
        return nullcontext()

    base = talking

    def stream(self, prompt: Sequence[int], decoding: Decoding, stop: threading.Event | None = None) -> Iterator[int]:
        self.prompts.append(list(prompt))
        for token in self.answers[(len(self.prompts) - 1) % len(self.answers)][: decoding.max_new_tokens]:
            if stop is not None and stop.is_set():
                return
            yield token

    # as a server asks

    def shared(self, rows: int) -> Any:
        return self

    def start(self) -> None:
        pass

    close = start

    def cancel(self, asked: object) -> None:
        pass

    def ask(self, prompt: Sequence[int], decoding: Decoding, hear: Any, ended: Any) -> None:
        def write() -> None:
            for token in self.stream(prompt, decoding):
                hear(token)
            ended(None)

        threading.Thread(target=write).start()


def opened(template: ChatTemplate, *answers: str, **settings: Any) -> Opened:
    recipe = Recipe(eval=Eval(**{"max_new_tokens": 60, **settings}))
    return Opened(recipe, Says(template, *answers), template, "run", Path("log.txt"))  # type: ignore[arg-type]


def talked(run: Opened, capsys: pytest.CaptureFixture[str], *questions: str) -> list[str]:
    lines = iter(questions)
    chat(run, Console(), lambda: next(lines, "/quit"))
    return capsys.readouterr().out.split("\n> ")[1:-1]


def test_on_the_terminal_reasoning_is_labelled_and_apart(capsys: pytest.CaptureFixture[str]) -> None:
    run = opened(QWEN, SAID, "Welcome.<|im_end|>")
    said = talked(run, capsys, "What is it?", "Thanks")
    assert said == [f"reasoning: {LEAK}\n\nanswer: Asthma is a disease.\n", "Welcome.\n"]
    assert DIM not in said[0]
    second = QWEN.tokenizer.decode([run.engine.prompts[1]])[0]  # type: ignore[attr-defined]
    assert "Asthma is a disease." in second
    assert LEAK not in second


def test_reasoning_that_leaves_no_answer_is_told_with_the_next_move(capsys: pytest.CaptureFixture[str]) -> None:
    [said] = talked(opened(QWEN, SAID, max_reasoning_tokens=4), capsys, "What is it?")
    assert said.endswith("(no answer: its reasoning did not end within 4 tokens; raise eval.max_reasoning_tokens)\n")
    assert "Asthma" not in said
    [said] = talked(opened(QWEN, SAID, max_new_tokens=4), capsys, "What is it?")
    assert said.endswith("(no answer: its reasoning did not end within 4 tokens; raise eval.max_new_tokens)\n")


def test_on_the_page_reasoning_is_folded_away_once_the_answer_begins() -> None:
    from medrecipes.use.chat_page import Page, shown

    run = opened(QWEN, SAID, SAID, "Welcome.<|im_end|>", "Welcome.<|im_end|>", max_reasoning_tokens=40)
    page, talks = Page(run), {"tuned": [], "base": []}
    assert page.settings(12, 0, 1, 1, 1).max_new_tokens == 52
    seen = list(page.answer("What <b>is</b> it?", talks, True, page.settings(60, 0, 1, 1, 1), "me"))
    growing = [shown(talks["tuned"]) for talks, _, _ in seen]
    thinking = [turns for turns in growing if turns[-1].get("metadata", {}).get("status") == "pending"]
    assert thinking
    assert not any("Asthma" in turns[-1]["content"] for turns in thinking)
    talks = seen[-1][0]
    for model in ("tuned", "base"):
        assert shown(talks[model]) == [
            {"role": "user", "content": "What &lt;b&gt;is&lt;/b&gt; it?"},
            {"role": "assistant", "content": LEAK, "metadata": {"title": "Reasoning", "status": "done"}},
            {"role": "assistant", "content": "Asthma is a disease."},
        ]
    *_, (talks, _, note) = page.answer("Thanks", talks, True, page.settings(60, 0, 1, 1, 1), "me")
    assert [turn["content"] for turn in shown(talks["base"])][-2:] == ["Thanks", "Welcome."]
    assert LEAK not in QWEN.tokenizer.decode([run.engine.prompts[-1]])[0]  # type: ignore[attr-defined]
    assert note == ""
    short = Page(opened(QWEN, SAID, max_reasoning_tokens=4))
    *_, (talks, _, note) = short.answer("x", {"tuned": [], "base": []}, False, short.settings(60, 0, 1, 1, 1), "me")
    assert note.startswith("(no answer: its reasoning did not end within 4 tokens")
    assert "Asthma" not in str(talks)


def served(run: Opened, **asked: Any) -> Any:
    """What a server of the run answers: JSON, or the events of a stream."""
    from aiohttp import ClientSession, web

    from medrecipes.use.openai_server import Server, Settings
    from tests.conftest import free_port

    async def ask() -> Any:
        server = Server(run, Settings("m", "127.0.0.1"))
        runner = web.AppRunner(server.app())
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        body = {"model": "m", "messages": [{"role": "user", "content": "What is it?"}], **asked}
        async with ClientSession() as session, session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body) as response:  # fmt: skip
            text = await response.text()
        await runner.cleanup()
        server.close()
        if not asked.get("stream"):
            return json.loads(text)
        return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]

    return asyncio.run(ask())


def test_the_server_sends_reasoning_beside_the_content() -> None:
    pytest.importorskip("aiohttp")
    run = opened(QWEN, SAID)
    answer = served(run)
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Asthma is a disease.", "refusal": None, "reasoning_content": LEAK}  # fmt: skip
    assert choice["finish_reason"] == "stop"
    thought = written(QWEN, SAID).index(QWEN.tokenizer.control_id("</think>")) + 1
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": thought}
    events = served(run, stream=True, stream_options={"include_usage": True})
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == LEAK
    assert "".join(delta.get("content", "") for delta in deltas) == "Asthma is a disease."
    first = next(n for n, delta in enumerate(deltas) if delta.get("content"))
    assert not any("reasoning_content" in delta for delta in deltas[first:])
    assert events[-1]["usage"] == answer["usage"]
    bare = served(opened(QWEN, "Welcome.<|im_end|>"))
    assert "reasoning_content" not in bare["choices"][0]["message"]
    assert "completion_tokens_details" not in bare["usage"]


def test_the_server_keeps_to_the_budget_and_to_the_requests_limit() -> None:
    pytest.importorskip("aiohttp")
    over = served(opened(QWEN, SAID, max_reasoning_tokens=4))
    assert (over["choices"][0]["message"]["content"], over["choices"][0]["finish_reason"]) == ("", "length")
    assert over["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4}
    thought = written(QWEN, SAID).index(QWEN.tokenizer.control_id("</think>")) + 1
    cut = served(opened(QWEN, SAID, max_reasoning_tokens=40, max_new_tokens=7))
    assert cut["choices"][0]["finish_reason"] == "length"
    assert 0 < len(cut["choices"][0]["message"]["content"]) < len("Asthma is a disease.")
    # max_tokens is of both together, and lifts the recipe's limit of an answer
    whole = served(opened(QWEN, SAID, max_reasoning_tokens=40, max_new_tokens=2), max_tokens=60)
    assert whole["choices"][0]["message"]["content"] == "Asthma is a disease."
    short = served(opened(QWEN, SAID, max_reasoning_tokens=40), max_tokens=thought)
    assert (short["choices"][0]["message"]["content"], short["choices"][0]["finish_reason"]) == ("", "length")


def test_the_server_reads_the_reasoning_of_earlier_turns() -> None:
    pytest.importorskip("aiohttp")
    turns = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "Asthma.", "reasoning_content": LEAK}, {"role": "user", "content": "Sure?"}]  # fmt: skip
    usual = Decoding(24, 0.0, 1.0, 1.0, 7)
    wish = read(json.dumps({"model": "m", "messages": turns}).encode(), usual)
    assert wish.messages[1] == Message("assistant", "Asthma.", LEAK)
    for template, kept in ((QWEN, False), (PLAIN, True), (bound("mistral-v3"), False)):
        run = opened(template, "Yes.")
        served(run, messages=turns)
        assert (LEAK in template.tokenizer.decode([run.engine.prompts[0]])[0]) == kept  # type: ignore[attr-defined]
    wrong = {"model": "m", "messages": [*turns[:1], {**turns[1], "reasoning_content": 3}, turns[2]]}
    with pytest.raises(BadRequest, match=r"messages\[1\]\.reasoning_content: must be a text"):
        read(json.dumps(wrong).encode(), usual)
