"""A small Hub over real HTTP on loopback, for the real `huggingface_hub` and `datasets` clients: `with Hub() as hub: …`.

It does not speak xet, which the client prefers for uploads wherever the `hf_xet` package is installed: `Hub.environment`
switches that off by the client's own setting, and the client then uploads by LFS.
"""

from __future__ import annotations

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.hub.faults import Fault, Faults, Harm
from tests.hub.protocol import Answer, Request, Settings, answer, refused
from tests.hub.store import RefusedError, Repo, Store, Token

__all__ = ["Fault", "Harm", "Hub", "Repo", "Token"]


# accounts, and what Unsloth sets of its own accord in a process that was told to be offline
ELSEWHERE = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


class Hub:
    """A Hub that listens on a port of its own until it is closed."""

    def __init__(self) -> None:
        self.store, self.faults, self.settings = Store(), Faults(), Settings()
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, token: str | None = None, **more: str) -> dict[str, str]:
        """The environment of a process for which this is the only Hub."""
        kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
        return {
            **kept, "HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
            **({"HF_TOKEN": token} if token else {}), **more,
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    """The plumbing between a socket and the protocol; faults strike here."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    # an answer is two writes, and the second would wait for the first to be acknowledged
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        said = f"{self.command} {parts.path}"
        self.hub.requests.append(said)
        harm = self.hub.faults.meet(said)
        if harm.slow:
            threading.Event().wait(harm.slow)
        if harm.hear is not None:
            self.rfile.read(min(harm.hear, int(self.headers.get("Content-Length", 0))))
            self._hang_up()
            return
        body = self._body()
        if harm.before:
            harm.before()
        if harm.status:
            self._send(Answer(harm.body.encode(), harm.status, harm.headers), Harm())
            return
        if harm.spoil and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        found = self._answer(parts.path, parts.query, body)
        if harm.mute:
            self._hang_up()
        else:
            self._send(found, harm)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - the names that the standard library calls

    def _answer(self, path: str, query: str, body: bytes) -> Answer:
        header = self.headers.get("Authorization", "")
        token = self.hub.store.tokens.get(header.removeprefix("Bearer "))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            if header and token is None:
                raise RefusedError(401, "Invalid credentials in Authorization header")
            outside = self.hub.url.replace("127.0.0.1", "localhost")
            asked = Request(self.hub.url, outside, self.command, path, parse_qs(query), headers, body, token)
            return answer(self.hub.store, self.hub.settings, asked)
        except RefusedError as error:
            return refused(error)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, found: Answer, harm: Harm) -> None:
        body = found.body[: len(found.body) - harm.shorten]
        if harm.spoil and body and self.command == "GET":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(found.status)
        for name, value in {**found.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if harm.say is None else body[: harm.say])
        if harm.say is not None and self.command != "HEAD":
            self._hang_up()

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass
