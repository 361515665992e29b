"""Requests that no page of ours sends: from other sites, by other names, for what is not there, too large, too many."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import resource
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from medrecipes.use.request_guard import Guard, Limits
from tests.attack.harness import fingerprint, limited
from tests.conftest import ROOT, free_port

JOIN, CONFIG, HERE = "/gradio_api/queue/join", "/config", "127.0.0.1:7860"
JSON = ("content-type", "application/json")
QUESTION = b'{"data": ["What is asthma?"], "fn_index": 0, "session_hash": "a"}'
Header = tuple[str, str]
Counter = Callable[..., None]


@dataclass(frozen=True)
class Answer:
    """What came back, and what of the request reached the page behind the guard."""

    status: int
    headers: dict[str, str]
    body: bytes
    reached: dict[str, Any] | None
    heard: int  # pieces of the body that were taken


@dataclass
class Page:
    """A page that answers whatever it is asked, and knows what that was; `hold` keeps it from answering."""

    hold: asyncio.Event | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        seen = {"path": scope["path"], "headers": scope["headers"], "body": b""}
        self.seen.append(seen)
        more = scope["method"] == "POST"
        while more:
            message = await receive()
            seen["body"] += message["body"]
            more = message["more_body"]
        if self.hold:
            await self.hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"questions of patients"})


async def ask(
    guard: Guard, page: Page, method: str = "GET", target: str = "/", headers: Iterable[Header] = (("host", HERE),),
    pieces: Sequence[bytes] | Iterator[bytes] = (b"",), wait: float = 0.0,
) -> Answer:  # fmt: skip
    """Send a request as a server would hand it over."""
    raw, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "root_path": "",
        "path": unquote(raw, errors="replace"), "raw_path": raw.encode("utf-8", "replace"), "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers],
        "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 7860),
    }  # fmt: skip
    before, sent, rest, heard = len(page.seen), [], iter(pieces), 0

    async def receive() -> dict[str, Any]:
        nonlocal heard
        await asyncio.sleep(wait)
        piece = next(rest, None)
        if piece is None:
            return {"type": "http.disconnect"}
        heard += 1
        last = isinstance(pieces, Sequence) and heard == len(pieces)
        return {"type": "http.request", "body": piece, "more_body": not last}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await guard(scope, receive, send)
    start, *bodies = sent
    return Answer(
        start["status"], {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(message["body"] for message in bodies), next(iter(page.seen[before:]), None), heard,
    )  # fmt: skip


def tried(*requests: dict[str, Any], host: str = "127.0.0.1", limits: Limits = Limits()) -> list[Answer]:  # noqa: B008
    """The answers to requests, one after another, to a guarded page."""

    async def walk() -> list[Answer]:
        page = Page()
        guard = Guard(page, host, limits)
        return [await ask(guard, page, **request) for request in requests]

    with limited():
        return asyncio.run(walk())


def withstood(record: Counter, requests: Sequence[dict[str, Any]], *statuses: int, **settings: Any) -> None:
    """Hold that each was refused, with one of the statuses, before it reached the page, and that nothing of it came back."""
    for request, answer in zip(requests, tried(*requests, **settings), strict=True):
        assert answer.status in statuses, (request, answer)
        assert answer.reached is None, request
        assert len(answer.body) < 120, answer
        assert b"patients" not in answer.body, request
        assert b"evil" not in answer.body, request
        assert "access-control-allow-origin" not in answer.headers
    record("attacks", ("requests to the page", len(requests)))


def host(name: str, *more: Header) -> tuple[Header, ...]:
    return (("host", name), *more)


def post(*headers: Header, target: str = JOIN, pieces: Any = (QUESTION,), **more: Any) -> dict[str, Any]:
    return {"method": "POST", "target": target, "headers": [*host(HERE), *headers], "pieces": pieces, **more}


NAMES = (
    "", "evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example:7860", "localhost.", "127.0.0.1.nip.io",
    "127.1", "0x7f.0.0.1", "2130706433", "017700000001", "127.0.0.2", "[::ffff:127.0.0.1]", "[::2]", "[::1", "::1", "0.0.0.0:7860",
    "192.168.0.7", "user@127.0.0.1", "127.0.0.1:7860@evil.example", "127.0.0.1, evil.example", "127.0.0.1 evil.example",
    "localhost/evil.example", "localhost#", "localhost?", "localhost\t", "localhost\n", "loçalhost", "127.0.0.1:999999", "127.0.0.1:",
    "127.0.0.1:http", "*", "null", "xn--localhost-abc", "a" * 3000,
)  # fmt: skip


def test_a_name_that_was_made_to_lead_here_reads_nothing(record_property: Counter) -> None:
    requests: list[dict[str, Any]] = [{"target": target, "headers": host(name)} for name in NAMES for target in ("/", CONFIG)]  # fmt: skip
    requests += [{"headers": ()}, {"headers": [*host(HERE), ("host", "evil.example")]}]
    requests += [
        {"headers": [*host("evil.example"), (name, HERE)]} for name in ("x-forwarded-host", "forwarded", "x-host")
    ]
    withstood(record_property, requests, 403)
    # who opens the page to others by `--host` gives it no names but its own: addresses cannot be made to lead elsewhere
    named = [{"headers": host(name)} for name in ("evil.example", "evil.example:7860", "", "127.1", "0x7f.0.0.1")]
    for opened in ("0.0.0.0", "::", "192.168.0.7", "box.example"):
        withstood(record_property, named, 403, host=opened)


ORIGINS = (
    "null", "http://evil.example", "https://evil.example", "http://127.0.0.1", "http://127.0.0.1:8888", "http://localhost:7860",
    "http://127.0.0.1:7860.evil.example", "http://127.0.0.1:7860@evil.example", "http://evil.example/127.0.0.1:7860", "file://", "",
    "chrome-extension://abcdef", "http://[::1]:7860", f"http://{HERE} http://evil.example", f"//{HERE}", HERE, f"ws://{HERE}",
    f"http://{HERE}/", "javascript://" + HERE,
)  # fmt: skip


def test_another_page_asks_nothing(record_property: Counter) -> None:
    requests = [post(JSON, ("origin", origin)) for origin in ORIGINS]
    requests += [
        {"target": target, "headers": host(HERE, ("origin", "http://evil.example"))} for target in ("/", CONFIG)
    ]
    requests += [post(JSON, ("origin", f"http://{HERE}"), ("origin", "http://evil.example"))]
    for site in ("cross-site", "same-site", "CROSS-SITE", "?"):
        requests += [post(JSON, ("sec-fetch-site", site))]
        requests += [
            {"target": target, "headers": host(HERE, ("sec-fetch-site", site), ("sec-fetch-mode", mode))}
            for target, mode in ((CONFIG, "no-cors"), (CONFIG, "navigate"), ("/gradio_api/heartbeat/x", "no-cors"), ("/", "no-cors"), ("/theme.css", "cors"))
        ]  # fmt: skip
    withstood(record_property, requests, 403)


def test_only_reading_and_asking_are_methods(record_property: Counter) -> None:
    methods = (
        "OPTIONS",
        "PUT",
        "DELETE",
        "PATCH",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "get",
        "post",
        "",
        "GET /",
        "X" * 3000,
    )
    requests = [{"method": method, "target": target} for method in methods for target in ("/", JOIN)]
    preflight = host(
        HERE, ("access-control-request-method", "POST"), ("access-control-request-private-network", "true")
    )
    requests += [{"method": "OPTIONS", "target": JOIN, "headers": preflight}]
    withstood(record_property, requests, 405)


ABSENT = (
    "/upload", "/gradio_api/upload", "/gradio_api/upload?upload_id=x", "/gradio_api/upload/", "/gradio_api/upload_progress?upload_id=x",
    "/gradio_api/file=/etc/passwd", "/gradio_api/file/etc/passwd", "/file=/etc/passwd", "/file/etc/passwd", "/gradio_api/file=http://evil.example",
    "/gradio_api/proxy=http://evil.example", "/proxy=http://169.254.169.254/latest/meta-data", "/gradio_api/stream/x", "/gradio_api/stream/x/close",
    "/gradio_api/run/ask", "/gradio_api/run/predict/x", "/gradio_api/api/ask", "/api/predict", "/gradio_api/call/ask", "/gradio_api/call/v2/ask", "/gradio_api/call/ask/x",
    "/gradio_api/info", "/gradio_api/openapi.json", "/openapi.json", "/docs", "/redoc", "/gradio_api/runs", "/gradio_api/run-history/connect",
    "/gradio_api/process_recording", "/gradio_api/vibe-edit", "/gradio_api/vibe-code", "/gradio_api/token", "/gradio_api/user",
    "/gradio_api/app_id", "/gradio_api/dev/reload", "/gradio_api/profiling/traces", "/gradio_api/cancel", "/gradio_api/reset",
    "/gradio_api/component_server", "/gradio_api/deep_link", "/gradio_api/custom_component/x/client/component/index.js", "/login", "/logout",
    "/monitoring", "/monitoring/summary", "/pwa_icon", "/gradio_api/mcp/sse", "/gradio_api/startup-events", "/.env", "/.git/config",
)  # fmt: skip
CROOKED = (
    "/static/../../etc/passwd", "/static/..%2f..%2fetc/passwd", "/assets/%2e%2e/%2e%2e/etc/passwd", "/static//etc/passwd", "/static/%2fetc/passwd",
    "/assets/..%5c..%5cwindows", "/static/%00", "/static/a%00.js", "/assets/..%252f..%252fetc/passwd", "/static/a%0d%0aset-cookie:%20x=1",
    f"http://{HERE}/gradio_api/upload", f"http://{HERE}/", "//evil.example/static/x", "/config/../gradio_api/upload", "/%2e%2e/", "/STATIC/x",
    "/config;/gradio_api/upload", "/gradio_api//upload", "%5cgradio_api%5cupload", "*", "", "/theme.css%0a", "/gradio_api/heartbeat/../../gradio_api/upload",
    "/gradio_api/heartbeat/a/b", "/gradio_api/%66ile=/etc/passwd", "/gradio_api/queue%2fjoin%2f..", "/static/\u2025/x", "/assets/\u202e", "/static/",
    "/CONFIG", "/config/", "/%63onfig%2f", "/gradio_api/queue/join/",
)  # fmt: skip


def test_what_the_page_does_not_need_is_not_there(record_property: Counter) -> None:
    form = ("content-type", "multipart/form-data; boundary=x")
    file = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../x"\r\n\r\n'
        + b"x" * 1000
        + b"\r\n--x--\r\n"
    )
    requests = [{"target": target} for target in (*ABSENT, *CROOKED)]
    requests += [{"method": "HEAD", "target": target} for target in (*ABSENT[:6], *CROOKED[:3])]
    requests += [post(JSON, target=target) for target in (*ABSENT, *CROOKED, "/", CONFIG, "/theme.css")]
    requests += [post(form, target=target, pieces=(file,)) for target in ABSENT[:5]]
    withstood(record_property, requests, 404)


def test_bodies_are_json_and_small(record_property: Counter) -> None:
    kinds = ("", "text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "*/*")  # fmt: skip
    withstood(record_property, [*(post(("content-type", kind)) for kind in kinds), post(), post(JSON, JSON)], 415)
    lengths = ("1048577", "999999999999", "9" * 400)
    withstood(record_property, [post(JSON, ("content-length", length)) for length in lengths], 413)
    unclear = [
        post(JSON, ("content-length", length)) for length in ("-1", "+5", "0x10", "5 ", "1e3", "", "5, 5", "١٢", "NaN")
    ]
    chunked = ("transfer-encoding", "chunked")
    unclear += [
        post(JSON, ("content-length", "5"), ("content-length", "6")),
        post(JSON, ("content-length", "5"), chunked),
    ]
    unclear += [
        {"target": target, "headers": host(HERE, header)}
        for target in ("/", CONFIG)
        for header in (chunked, ("content-length", "5"))
    ]
    unclear += [post(JSON, chunked, pieces=iter([b"{"]))]  # who is gone before the end
    withstood(record_property, unclear, 400)
    withstood(record_property, [post(JSON, chunked, pieces=(QUESTION, b"}"), wait=0.2)], 408, limits=Limits(body_s=0.1))

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * (1 << 16)

    endlessly = [post(JSON, chunked, pieces=endless()), post(JSON, ("content-length", "10"), pieces=endless()), post(JSON, pieces=(b"x" * (1 << 21),))]  # fmt: skip
    withstood(record_property, endlessly, 413)
    [answer] = tried(post(JSON, chunked, pieces=endless()))
    assert answer.heard == 17  # no more than what shows that it is too much


def test_heads_are_small(record_property: Counter) -> None:
    many = [host(HERE, *((f"x-{n}", "1") for n in range(count))) for count in (64, 10_000)]
    long = [host(HERE, ("x", "1" * size)) for size in (17 << 10, 1 << 20)]
    withstood(record_property, [{"headers": headers} for headers in (*many, *long)], 431)
    targets = ("/?" + "a" * 5000, "/" + "a" * 5000, "/static/" + "a/" * 4000, "/config?" + "%00" * 2000)
    withstood(record_property, [{"target": target} for target in targets], 414)


def test_a_flood_is_refused_and_the_page_is_there_afterwards(record_property: Counter) -> None:
    async def flood() -> tuple[list[int], int, Answer]:
        page = Page(hold=asyncio.Event())
        guard = Guard(page, "127.0.0.1")
        assert page.hold
        asked = [asyncio.create_task(ask(guard, page, **post(JSON))) for _ in range(200)]
        slow = [
            asyncio.create_task(ask(guard, page, **post(JSON, pieces=(QUESTION, b"}"), wait=5))) for _ in range(100)
        ]
        while (reached := len(page.seen)) < 64 or sum(task.done() for task in (*asked, *slow)) < 300 - 64:
            await asyncio.sleep(0.01)
        page.hold.set()
        statuses = [answer.status for answer in await asyncio.gather(*asked, *slow)]
        return statuses, reached, await ask(guard, page, **post(JSON))

    with limited():
        statuses, reached, after = asyncio.run(flood())
    assert (statuses.count(200), statuses.count(429), reached) == (64, 236, 64)
    assert (after.status, after.reached and after.reached["body"]) == (200, QUESTION)
    record_property("attacks", ("requests to the page", 300))


@pytest.mark.parametrize("kind", ["websocket", "webtransport", "http.push"])
def test_what_is_no_request_is_closed(kind: str, record_property: Counter) -> None:
    paths, sent = ("/", JOIN, "/gradio_api/upload", "/queue/join"), []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])

    async def walk() -> None:
        page = Page()
        for path in paths:
            headers = [(b"host", HERE.encode()), (b"origin", b"http://evil.example")]
            await Guard(page, "127.0.0.1")({"type": kind, "path": path, "headers": headers}, receive, send)
        assert not page.seen

    with limited():
        asyncio.run(walk())
    assert sent == ["websocket.close"] * len(paths)
    record_property("attacks", ("requests to the page", len(paths)))


def test_the_page_itself_still_works() -> None:
    fine: list[tuple[str, dict[str, Any]]] = [
        ("127.0.0.1", {"headers": host(name)}) for name in (HERE, "127.0.0.1", "LOCALHOST:9000", "[::1]:7860", "localhost:80")
    ]  # fmt: skip
    fine += [("192.168.0.7", {"headers": host("192.168.0.7:7860")}), ("box.example", {"headers": host("Box.example")})]
    fine += [(opened, {"headers": host(name)}) for opened in ("0.0.0.0", "::") for name in ("192.168.0.7:7860", "[fe80::1]", HERE, socket.gethostname())]  # fmt: skip
    link = (("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"))
    own = (("origin", f"http://{HERE}"), ("sec-fetch-site", "same-origin"))
    targets = ("/", CONFIG, "/theme.css?v=1", "/favicon.ico", "/assets/index-Bx_9@1.2.js", "/static/fonts/a/b.woff2", "/gradio_api/heartbeat/ab1", "/gradio_api/queue/data?session_hash=a")  # fmt: skip
    fine += [("127.0.0.1", {"target": target, "headers": host(HERE, *own)}) for target in targets]
    fine += [("127.0.0.1", {"headers": host(HERE, *link)}), ("127.0.0.1", {"method": "HEAD"})]
    kinds = ("application/json", "application/json; charset=utf-8", "Application/JSON")
    fine += [
        ("127.0.0.1", post(("content-type", kind), *own, pieces=(QUESTION[:9], b"", QUESTION[9:]))) for kind in kinds
    ]
    fine += [("127.0.0.1", post(JSON, ("content-length", str(len(QUESTION)))))]  # a program that is no browser
    for opened, request in fine:
        [answer] = tried(request, host=opened)
        assert (answer.status, answer.body) == (200, b"questions of patients"), (opened, request)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
        assert answer.reached is not None
        assert answer.reached["body"] == (QUESTION if request.get("method") == "POST" else b"")


def test_nobody_else_says_by_which_address_the_page_is_reached() -> None:
    forwarded = [
        (name, "evil.example") for name in ("x-forwarded-host", "X-Forwarded-Proto", "forwarded", "x-forwarded-prefix")
    ]
    [answer] = tried({"headers": host(HERE, *forwarded, ("accept", "*/*"))})
    assert answer.reached is not None
    assert answer.reached["headers"] == [(b"host", HERE.encode()), (b"accept", b"*/*")]


# --- the real page, by the real server


SERVED = """
import pathlib, sys, time
from medrecipes.use import chat_page, tag_page
from medrecipes.core.console import Console
def tag(text):
    time.sleep(float(text) if text.replace(".", "").isdigit() else 0)
    return []
place = chat_page.Place("127.0.0.1", int(sys.argv[1]), pathlib.Path(sys.argv[2]))
chat_page.keep(tag_page.build("x", ["Chemical"], ["Aspirin"], tag), tag_page.CSS, Console(), place)
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, int, Path]]:
    """The page of a tagger that sleeps as long as its text says: its port, its process and its folder for temporary files."""
    port = free_port()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "GRADIO_TEMP_DIR": str(temporary / "gradio"),
        "GRADIO_SHARE": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SERVED, str(port), str(tmp_path / "log.txt")],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while said(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[:12] != b"HTTP/1.1 200":
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield port, process.pid, temporary
    process.send_signal(2)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in error) == (0, False), error


def said(port: int, *pieces: bytes, wait: float = 10) -> bytes:
    """What a server answers to bytes as they are, until it closes or has nothing more to say."""
    found = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=wait) as door:
            for piece in pieces:
                door.sendall(piece)
            while part := door.recv(1 << 16):
                found += part
    except OSError:
        pass
    return found


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the real page needs gradio")
def test_the_real_page_withstands_the_same_and_worse(served: tuple[int, int, Path], record_property: Counter) -> None:
    port, process, temporary = served
    before, here = fingerprint(temporary), f"Host: 127.0.0.1:{port}\r\nConnection: close\r\n"
    body = b"x" * 100_000
    form = f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    hostile = [
        f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
        for path in ("/", "/config") for name in ("evil.example", f"evil.example:{port}", "", "127.1", "localhost.")
    ]  # fmt: skip
    hostile += [f"GET {path} HTTP/1.1\r\n{here}\r\n".encode() for path in ABSENT]
    hostile += [f"POST {path} HTTP/1.1\r\n{here}".encode() + form for path in ABSENT]
    hostile += [
        b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\0\0\0", b"GET /\0 HTTP/1.1\r\n\r\n", b"GET  / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", f"GET / HTTP/1.1\r\n{here}X: {'1' * 200_000}\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\n{here}{''.join(f'X-{n}: 1{chr(13)}{chr(10)}' for n in range(500))}\r\n".encode(),
        f"GET /{'a' * 200_000} HTTP/1.1\r\n{here}\r\n".encode(), f"OPTIONS {JOIN} HTTP/1.1\r\n{here}Origin: http://evil.example\r\n\r\n".encode(),
        f"POST {JOIN} HTTP/1.1\r\n{here}Content-Type: application/json\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode(),
        f"POST {JOIN} HTTP/1.1\r\n{here}Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\n{here.replace('close', 'Upgrade')}Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\nOrigin: http://evil.example\r\n\r\n".encode(),
    ]  # fmt: skip
    with limited(60):
        for request in hostile:
            answer = said(port, request)
            assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), (request[:200], answer[:300])
            assert b"Aspirin" not in answer, request[:200]
        # more questions than may wait, by visitors of one's own making: the rest is turned away, and the page lives
        statuses = [join(port, GOOD | {"session_hash": f"s{n}"}) for n in range(40)]
        assert statuses == [200] * 9 + [503] * 31
        assert {join(port, body) for body in ODD} <= {200, 400, 404, 422, 500, 503}
        # and nothing runs beside the queue but what fills in an example, or stops
        assert {join(port, body, "/gradio_api/run/predict") for body in (*ODD, GOOD)} <= {400, 404, 422, 500}
    assert said(port, f"GET / HTTP/1.1\r\n{here}\r\n".encode()).startswith(b"HTTP/1.1 200")
    assert fingerprint(temporary) == before  # nothing was uploaded
    assert int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() < 4e9
    record_property("attacks", ("requests to the page", len(hostile) + 2 * len(ODD) + 41))


MARK = 1  # the number of the function that the page's button calls
GOOD = {"data": ["1.5"], "fn_index": MARK, "session_hash": "o"}
ODD: tuple[Any, ...] = (
    None, [], "x", 5, {}, {"data": None}, {"data": {}, "fn_index": MARK, "session_hash": "o"}, {"data": [], "fn_index": -1, "session_hash": "o"},
    {"data": [float("nan")], "fn_index": MARK, "session_hash": "o"}, {"data": ["\ud800"], "fn_index": MARK, "session_hash": "o"},
    {"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}], "fn_index": MARK, "session_hash": "o"},
    {"data": ["x"], "fn_index": 10**30, "session_hash": "o"}, {"data": ["x"], "fn_index": MARK}, {"data": ["x"], "fn_index": "1", "session_hash": ["o"]},
    {"data": ["x"] * 1000, "fn_index": MARK, "session_hash": "o"}, {"data": ["x"], "fn_index": MARK, "session_hash": "../../o"},
    {"data": ["x" * 100_000], "fn_index": MARK, "session_hash": "o"},
)  # fmt: skip


def join(port: int, body: Any, to: str = JOIN) -> int:
    """The status that a question gets."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{to}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
