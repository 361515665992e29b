"""`medrecipes chat` on the terminal: the same template, a window that slides by whole turns, one line for a mistake."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import MedRecipesError
from medrecipes.data.records import Message
from medrecipes.use.chat import KEYS, UNPRINTABLE, Talk, trimmed
from tests.conftest import ROOT, Cli
from tests.test_serving import bound


def test_the_prompt_of_a_chat_is_the_one_of_training() -> None:
    template = bound("llama3", "Be brief.")
    talk = Talk(template, 500)
    talk.ask("What is asthma?", 50)
    talk.answered("A disease.")
    ids, gone = talk.ask("Thanks", 50)
    said = [Message("user", "What is asthma?"), Message("assistant", "A disease."), Message("user", "Thanks")]
    assert ([ids], gone) == (template.prompts([said]), 0)
    assert template.tokenizer.decode([ids], control=True)[0].count("Be brief.") == 1


def test_the_oldest_turns_go_first_whole_and_counted() -> None:
    template = bound("gemma", "Be brief.")
    talk = Talk(template, 120)
    lost = []
    for number in range(12):
        ids, gone = talk.ask(f"Question {number}?", 30)
        assert len(ids) + 30 <= 120
        lost.append(gone)
        text = template.tokenizer.decode([ids], control=True)[0]
        assert text.startswith("<bos><start_of_turn>user\nBe brief.\n\nQuestion ")
        assert text.endswith(f"Question {number}?<end_of_turn>\n<start_of_turn>model\n")
        assert [m.role for m in talk.messages] == ["user", "assistant"] * (len(talk.messages) // 2) + ["user"]
        talk.answered(f"Answer {number}.")
    assert lost[:3] == [0, 0, 0]
    assert sum(lost) == 12 - len(talk.messages) // 2 > 5
    assert talk.messages[0].content == f"Question {sum(lost)}?"


def test_a_question_that_is_too_long_is_refused_and_changes_nothing() -> None:
    talk = Talk(bound("llama3"), 60)
    talk.ask("Hello", 10)
    talk.answered("Hi.")
    before = list(talk.messages)
    with pytest.raises(MedRecipesError, match=r"the question takes \d+ tokens and its answer up to 10, but the model was trained on 60"):  # fmt: skip
        talk.ask("word " * 80, 10)
    assert talk.messages == before


def test_what_is_forgotten_is_said_in_plain_words() -> None:
    assert trimmed(1) == "(the oldest turn no longer fits and is forgotten)"
    assert trimmed(3) == "(the oldest 3 turns no longer fit and are forgotten)"


def test_an_answer_cannot_command_the_terminal() -> None:
    assert UNPRINTABLE.sub(" ", "a\x1b[2Jb\nc\td\x9b") == "a [2Jb\nc\td "


def test_a_key_of_the_terminal_is_no_part_of_a_question() -> None:
    keys = (
        "\x1b[A",
        "\x1bOA",
        "\x1b[1;5C",
        "\x1b[200~",
        "\x1b[3~",
        "\x1b",
        "\x01",
        "\x7f",
        "\x9b",
        "\r",
        "\ud800",
    )
    for key in keys:
        assert KEYS.sub("", f"What {key}causes\tAsthma?\n") == "What causes\tAsthma?\n"
    template = bound("llama3")
    talk = Talk(template, 500)
    talk.ask("\x1b[A\x1b[AWhat is asthma?", 50)
    assert talk.messages == [Message("user", "What is asthma?")]


def test_the_arrow_keys_bring_earlier_lines_back() -> None:
    code = "from medrecipes.use.chat import typed, _write\nfor _ in range(3):\n    _write('\\n> ')\n    print(f'<{typed()}>')"
    leader, follower = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=follower, stdout=follower, stderr=follower, env={**os.environ, "TERM": "xterm"})  # fmt: skip
    os.close(follower)
    shown = ""

    def until(words: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + 60
        while words not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([leader], [], [], 1)[0]:
                shown += os.read(leader, 4096).decode()

    for keys, line in (
        (b"What is asthma?\r", "What is asthma?"),
        (b"\x1b[A\r", "What is asthma?"),
        (b"\x1b[A\x1b[D!\r", "What is asthma!?"),
    ):
        until("> ")
        shown = ""
        os.write(leader, keys)
        until(f"<{line}>")
    assert process.wait(timeout=30) == 0
    os.close(leader)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.fixture(scope="module")
def opened(tiny_run: Path) -> Any:
    from medrecipes.core.console import Console
    from medrecipes.use.chat import open_chat

    return open_chat(tiny_run, ["eval.max_new_tokens=4"], Console(), base=False, checkpoint=None)


def test_two_hundred_turns_take_no_more_memory_than_fifty(opened: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from medrecipes.core.console import Console
    from medrecipes.use.chat import chat

    asked, used = 0, {}

    def read() -> str:
        nonlocal asked
        used[asked] = resident_mb()
        asked += 1
        if asked > 200:
            raise EOFError
        return f"What are the symptoms of asthma, number {asked} ?"

    chat(opened, Console(), read)
    said = capsys.readouterr().out
    assert said.count("\n> ") == 201
    assert said.count("no longer fits and is forgotten") + said.count("no longer fit and are forgotten") > 150
    assert used[200] - used[50] < 30


def test_an_answer_is_stopped_and_the_conversation_goes_on(opened: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from medrecipes.core.console import Console
    from medrecipes.use.chat import chat

    class Interrupted:
        """The engine, with Ctrl-C pressed after the first piece of the first answer."""

        def __init__(self) -> None:
            self.left = 1

        talking = opened.engine.talking

        def stream(self, ids: Any, decoding: Any, stop: Any) -> Any:
            for number, piece in enumerate(opened.engine.stream(ids, decoding, stop)):
                if self.left and number == 1:
                    self.left = 0
                    raise KeyboardInterrupt
                yield piece

    from dataclasses import replace

    questions = iter(["What causes asthma ?", "And then ?"])
    chat(replace(opened, engine=Interrupted()), Console(), lambda: next(questions, "/quit"))
    said = capsys.readouterr().out
    assert said.count(" (stopped)\n") == 1
    assert said.count("\n> ") == 3


def test_on_the_page_tuned_and_base_answer_the_same_question(opened: Any) -> None:
    from medrecipes.engines import Decoding
    from medrecipes.use.chat_page import Page

    page, talks, note = Page(opened), {"tuned": [], "base": []}, ""
    with opened.engine.talking():
        for question in ("What causes asthma ?", "And then ?"):
            *_, (talks, _, note) = page.answer(question, talks, True, Decoding.of(opened.recipe), "a visitor")
    assert note != "stopped"
    for model in ("tuned", "base"):
        assert [turn["role"] for turn in talks[model]] == ["user", "assistant"] * 2, model


def test_the_command_talks_with_the_adapter_of_a_checkpoint(tiny_run: Path, warm: Cli) -> None:
    asked = "What causes Asthma ?\n/x\n/new\n"
    done = warm("chat", tiny_run, "--checkpoint", "6", "--set", "eval.max_new_tokens=24", input=asked)
    assert (done.returncode, done.stderr) == (0, "")
    head, answer, *others = done.stdout.split("\n> ")
    assert "tiny:mistral with checkpoints/checkpoint-6, template mistral-v1" in head
    assert "Not a medical device" in head
    assert answer.strip()
    assert others == [
        "/x is no command; /new begins anew, /quit or Ctrl-D ends, Ctrl-C stops an answer\n", "a new conversation\n", "\n",
    ]  # fmt: skip


@pytest.mark.slow
def test_base_and_tuned_model_answer_otherwise(tiny_run: Path, cli: Cli) -> None:
    said = {}
    for name, flags in (("tuned", []), ("base", ["--base"])):
        done = cli("chat", tiny_run, *flags, "--set", "eval.max_new_tokens=24", input="What causes Asthma ?\n")
        assert (done.returncode, done.stderr) == (0, "")
        said[name] = done.stdout.split("\n> ")
    assert "tiny:mistral with adapter, template mistral-v1" in said["tuned"][0]
    assert "tiny:mistral without an adapter" in said["base"][0]
    assert said["tuned"][1] != said["base"][1]


@pytest.mark.slow
def test_a_checkpoint_is_judged_in_a_folder_of_its_own(tiny_run: Path, warm: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    done = warm("eval", run, "--checkpoint", "6")
    assert (done.returncode, done.stderr) == (0, "")
    [folder] = run.glob("eval-*-checkpoint-6")
    bits = {
        path: {(r["model"], r["id"]): r["bits"] for r in map(json.loads, (path / "predictions.jsonl").open())}
        for path in (run / "eval", folder)
    }
    first, again = bits.values()
    assert first.keys() == again.keys()
    changed = {key[0] for key in first if abs(first[key] - again[key]) > 0.01}
    assert changed == {"tuned"}


def test_mistakes_are_one_line_each(tiny_run: Path, warm: Cli, tmp_path: Path) -> None:
    mistakes = [
        ([tmp_path], f"{tmp_path}: is no run folder; name one of those in runs/"),
        ([tiny_run, "--checkpoint", "7"], f"{tiny_run}: has no checkpoint 7; it kept 6, 12"),
        ([tiny_run, "--checkpoint", "6", "--base"], "--base has no checkpoint; leave one of the two out"),
        ([tiny_run, "--set", "lora.rank=8"], f"{tiny_run}: only settings of [eval] can be overridden here, such as --set eval.temperature=0.7"),
        ([tiny_run, "--web", "--base"], "--base goes without --web: the page shows the base beside the tuned model"),
        ([tiny_run, "--port", "80"], "--host and --port go with --web; add it"),
    ]  # fmt: skip
    for arguments, message in mistakes:
        done = warm("chat", *arguments)
        assert (done.returncode, done.stderr) == (2, message + "\n")
