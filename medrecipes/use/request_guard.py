"""What stands before a page of ours: ASGI middleware that answers this machine's own page and refuses everything else.

Any website that a browser on this machine looks at can send requests here, and a name of its own can be made to lead here
(DNS rebinding). So a request has to name this host, must not come from another page, and may only ask for what the page needs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = dict[bytes, list[bytes]]

OWN = ("127.0.0.1", "localhost", "[::1]")
ANY = ("0.0.0.0", "::", "[::]", "")  # all addresses of this machine
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
# all that the page asks for; what Gradio has beside it (uploads, files, proxies, recordings, its API) is not there
READ = re.compile(
    r"/(?:config|theme\.css|favicon\.ico|(?:static|assets)/[\w@~.,=+/-]+|gradio_api/(?:queue/data|heartbeat/\w+))?",
    re.ASCII,
)
# a question joins the queue; what fills in an example or stops an answer is told at once
WRITE = re.compile(r"/gradio_api/(?:queue/join|run/predict)")
DROPPED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-prefix", b"x-forwarded-port")  # fmt: skip
ADDED = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # a page that can be made to show something cannot be made to fetch it from elsewhere
    (b"content-security-policy", b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'"),
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """How much of anything is taken."""

    body: int = 1 << 20  # bytes; a question or a text is far smaller
    body_s: float = 10.0
    headers: int = 64
    header_bytes: int = 16 << 10
    target: int = 4096  # bytes of path and query
    at_once: int = 64  # requests in flight; a page that is open holds two


class Refused(Exception):  # noqa: N818 - it is no error of ours
    """Why a request is not passed on."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Hosts:
    """The names that a server may be asked by."""

    def __init__(self, host: str) -> None:
        self._anywhere = host in ANY
        named = [host.lower(), *([f"[{host}]".lower()] if ":" in host else [])]
        self._hosts = {*OWN, *named, *([socket.gethostname().lower()] if self._anywhere else [])} - {*ANY}

    def asked(self, named: Sequence[str]) -> str:
        """The one host that a request names, as it names it; raises where it is none of ours."""
        said = named[0].lower() if len(named) == 1 else ""
        found = HOST.fullmatch(said)
        if not found or not (found[1] in self._hosts or (self._anywhere and _literal(found[1]))):
            raise Refused(403, "this page is not by that name; open it by the address that the command printed")
        return said


def require_own(here: str, origins: Sequence[str], sites: Sequence[str]) -> None:
    """Raise for what another page has sent: by its Origin headers, and its Sec-Fetch-Site headers."""
    for origin in origins:
        scheme, _, place = origin.lower().partition("://")
        if scheme not in ("http", "https") or place != here:
            raise Refused(403, "another page may not ask this one")
    if any(site not in ("", "none", "same-origin") for site in sites):
        raise Refused(403, "another page may not ask this one")


class Guard:
    """An ASGI app with only what its own page needs, for requests that name one of its hosts."""

    def __init__(self, app: App, host: str, limits: Limits = Limits()) -> None:
        self._app, self._limits, self._hosts = app, limits, Hosts(host)
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": [*message.get("headers", ()), *ADDED]}
            await send(message)

        try:
            headers = self._checked(scope)
            self._in_flight += 1
            try:
                body = await self._read(headers, receive) if scope["method"] == "POST" else b""
                await self._app(self._passed(scope), _replay(body, receive), answer)
            finally:
                self._in_flight -= 1
        except Refused as refused:
            if not begun:
                await _refuse(refused, scope["method"], answer)

    def _checked(self, scope: Scope) -> Headers:
        """The headers of a request that may be answered."""
        headers: Headers = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        self._size(scope)
        if self._in_flight >= self._limits.at_once:
            raise Refused(429, "too many requests at once")
        here = self._hosts.asked(_texts(headers, b"host"))
        # a link to this page may be followed from anywhere
        link = scope["method"] == "GET" and scope["path"] == "/" and headers.get(b"sec-fetch-mode") == [b"navigate"]
        require_own(here, _texts(headers, b"origin"), () if link else _texts(headers, b"sec-fetch-site"))
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise Refused(405, "only GET, HEAD and POST")
        allowed = WRITE if scope["method"] == "POST" else READ
        path = scope["path"]
        if not allowed.fullmatch(path) or ".." in path or "//" in path:
            raise Refused(404, "no such page")
        if scope["method"] != "POST" and (b"transfer-encoding" in headers or headers.get(b"content-length", [b"0"]) != [b"0"]):  # fmt: skip
            raise Refused(400, "what is only read has no body")
        return headers

    def _size(self, scope: Scope) -> None:
        """Hold the request's head to its limits."""
        limits = self._limits
        if len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b"")) > limits.target:
            raise Refused(414, "the address is too long")
        if len(scope["headers"]) > limits.headers or sum(len(n) + len(v) for n, v in scope["headers"]) > limits.header_bytes:  # fmt: skip
            raise Refused(431, "too many headers")

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body of a request, as JSON and within its limits."""
        [kind, *more] = headers.get(b"content-type", [b""])
        if more or kind.split(b";")[0].strip().lower() != b"application/json":
            raise Refused(415, "only JSON is taken")
        lengths = headers.get(b"content-length", [])
        if len(lengths) > 1 or (lengths and (b"transfer-encoding" in headers or not lengths[0].isdigit())):
            raise Refused(400, "its length is not clear")
        if lengths and (len(lengths[0]) > 12 or int(lengths[0]) > self._limits.body):
            raise Refused(413, "the body is too large")
        try:
            return await asyncio.wait_for(self._gather(receive), self._limits.body_s)
        except TimeoutError:
            raise Refused(408, "the body did not come in time") from None

    async def _gather(self, receive: Receive) -> bytes:
        pieces, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise Refused(400, "the request was cut short")
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._limits.body:
                raise Refused(413, "the body is too large")
            more = message.get("more_body", False)
        return b"".join(pieces)

    @staticmethod
    def _passed(scope: Scope) -> Scope:
        """The request as the page sees it: nobody else says by which address it was reached."""
        return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name.lower() not in DROPPED]}


def _texts(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1") for value in headers.get(name, ())]


def _literal(host: str) -> bool:
    """Whether a host is an address and no name, which could be made to lead anywhere."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _replay(body: bytes, receive: Receive) -> Receive:
    """A body that was read, once; behind it whatever comes, such as that the visitor has gone."""
    messages: Iterable[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def next_message() -> Message:
        for message in messages:
            return message
        return await receive()

    return next_message


async def _refuse(refused: Refused, method: str, send: Send) -> None:
    body = f"{refused}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]  # fmt: skip
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
