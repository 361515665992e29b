"""`medrecipes serve RUN`: an OpenAI-compatible server of a run; requests are batched together by one generator."""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError, reason
from medrecipes.core.notes import note
from medrecipes.data.reasoning import KEYS
from medrecipes.engines import Decoding
from medrecipes.release.cards import DISCLAIMER
from medrecipes.rendering.growing_text import Growing, Piece
from medrecipes.use import openai_api as api
from medrecipes.use.chat import Opened
from medrecipes.use.chat_page import Place
from medrecipes.use.openai_api import BadRequest, Wish
from medrecipes.use.request_guard import OWN, Hosts, Limits, Refused, require_own

HOST, PORT = "127.0.0.1", 8000
AT_ONCE = 256  # requests that are answered or wait; who comes then is told to come again
GRACE_S = 5.0  # for answers in flight, once the server is to end
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Event = int | BaseException | None  # a token, what went wrong, or the end


@dataclass(frozen=True)
class Settings:
    """What is served by which name, and the key that callers must bring, if any."""

    name: str
    host: str
    key: str | None = None
    limits: Limits = field(default_factory=Limits)


class Mail:
    """Events from the model's thread to the readers in the event loop, which is woken once for many of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._waking = loop, False
        self._events: deque[tuple[asyncio.Queue[Event], Event]] = deque()

    def post(self, reader: asyncio.Queue[Event], event: Event) -> None:
        """Called in the model's thread."""
        self._events.append((reader, event))
        if not self._waking:
            self._waking = True
            with suppress(RuntimeError):  # the loop has ended, and nobody reads any longer
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._waking = False  # before the events are taken: what comes behind that wakes anew
        while self._events:
            reader, event = self._events.popleft()
            reader.put_nowait(event)


class Server:
    """The run behind `/v1/chat/completions` and `/v1/models`."""

    def __init__(self, opened: Opened, settings: Settings) -> None:
        self._opened, self._settings = opened, settings
        self._usual = Decoding.of(opened.recipe)
        self._window = opened.recipe.data.max_tokens
        self._hosts, self._created, self._in_flight = Hosts(settings.host), int(time.time()), 0
        self._shared = opened.engine.shared(AT_ONCE)
        self._tokenising = ThreadPoolExecutor(1)  # a long prompt holds up no answer
        self._mail: Mail | None = None

    def start(self) -> None:
        """Open the model; raises what keeps it from being opened."""
        self._shared.start()

    def close(self) -> None:
        """Let go of the model."""
        self._shared.close()
        self._tokenising.shutdown()

    def app(self) -> web.Application:
        """The routes, behind what every request has to pass."""
        app = web.Application(middlewares=[self._guarded], client_max_size=self._settings.limits.body)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{name}", self._model)
        app.router.add_post("/v1/chat/completions", self._complete)
        return app

    # --- what every request has to pass -----------------------------------------------------------------------------

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check(request)
            return await handler(request)
        except BadRequest as error:
            return _error(error)
        except Refused as error:
            why = "this server is not by that name; ask it by the address that it printed" if error.status == 403 else str(error)  # fmt: skip
            return _error(BadRequest(error.status, why))
        except web.HTTPRequestEntityTooLarge:
            return _error(BadRequest(413, f"the body is larger than {self._settings.limits.body:,} bytes"))
        except Exception as error:
            if not isinstance(error, web.HTTPException):
                note(f"a request failed: {type(error).__name__}: {reason(error)}")
                return _error(BadRequest(500, "the server failed; its terminal says how"))
            # no such path, or not by that method
            return _error(BadRequest(error.status, f"{request.method} {request.path}: there is {error.reason.lower()}"[:300]), error)  # fmt: skip

    def _check(self, request: web.Request) -> None:
        """Raise for another host's name, another page's request, or a wrong key."""
        headers = request.headers
        here = self._hosts.asked(headers.getall("Host", []))
        require_own(here, headers.getall("Origin", []), headers.getall("Sec-Fetch-Site", []))
        if self._settings.key is None:
            return
        given = headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {self._settings.key}".encode()):
            raise BadRequest(401, "the key is missing or wrong; send it as a bearer token", code="invalid_api_key")

    async def _body(self, request: web.Request) -> bytes:
        if request.content_type != "application/json":
            raise BadRequest(415, "only JSON is taken; send content-type: application/json")
        if (request.content_length or 0) > self._settings.limits.body:
            raise web.HTTPRequestEntityTooLarge(self._settings.limits.body, request.content_length or 0)
        try:
            return await asyncio.wait_for(request.read(), self._settings.limits.body_s)
        except TimeoutError:
            raise BadRequest(408, "the body did not come in time") from None

    # --- the routes -------------------------------------------------------------------------------------------------

    async def _models(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [api.model(self._settings.name, self._created)]})

    async def _model(self, request: web.Request) -> web.StreamResponse:
        self._require_model(request.match_info["name"])
        return web.json_response(api.model(self._settings.name, self._created))

    def _require_model(self, name: str) -> None:
        if name != self._settings.name:
            raise BadRequest(404, f"the model {name[:100]!r} is not served here; {self._settings.name!r} is", "model", "model_not_found")  # fmt: skip

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        wish = api.read(await self._body(request), self._usual)
        self._require_model(wish.model)
        if self._in_flight >= AT_ONCE:
            raise BadRequest(429, f"{AT_ONCE} requests are being answered or wait; come again", code="queue_full")
        self._in_flight += 1
        try:
            prompt, wish = await asyncio.get_running_loop().run_in_executor(self._tokenising, self._prompt, wish)
            envelope = api.Envelope(self._settings.name)
            longest = 0 if wish.limited else self._opened.recipe.eval.max_new_tokens
            answer = Answer(
                self._opened.growing(longest, wish.stops), wish.decoding.ending(self._opened.template.stop_ids)
            )
            async with self._pieces(prompt, wish, answer) as pieces:
                if wish.stream:
                    return await _streamed(request, pieces, answer, envelope, len(prompt), usage=wish.usage_in_stream)
                async for _ in pieces:
                    pass
            said = answer.growing
            return web.json_response(envelope.whole(said.text, said.thought, answer.finish, answer.usage(len(prompt))))
        finally:
            self._in_flight -= 1

    def _prompt(self, wish: Wish) -> tuple[list[int], Wish]:
        """The prompt's ids by the template that was trained, and the wish with an answer no longer than fits behind them."""
        template = self._opened.template
        try:
            [ids] = template.prompts([[replace(m, reasoning=template.remembered(m.reasoning)) for m in wish.messages]])
        except MedRecipesError as error:
            raise BadRequest(400, f"messages: {error}", "messages") from None
        room, limit = self._window - len(ids), wish.decoding.max_new_tokens
        if room < (limit if wish.limited else 1):
            longest = f" and the answer up to {limit:,}" if wish.limited else ""
            raise BadRequest(
                400, f"the messages take {len(ids):,} tokens{longest}, but the model was trained on {self._window:,}; shorten them",
                "messages", "context_length_exceeded",
            )  # fmt: skip
        return ids, replace(wish, decoding=replace(wish.decoding, max_new_tokens=min(limit, room)))

    @asynccontextmanager
    async def _pieces(self, prompt: Sequence[int], wish: Wish, answer: Answer) -> AsyncIterator[AsyncIterator[Piece]]:
        """The pieces of an answer as they come; whoever stops reading calls the request off."""
        if self._mail is None:
            self._mail = Mail(asyncio.get_running_loop())
        mail, events = self._mail, asyncio.Queue[Event]()

        def ended(error: BaseException | None) -> None:
            mail.post(events, error)

        asked = self._shared.ask(prompt, wish.decoding, lambda token: mail.post(events, token), ended)
        try:
            yield answer.pieces(events)
        finally:
            self._shared.cancel(asked)


class Answer:
    """An answer as it comes: its reasoning and text, how many tokens it took, and why it ended."""

    def __init__(self, growing: Growing, stop_ids: Sequence[int]) -> None:
        self.growing, self._stop_ids = growing, stop_ids
        self.tokens, self.finish = 0, "length"

    async def pieces(self, events: asyncio.Queue[Event]) -> AsyncIterator[Piece]:
        """Its reasoning and text, piece by piece, until it has ended."""
        ended = False
        while not ended and not self.growing.ended:
            tokens: list[int] = []
            event: Event = await events.get()
            while True:  # all that came meanwhile becomes one piece
                if isinstance(event, BaseException):
                    raise BadRequest(500, f"the answer was not finished: {event}")
                if event is None:
                    ended = True
                    break
                tokens.append(event)
                if events.empty():
                    break
                event = events.get_nowait()
            self.tokens += len(tokens)
            if tokens and tokens[-1] in self._stop_ids:
                self.finish = "stop"
            for piece in self.growing.add(tokens):
                yield piece
        for piece in self.growing.end():
            yield piece
        if self.growing.ended:
            self.finish = "stop" if self.growing.ended == "stop" else "length"

    def usage(self, prompt: int) -> dict[str, Any]:
        """What the request took."""
        return api.usage(prompt, self.tokens, self.growing.reasoning)


async def _streamed(
    request: web.Request, pieces: AsyncIterator[Piece], answer: Answer, envelope: api.Envelope, prompt: int, *, usage: bool
) -> web.StreamResponse:  # fmt: skip
    """An answer as server-sent events."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store"})  # fmt: skip
    await response.prepare(request)

    async def send(data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        await response.write(f"data: {text}\n\n".encode())

    # the role comes with the first token: benchmark clients take the first event for it
    role: Any = envelope.piece({"role": "assistant", "content": ""})
    try:
        async for piece in pieces:
            if role:
                await send(role)
                role = None
            await send(envelope.piece({KEYS[0] if piece.reasoning else "content": piece.text}))
        if role:
            await send(role)
        await send(envelope.piece({}, answer.finish))
        if usage:
            await send(envelope.used(answer.usage(prompt)))
    except BadRequest as error:  # too late for a status
        await send(error.body())
    except ConnectionResetError:
        return response
    await send("[DONE]")
    await response.write_eof()
    return response


def _error(error: BadRequest, like: web.HTTPException | None = None) -> web.Response:
    headers = {"Retry-After": "1"} if error.status in (429, 503) else {}
    if like is not None and "Allow" in like.headers:
        headers["Allow"] = like.headers["Allow"]
    response = web.json_response(error.body(), status=error.status, headers=headers)
    if error.status in (408, 413):
        response.force_close()  # what is left of the body is not read
    return response


def serve(opened: Opened, console: Console, place: Place, settings: Settings) -> None:
    """Answer requests until SIGINT or SIGTERM; then those in flight have a few seconds to end."""
    if settings.key is None and place.host not in (*OWN, "::1"):
        note(f"{place.host} is more than this machine, and no key is asked for; name one with --api-key-env")
    door = place.open()
    server = Server(opened, settings)
    with door, console.quiet(place.log):
        server.start()
        console.line(DISCLAIMER)
        console.line(f"serving     {settings.name} at {place}/v1  (Ctrl-C ends it)")
        try:
            asyncio.run(_until_told(server, door))
        finally:
            server.close()
    console.line("closed")


async def _until_told(server: Server, door: Any) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    # a handler is cancelled when its client goes
    runner = web.AppRunner(
        server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=GRACE_S, keepalive_timeout=30.0
    )
    await runner.setup()
    await web.SockSite(runner, door, backlog=1024).start()
    await told.wait()
    await runner.cleanup()
