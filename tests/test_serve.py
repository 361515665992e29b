"""`medrecipes serve`: OpenAI's own client, many at once, what is refused and how, a client that leaves, and the end."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from medrecipes.engines import Decoding
from medrecipes.rendering.growing_text import Growing, Piece
from medrecipes.use.openai_api import BadRequest, read
from tests import forked
from tests.conftest import Cli, free_port
from tests.test_serving import bound

openai: Any = pytest.importorskip("openai", reason="OpenAI's client is not installed; scripts/install brings it")
KEY, NAME = "a key of the tests", "tiny"
USUAL = Decoding(24, 0.0, 1.0, 1.0, 7)
QUESTIONS = (
    "What causes asthma?", "What is gout?", "How is diabetes treated?", "hello", "What are the symptoms of Lupus ?",
    "x y z", "Is flu serious?", "What is leukemia?",
)  # fmt: skip


@pytest.fixture(scope="module")
def port(tiny_run: Path) -> Iterator[int]:
    """A run that is served with a key; SIGTERM ends it while an answer is being written."""
    port = free_port()
    words = ("serve", tiny_run, "--port", port, "--model-name", NAME, "--api-key-env", "TEST_KEY")
    process = forked.start("-m", "medrecipes", *words, env={**os.environ, "TEST_KEY": KEY})
    deadline = time.monotonic() + 300
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            raw(port, "GET", "/v1/models")
            break
        except OSError:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.3)
    yield port
    connection, response = begun(port, max_tokens=200, temperature=1.9)
    process.send_signal(signal.SIGTERM)
    assert response.status == 200
    response.read()
    connection.close()
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert out.endswith("closed\n")
    assert f"http://127.0.0.1:{port}/v1" in out


@pytest.fixture(scope="module")
def client(port: int) -> Any:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, max_retries=0, timeout=120)


def ask(client: Any, question: str, **more: Any) -> Any:
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(model=NAME, messages=messages, **{"max_tokens": 40, "temperature": 0, **more})


def raw(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
    """A request as it is written; the status and the JSON that came back."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    given = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers}
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in given.items()})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def begun(port: int, **more: Any) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """A streamed answer whose first piece has come."""
    asked = {"model": NAME, "messages": [{"role": "user", "content": "What is gout?"}], "stream": True, **more}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
    response = connection.getresponse()
    assert response.readline().startswith(b"data: {")
    return connection, response


def test_the_model_is_listed(client: Any) -> None:
    assert [(model.id, model.owned_by) for model in client.models.list()] == [(NAME, "medrecipes")]
    assert client.models.retrieve(NAME).id == NAME


def test_an_answer_says_what_it_took_and_why_it_ended(client: Any) -> None:
    found = [ask(client, question) for question in QUESTIONS]
    for answer in found:
        [choice], usage = answer.choices, answer.usage
        assert choice.message.role == "assistant"
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert (choice.finish_reason == "length") == (usage.completion_tokens == 40) or choice.finish_reason == "stop"
    short = ask(client, QUESTIONS[0], max_tokens=3)
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 3)
    # by the recipe's own eval.max_new_tokens where the request names none
    usual = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": QUESTIONS[0]}])
    assert usual.usage.completion_tokens <= 24
    assert found[0].choices[0].message.content.startswith(usual.choices[0].message.content)


def test_eight_at_once_answer_as_one_by_one(client: Any) -> None:
    alone = [ask(client, question).choices[0].message.content for question in QUESTIONS]
    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        together = list(pool.map(lambda q: ask(client, q).choices[0].message.content, QUESTIONS))
    assert together == alone
    assert len(set(alone)) > 3


def test_a_streamed_answer_is_the_same_text(client: Any) -> None:
    whole = ask(client, QUESTIONS[0])
    pieces = list(ask(client, QUESTIONS[0], stream=True, stream_options={"include_usage": True}))
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == whole.choices[0].message.content
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert pieces[-1].choices == []
    assert pieces[-1].usage == whole.usage
    assert len({piece.id for piece in pieces}) == 1
    assert len(pieces) > 4


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("MEDRECIPES_VLLM"), reason="MEDRECIPES_VLLM names no Python that has vLLM")
@pytest.mark.parametrize(
    "prompts",
    [
        ["--dataset-name", "sharegpt", "--dataset-path", "ASKED"],
        ["--dataset-name", "random", "--random-input-len", "30", "--random-output-len", "24", "--ignore-eos"],
    ],
    ids=["sharegpt", "random"],
)
def test_vllms_benchmark_client_measures_it(port: int, tiny_run: Path, tmp_path: Path, prompts: list[str]) -> None:
    client = (
        "import argparse; from vllm.benchmarks.serve import add_cli_args, main; parser = argparse.ArgumentParser(); "
        "add_cli_args(parser); main(parser.parse_args())"
    )
    talks = [
        {"conversations": [{"value": question}, {"value": "It is a disease of many. " * 4}]} for question in QUESTIONS
    ]
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps(talks))
    words = [
        os.environ["MEDRECIPES_VLLM"], "-c", client, "--backend", "openai-chat", "--base-url", f"http://127.0.0.1:{port}",
        "--endpoint", "/v1/chat/completions", "--model", NAME, "--tokenizer", str(tiny_run / "adapter"),
        "--num-prompts", "8", "--max-concurrency", "4",
        "--save-result", "--save-detailed", "--result-dir", str(tmp_path), "--result-filename", "found.json", *prompts,
    ]  # fmt: skip
    words = [str(asked) if word == "ASKED" else word for word in words]
    done = subprocess.run(words, env={**os.environ, "OPENAI_API_KEY": KEY}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["completed"], found["failed"]) == (8, 0), found.get("errors")
    assert found["total_output_tokens"] > 8
    if "random" in prompts:
        assert found["total_output_tokens"] == 8 * 24
    assert found["mean_ttft_ms"] > 0
    assert found["output_throughput"] > 0


def test_nothing_is_streamed_before_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's benchmark client takes the time of the first event for that of the first token."""
    from medrecipes.use import openai_server
    from medrecipes.use.openai_api import Envelope

    events: list[str] = []

    class Response:
        def __init__(self, **_: Any) -> None:
            """Nothing goes anywhere."""

        async def prepare(self, _: Any) -> None:
            events.append("headers")

        async def write(self, data: bytes) -> None:
            events.append(data.decode())

        async def write_eof(self) -> None:
            events.append("end")

    async def pieces() -> Any:
        events.append("first token")
        yield Piece("text")

    monkeypatch.setattr(openai_server.web, "StreamResponse", Response)
    answer: Any = type("Answer", (), {"finish": "stop"})
    asyncio.run(openai_server._streamed(None, pieces(), answer, Envelope("tiny"), 3, usage=False))  # type: ignore[arg-type]
    assert events[:2] == ["headers", "first token"]
    assert '"role":"assistant"' in events[2]
    assert '"content":"text"' in events[3]
    assert events[-2:] == ["data: [DONE]\n\n", "end"]


def test_the_stream_ends_as_openais_does(port: int) -> None:
    connection, response = begun(port, max_tokens=3)
    lines = response.read().split(b"\n\n")
    connection.close()
    assert lines[-2:] == [b"data: [DONE]", b""]
    assert response.headers["content-type"].startswith("text/event-stream")


def test_a_stop_string_ends_an_answer_before_itself(client: Any) -> None:
    text = ask(client, QUESTIONS[0]).choices[0].message.content
    stop = text[6:9]
    cut = ask(client, QUESTIONS[0], stop=[stop, "never comes"])
    assert cut.choices[0].message.content == text[: text.index(stop)].rstrip()
    assert cut.choices[0].finish_reason == "stop"
    assert cut.usage.completion_tokens < 40
    pieces = list(ask(client, QUESTIONS[0], stop=stop, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == cut.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason == "stop"


def test_an_answer_goes_on_past_stop_tokens_where_that_is_asked_for(client: Any) -> None:
    usual = {question: ask(client, question, max_tokens=100) for question in QUESTIONS}
    question = next(q for q, answer in usual.items() if answer.choices[0].finish_reason == "stop")
    longer = ask(client, question, max_tokens=120, extra_body={"ignore_eos": True})
    assert usual[question].usage.completion_tokens < 100
    assert (longer.usage.completion_tokens, longer.choices[0].finish_reason) == (120, "length")
    assert longer.choices[0].message.content.startswith(usual[question].choices[0].message.content)
    again = ask(client, question, max_tokens=100, extra_body={"ignore_eos": False})
    assert again.choices == usual[question].choices


def test_a_drawn_answer_follows_its_seed(client: Any) -> None:
    said = [ask(client, "What is gout?", temperature=1.5, seed=seed).choices[0].message.content for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_a_conversation_with_a_system_message_is_rendered_by_the_runs_template(client: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "What is gout?"}]},
        {"role": "assistant", "content": "A disease."}, {"role": "user", "content": "Of what?"},
    ]  # fmt: skip
    answer = client.chat.completions.create(model=NAME, messages=messages, max_tokens=4)
    wanted = bound("mistral-v1").prompts(
        [read(json.dumps({"model": "m", "messages": messages}).encode(), USUAL).messages]
    )
    assert len(wanted) == 1
    assert answer.usage.prompt_tokens > ask(client, "Of what?", max_tokens=4).usage.prompt_tokens


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"model": "another"}, 404, "model_not_found"),
        ({"n": 2}, 400, "unsupported_value"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "unsupported_value"),
        ({"response_format": {"type": "json_object"}}, 400, "unsupported_value"),
        ({"logprobs": True}, 400, "unsupported_value"),
        ({"whatever": 1}, 400, "unsupported_parameter"),
        ({"temperature": 3}, 400, None),
        ({"max_tokens": 0}, 400, None),
        ({"max_tokens": 100_000}, 400, "context_length_exceeded"),
        ({"seed": True}, 400, None),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, None),
        ({"messages": []}, 400, None),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, None),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, None),
        ({"messages": [{"role": "user", "content": "half \ud800"}]}, 400, None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "unsupported_value"),
        ({"messages": [{"role": "user", "content": "long " * 2000}]}, 400, "context_length_exceeded"),
    ],
)
def test_what_is_not_done_here_is_refused(port: int, more: dict[str, Any], status: int, code: str | None) -> None:
    asked = {"model": NAME, "messages": [{"role": "user", "content": "x"}], **more}
    got, body = raw(port, "POST", "/v1/chat/completions", json.dumps(asked).encode())
    assert (got, body["error"]["code"]) == (status, code)
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_a_broken_request_is_refused_in_openais_words(port: int, client: Any) -> None:
    for body in (b"{", b"[]", b"\xff", b"[" * 100_000, b'{"model": NaN}', b""):
        assert raw(port, "POST", "/v1/chat/completions", body)[0] == 400
    fine = json.dumps({"model": NAME, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}).encode()
    assert raw(port, "POST", "/v1/chat/completions", fine)[0] == 200
    assert raw(port, "POST", "/v1/chat/completions", fine + b" " * (1 << 20))[0] == 413
    assert raw(port, "POST", "/v1/chat/completions", fine, Content_Type="text/plain")[0] == 415
    assert raw(port, "GET", "/v1/chat/completions")[0] == 405
    assert raw(port, "GET", "/v1/embeddings")[0] == 404
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_a_wrong_key_is_refused(port: int) -> None:
    stranger = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="another", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        ask(stranger, "hello")
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_another_host_or_page_is_refused(port: int) -> None:
    assert raw(port, "GET", "/v1/models", Host=f"localhost:{port}")[0] == 200
    assert raw(port, "GET", "/v1/models", Host="evil.example")[0] == 403
    assert raw(port, "GET", "/v1/models", Origin="http://evil.example")[0] == 403
    assert raw(port, "GET", "/v1/models", Sec_Fetch_Site="cross-site")[0] == 403


def test_a_client_that_leaves_ends_its_answer(tiny_run: Path, libraries: None) -> None:
    from aiohttp import web

    from medrecipes.core.console import Console
    from medrecipes.use.chat import open_chat
    from medrecipes.use.openai_server import AT_ONCE, Server, Settings

    opened = open_chat(tiny_run, ["eval.temperature=1.9"], Console(), base=False, checkpoint=None)
    shared, asked = opened.engine.shared(AT_ONCE), []

    class Watched:
        """The engine, whose requests are looked at."""

        def shared(self, rows: int) -> Any:
            return self

        def ask(self, *arguments: Any) -> Any:
            asked.append(shared.ask(*arguments))
            return asked[-1]

        def __getattr__(self, name: str) -> Any:
            return getattr(shared, name)

    server = Server(opened.__class__(opened.recipe, Watched(), opened.template, opened.name, opened.log), Settings(NAME, "127.0.0.1"))  # type: ignore[arg-type]  # fmt: skip
    server.start()

    async def leave() -> None:
        runner = web.AppRunner(server.app(), handler_cancellation=True)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        connection, _ = await asyncio.to_thread(begun, port, max_tokens=200)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        deadline = time.monotonic() + 60
        while not asked[0].ended and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        await runner.cleanup()

    asyncio.run(leave())
    assert asked[0].cancelled
    assert asked[0].ended
    assert 0 < len(asked[0].said) < 200
    # of those who ask at once, one is called off and the others hear the end
    heard: dict[int, Any] = {}
    done = threading.Barrier(4)

    def ended(number: int) -> Any:
        def hear(error: Any) -> None:
            heard[number] = error
            threading.Thread(target=done.wait, daemon=True).start()

        return hear

    [prompt] = opened.template.prompts(
        [read(b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}', USUAL).messages]
    )
    requests = [shared.ask(prompt, Decoding(30, 1.9, 1.0, 1.0, seed), lambda _: None, ended(seed)) for seed in range(3)]
    shared.cancel(requests[1])
    done.wait(60)
    server.close()
    assert heard == {0: None, 1: None, 2: None}
    assert requests[1].cancelled


def test_text_grows_by_whole_characters_and_stops_before_a_stop_string() -> None:
    template = bound("llama3")
    [ids] = template.tokenizer.encode(["Asthma é 🫁 swells the airways. STOP and more"], continuing=True)
    for stops, wanted in (
        ([], "Asthma é 🫁 swells the airways. STOP and more"),
        (["STOP"], "Asthma é 🫁 swells the airways."),
    ):
        growing = Growing(template, stops)
        pieces = [piece.text for id in ids for piece in growing.add([id])]
        assert "".join([*pieces, *(piece.text for piece in growing.end())]) == wanted == growing.text
        assert growing.ended == ("stop" if stops else "")
        assert not any("STOP"[:2] in piece for piece in pieces if stops)


def test_what_a_request_leaves_out_is_the_recipes() -> None:
    body = {"model": "m", "messages": [{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]}
    wish = read(json.dumps(body).encode(), USUAL)
    assert (wish.decoding, wish.limited, wish.stream, wish.stops) == (USUAL, False, False, [])
    assert [message.role for message in wish.messages] == ["system", "user"]
    wish = read(
        json.dumps({**body, "max_completion_tokens": 5, "max_tokens": 9, "top_p": 0.5, "user": "me"}).encode(), USUAL
    )
    assert (wish.decoding.max_new_tokens, wish.decoding.top_p, wish.limited) == (5, 0.5, True)
    with pytest.raises(BadRequest, match="repetition_penalty"):
        read(json.dumps({**body, "repetition_penalty": 0}).encode(), USUAL)


def test_a_tagging_run_or_a_missing_key_is_one_line(cli: Cli, tag_run: tuple[Path, str], tiny_run: Path) -> None:
    done = cli("serve", tag_run[0])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "medrecipes tag" in done.stderr
    done = cli("serve", tiny_run, "--api-key-env", "NO_SUCH_VARIABLE")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "NO_SUCH_VARIABLE" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_without_vllm_its_backend_is_one_line(cli: Cli, tiny_run: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if name != "MEDRECIPES_VLLM"}
    done = cli("serve", tiny_run, "--backend", "vllm", env=clean)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "vllm is not installed" in done.stderr


def test_vllm_is_started_with_the_runs_arguments(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"; echo "key $VLLM_API_KEY"\n')
    python.chmod(0o755)
    environment = {**os.environ, "MEDRECIPES_VLLM": str(python), "TEST_KEY": KEY}
    done = cli("serve", tiny_run, "--backend", "vllm", "--port", "8123", "--api-key-env", "TEST_KEY", env=environment)
    assert done.returncode == 0, done.stderr
    started, *words = done.stdout.splitlines()
    adapter = str(tiny_run.resolve() / "adapter")
    assert started.startswith("starting -m vllm.entrypoints.openai.api_server")
    assert words[:3] == ["-m", "vllm.entrypoints.openai.api_server", "--model"]
    for option, value in (
        ("--tokenizer", adapter), ("--lora-modules", f"{tiny_run.name}={adapter}"), ("--port", "8123"),
        ("--chat-template", f"{adapter}/chat_template.jinja"), ("--max-model-len", "256"), ("--host", "127.0.0.1"),
        ("--quantization", "bitsandbytes"),
    ):  # fmt: skip
        assert words[words.index(option) + 1] == value
    assert words[-1] == f"key {KEY}"
    assert KEY not in words
