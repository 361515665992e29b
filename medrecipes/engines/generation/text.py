"""The tokens of an answer while they are written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator


def spoken(
    write: Callable[[Callable[[int], None], Callable[[], bool]], None], stop: threading.Event | None = None
) -> Iterator[int]:
    """The tokens that `write` tells, while it writes in a thread of its own; it is told to end early once the event is set or
    nobody reads. The event is the caller's, and stays as it is."""
    tokens: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()

    def over() -> bool:
        return left.is_set() or (stop is not None and stop.is_set())

    def work() -> None:
        try:
            write(tokens.put, over)
            tokens.put(None)
        except BaseException as error:
            tokens.put(error)

    writer = threading.Thread(target=work, daemon=True)
    writer.start()
    try:
        while (token := tokens.get()) is not None:
            if isinstance(token, BaseException):
                raise token
            yield token
    finally:  # also when the reader has heard enough
        left.set()
        writer.join()
