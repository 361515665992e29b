"""One generator that many callers ask at once: a thread owns the model and steps it, requests come and go while it runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from medrecipes.core.notes import note
from medrecipes.engines import Decoding
from medrecipes.engines.generation.batch import Generator, Request
from medrecipes.engines.generation.text import spoken

Open = Callable[[], AbstractContextManager[Generator | None]]
Alone = Callable[[Sequence[int], Decoding], Sequence[int]]
Ended = Callable[[BaseException | None], None]


class Shared:
    """A model behind a thread of its own; `ask` and `cancel` may be called from any other, and return at once.

    `open` opens a generator, or gives None for a base that only the library's `generate` answers for; then `alone`
    answers one request after the other. What callers hand over is called in the model's thread and must be quick.
    """

    def __init__(self, open: Open, alone: Alone, rows: int, tokens: int) -> None:
        self._open, self._alone, self._rows, self._tokens = open, alone, rows, tokens
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._asked: dict[Request, Ended] = {}
        self._generator: Generator | None = None
        self._queue: list[Request] = []  # where the library answers
        self._closing = False
        self._opened: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)

    def start(self) -> None:
        """Open the model; raises what kept it from being opened."""
        self._thread.start()
        if error := self._opened.get():
            raise error

    def ask(self, prompt: Sequence[int], decoding: Decoding, tell: Callable[[int], None], ended: Ended) -> Request:
        """Hand in a prompt: `tell` hears each token, and `ended` that the last one came, or what went wrong."""

        def hear(token: int) -> None:
            tell(token)
            self._take()  # whoever came meanwhile need not wait for a row to end

        request = Request(prompt, decoding, hear)
        self._inbox.put(lambda: self._enter(request, ended))
        return request

    def spoken(self, prompt: Sequence[int], decoding: Decoding, stop: threading.Event | None = None) -> Iterator[int]:
        """The tokens of one answer as they come; it ends early once the event is set or nobody reads."""

        def write(tell: Callable[[int], None], over: Callable[[], bool]) -> None:
            ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
            asked: list[Request] = []

            def listen(token: int) -> None:
                tell(token)
                if over() and asked:
                    self.cancel(asked[0])

            asked.append(self.ask(prompt, decoding, listen, ended.put))
            if error := ended.get():
                raise error

        return spoken(write, stop)

    def cancel(self, request: Request) -> None:
        """Have a request end before its time; one that has ended already is left alone."""
        self._inbox.put(lambda: self._call_off(request))

    def close(self) -> None:
        """Call off whatever is still asked, and let go of the model."""
        self._inbox.put(self._close)
        self._thread.join()

    # --- the model's thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        opened = False
        while not self._closing:
            try:
                with self._open() as self._generator:
                    if self._generator is not None:
                        self._generator.expect(self._rows, self._tokens)
                    if not opened:
                        self._opened.put(None)
                    opened = True
                    while not self._closing:
                        self._step()
            except BaseException as error:
                if not opened:
                    self._opened.put(error)
                    return
                note(f"answers: {error}; {len(self._asked)} requests are given up, and the next ones answered")
                self._give_up(error)
        self._give_up(RuntimeError("the server is shutting down"))

    def _step(self) -> None:
        """Answer on, or wait for somebody to ask."""
        generator = self._generator
        self._take(wait=not (self._queue or (generator is not None and generator.busy)))
        if generator is not None:
            for request in generator.advance() if generator.busy else ():
                self._end(request)
        elif self._queue:
            request = self._queue.pop(0)
            for token in self._alone(request.prompt, request.decoding):
                request.tell(token)
            self._end(request)

    def _take(self, *, wait: bool = False) -> None:
        """Do what was asked for meanwhile."""
        if wait:
            self._inbox.get()()
        while True:
            try:
                action = self._inbox.get_nowait()
            except queue.Empty:
                return
            action()

    def _enter(self, request: Request, ended: Ended) -> None:
        self._asked[request] = ended
        if self._generator is None:
            self._queue.append(request)
        else:
            self._generator.submit([request])

    def _call_off(self, request: Request) -> None:
        if request not in self._asked:
            return
        if self._generator is not None:
            self._generator.cancel(request)
        elif request in self._queue:
            self._queue.remove(request)
            self._end(request)

    def _end(self, request: Request, error: BaseException | None = None) -> None:
        if ended := self._asked.pop(request, None):
            ended(error)

    def _close(self) -> None:
        self._closing = True
        for request in list(self._asked):
            self._call_off(request)

    def _give_up(self, error: BaseException) -> None:
        self._queue.clear()
        for request in list(self._asked):
            self._end(request, error)
