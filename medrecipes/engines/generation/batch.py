"""Continuous batching: a row that has ended leaves the batch and the next enters, so that no long answer holds up the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from medrecipes.core.errors import EngineError
from medrecipes.engines import Decoding
from medrecipes.engines.generation.body import (
    APART,
    FusedBody,
    LibraryBody,
    Prompts,
    apart,
    expected,
    fits_fused,
    head_apart,
)
from medrecipes.engines.generation.cache import Segments, Slots
from medrecipes.engines.generation.library import inference
from medrecipes.engines.generation.memory import free_bytes, reserve
from medrecipes.engines.generation.sampling import Rules, choose, row_seed
from medrecipes.engines.generation.steps import NOTHING, Row, Steps
from medrecipes.engines.generation.weights import prepared
from medrecipes.engines.kernels import varlen_attention
from medrecipes.engines.kernels.varlen_attention import Rows
from medrecipes.engines.plan.dimensions import Shape
from medrecipes.engines.plan.pace import DECODED_SHARE, ROWS

ROWS_CPU = 32  # at once, where memory allows
PROMPT_TOKENS = {"cuda": 8192, "cpu": 1024}  # that are read in one forward pass, or one longer prompt
SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
PROBE = 64  # tokens
NO_ROOM = (
    "out of memory with one answer at a time; lower data.max_tokens or eval.max_new_tokens, or choose a smaller base"
)
# what a family raises that computes otherwise than the layers that are known here
UNKNOWN = (TypeError, AttributeError, LookupError, RuntimeError, ValueError, AssertionError)
BEHIND = 2  # steps that a GPU may be ahead of what is known of them here


def nothing(_: int) -> None:
    """Nobody listens."""


def probe(ids: Sequence[int]) -> list[int]:
    """Ids enough to cut in two, and no more than a short forward pass takes."""
    return (list(ids) * 4)[: max(4, min(PROBE, len(ids)))]


@dataclass(eq=False)
class Request:
    """A prompt and what has been answered so far; `tell` hears every token as it comes."""

    prompt: Sequence[int]
    decoding: Decoding
    tell: Callable[[int], None] = nothing
    said: list[int] = field(default_factory=list)
    ended: bool = False
    cancelled: bool = False
    start: int = 0

    @property
    def need(self) -> int:
        """The tokens of cache that the prompt and the longest answer take."""
        return len(self.prompt) + self.decoding.max_new_tokens

    @property
    def left(self) -> int:
        """How many tokens may still come."""
        return self.decoding.max_new_tokens - len(self.said)


@dataclass(frozen=True)
class Loaded:
    """A model as it lies on its device, the stop tokens of its template, and whether its adapter takes part."""

    model: Any
    dtype: torch.dtype
    device: torch.device
    stops: Sequence[int]
    adapter: bool = True
    fused: bool | None = None  # left out: on a GPU

    @property
    def fuses(self) -> bool:
        """Whether the fused layers answer, where they fit."""
        return self.device.type == "cuda" if self.fused is None else self.fused


class Generator:
    """Answers of a loaded model, with its adapter or without; open it, hand in requests, and step until they have ended."""

    def __init__(self, loaded: Loaded, rows: int | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
        self._model, self._dtype, self._device = loaded.model, loaded.dtype, loaded.device
        self._stops, self._adapter, self._fuses, self._tell = list(loaded.stops), loaded.adapter, loaded.fuses, tell
        self.rows = rows or (ROWS if loaded.device.type == "cuda" else ROWS_CPU)
        self._waiting: deque[Request] = deque()
        self._active: list[Request | None] = []
        self._within = ExitStack()
        self._cache: Segments | Slots | None = None
        self._steps: Steps | None = None
        self._changed = False
        self.captured = False  # whether steps were replayed from CUDA graphs
        self._expected: tuple[int, int] | None = None
        self.flash = varlen_attention.available(self._dtype) and not self._shape.capped

    @cached_property
    def _shape(self) -> Shape:
        return Shape.of(self._model.config.to_dict())

    # --- opening and closing ----------------------------------------------------------------------------------------

    def open(self, ids: Sequence[int]) -> float:
        """Choose how the model runs, and hold it against the library's own forward pass on these ids; how far apart they lie."""
        try:
            with self._inference():
                return self._open(probe(ids))
        except torch.cuda.OutOfMemoryError:
            raise EngineError(NO_ROOM) from None

    def _inference(self) -> AbstractContextManager[None]:
        # what a cache of casts holds would be let go of under a captured step
        return inference(self._device, self._dtype, keeps_casts=False)

    def _open(self, ids: Sequence[int]) -> float:
        self._model.eval()
        decode, far = self._decodes(), float("inf")
        try:
            wanted = expected(self._model, ids, self._device)
        except torch.cuda.OutOfMemoryError:
            raise
        except UNKNOWN:
            return far
        bodies: list[Callable[[bool], Any]] = [lambda _: LibraryBody(self._model)]
        if self._fuses and fits_fused(self._model, self._dtype):
            bodies.insert(0, lambda decode: FusedBody(self._model, self._dtype, adapter=self._adapter, decode=decode))
        ways = [(make, decoded) for decoded in ([True, False] if decode else [False]) for make in bodies]
        for make, decoded in ways:
            with ExitStack() as within:
                try:
                    body = make(decoded)
                    if isinstance(body, LibraryBody):
                        within.enter_context(prepared(self._model, self._dtype, adapter=self._adapter, decode=decoded))
                    within.enter_context(body.opened())
                    far, self.bytes_per_token = self._probe(body, ids, wanted)
                except torch.cuda.OutOfMemoryError:  # then without decoded weights
                    if not decoded:
                        raise
                    continue
                if far <= APART[self._dtype]:
                    self.body, self.ran = body, type(body).__name__
                    self._within = within.pop_all()
                    break
        return far

    def packs(self, ids: Sequence[int]) -> bool:
        """Whether the base's own layers keep packed rows apart when they are told where each begins."""
        body = LibraryBody(self._model)
        with self._inference():
            ids = probe(ids)
            wanted = expected(self._model, ids, self._device)
            with body.opened():
                far = self._probe(body, ids, wanted)[0]
                return max(far, head_apart(body, ids, wanted)) <= APART[self._dtype]

    def _probe(self, body: Any, ids: Sequence[int], wanted: Tensor) -> tuple[float, int]:
        """How far a body lies from the library's logits, and the bytes of cache that a token takes."""
        size = len(ids) + 1
        small: Segments | Slots = Segments(2 * size, self._dtype) if self.flash else Slots(2, size, self._dtype)
        try:
            return apart(body, small, ids, wanted), small.bytes_per_token
        except torch.cuda.OutOfMemoryError:
            raise
        except UNKNOWN:
            return float("inf"), 0

    @property
    def opened(self) -> bool:
        """Whether a way to run the model was found that says what the library's does."""
        return hasattr(self, "body")

    def close(self) -> None:
        """Give back what the model's weights, graphs and cache took."""
        self._within.close()
        self.captured = self._steps is not None and self._steps.captured
        self._cache = self._steps = None
        vars(self).pop("body", None)

    def _decodes(self) -> bool:
        """Whether the GPU has room for decoded weights, and for a cache beside them."""
        if self._device.type != "cuda":
            return False
        return bool(self._shape.matrices * self._dtype.itemsize < DECODED_SHARE * free_bytes(self._device))

    # --- requests ---------------------------------------------------------------------------------------------------

    def submit(self, requests: Sequence[Request]) -> None:
        """Put requests in the queue."""
        self._waiting.extend(requests)
        self._changed = True

    def expect(self, rows: int, tokens: int) -> None:
        """Make the cache for requests that are still to come: so many at once, none of which needs more than these tokens."""
        self._expected = (rows, tokens)

    def cancel(self, request: Request) -> None:
        """Have a request end before its time."""
        request.cancelled = self._changed = True

    @property
    def busy(self) -> bool:
        """Whether anything is asked or being answered."""
        return bool(self._waiting) or any(self._active)

    def answers(self, requests: Sequence[Request]) -> Iterator[Request]:
        """Answer these and yield each as it ends."""
        self.submit(requests)
        while self.busy:
            yield from self.advance()

    def advance(self) -> list[Request]:
        """Let those who wait enter, then step until somebody has ended or wants to enter; whoever ended."""
        try:
            with self._inference():
                return [*self._enter(), *self._go_on()]
        except torch.cuda.OutOfMemoryError:
            again = [request for request in self._active if request is not None]
            if self.rows == 1:
                raise EngineError(NO_ROOM) from None
            self.rows = max(1, min(self.rows, len(again) or self.rows) // 2)
        # behind that block, where what the attempt had made is no longer held
        self._waiting.extendleft(reversed(again))
        self._active, self._cache, self._steps = [], None, None
        torch.cuda.empty_cache()
        self._tell(f"memory ran out: {self.rows} answers at once from here on")
        return []

    # --- entering ---------------------------------------------------------------------------------------------------

    def _enter(self) -> list[Request]:
        """Read the prompts of those for whom there is room; whoever ended at once."""
        self._changed = False
        ended = [request for request in self._waiting if request.cancelled]
        if ended:
            self._waiting = deque(request for request in self._waiting if not request.cancelled)
        for number, request in enumerate(self._active):
            if request is not None and request.cancelled and not request.ended:
                self._leave(number)
                ended.append(request)
        for request in ended:
            request.ended = True
        if self._waiting and not any(self._active) and not self._holds(self._waiting):
            self._make_room()
        while self._waiting:
            entering = self._next_prompts()
            if not entering:
                break
            ended += self._read(entering)
        return ended

    def _holds(self, requests: Sequence[Request]) -> bool:
        """Whether the cache at hand serves these, and is not far from what they could use."""
        cache = self._cache
        if cache is None:
            return False
        needs = self._needs(requests)
        if isinstance(cache, Slots):
            return max(needs) <= cache.size and (cache.rows >= min(self.rows, len(needs)) or self._expected is not None)
        return max(needs) < cache.tokens and (cache.tokens >= 0.5 * self._wanted(needs) or self._expected is not None)

    def _needs(self, requests: Sequence[Request]) -> list[int]:
        """The tokens of cache that these may take, or those that are expected."""
        if self._expected is None:
            return [request.need for request in requests]
        rows, tokens = self._expected
        return [tokens] * rows

    def _wanted(self, needs: Sequence[int]) -> int:
        """The tokens of cache for as many rows as may be at work at once, the largest of these."""
        return sum(sorted(needs, reverse=True)[: self.rows]) + 1

    def _make_room(self) -> None:
        """Make the cache as large as the requests can use and memory has."""
        self._cache = self._steps = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        needs = self._needs(self._waiting)
        longest = max(needs)
        spare = free_bytes(self._device) - reserve(self.rows, self._shape.vocabulary, self._device)
        affordable = int(max(0.0, spare) // max(1, self.bytes_per_token))
        if self.flash:
            tokens = min(self._wanted(needs), max(affordable, longest + 1))
            self._cache = Segments(tokens, self._dtype)
        else:
            rows = max(1, min(self.rows, len(needs), affordable // longest))
            self._cache = Slots(rows, longest, self._dtype)
        most = self._cache.rows if isinstance(self._cache, Slots) else self.rows
        self._steps = Steps(self.body, self._cache, most, self._stops, self._device, self._tell)

    def _next_prompts(self) -> list[Request]:
        """Those who wait and for whom there is a place, a piece of the cache and room in one forward pass."""
        cache, tokens = self._cache, 0
        assert cache is not None
        entering: list[Request] = []
        at_work = sum(request is not None for request in self._active)
        limit = cache.rows if isinstance(cache, Slots) else self.rows
        places = [n for n in range(limit) if n >= len(self._active) or self._active[n] is None]
        while self._waiting and at_work + len(entering) < limit:
            request = self._waiting[0]
            length = len(request.prompt) + len(request.said)
            if entering and tokens + length > PROMPT_TOKENS[self._device.type]:
                break
            if isinstance(cache, Segments):
                start = cache.take(request.need)
                if start is None:
                    break
                request.start = start
            elif request.need > cache.size:
                break  # it waits until the others have ended, and gets a cache of its own
            else:
                request.start = places[len(entering)]
            tokens += length
            entering.append(self._waiting.popleft())
        for place, request in zip(places, entering, strict=False):
            self._active.extend([None] * (place + 1 - len(self._active)))
            self._active[place] = request
        return entering

    def _read(self, entering: Sequence[Request]) -> list[Request]:
        """One forward pass over prompts laid end to end, and the first token of each answer."""
        assert self._cache is not None
        texts = [[*request.prompt, *request.said] for request in entering]
        lengths = [len(text) for text in texts]
        device = self._device
        ids = torch.tensor([id for text in texts for id in text], device=device)
        places = torch.cat([torch.arange(length) for length in lengths]).to(device)
        starts = (
            torch.tensor([request.start for request in entering]).repeat_interleave(torch.tensor(lengths)).to(device)
        )
        ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)
        attend = Prompts(Rows(ends, max(lengths)), self._cache, self._cache.where(starts, places))
        logits = self.body(ids, places, attend, ends[1:].long() - 1)
        tokens = choose(logits, self._rules(entering), torch.tensor(lengths, device=device)).tolist()
        ended = []
        for request, token in zip(entering, tokens, strict=True):
            if self._hear(request, token):
                self._leave(self._active.index(request))
                ended.append(request)
        return ended

    def _rules(self, rows: Sequence[Request | None]) -> Rules | None:
        """How these rows choose; None where all take the likeliest token as it is."""
        plain = Decoding(1, 0.0, 1.0, 1.0, 0)
        asked = [row.decoding if row else plain for row in rows]
        if all(not d.temperature and d.repetition_penalty == 1 for d in asked):
            return None
        seeds = [row_seed(row.decoding, row.prompt) if row and row.decoding.temperature else 0 for row in rows]
        seen = None
        if any(d.repetition_penalty != 1 for d in asked):
            seen = torch.zeros(len(rows), self._shape.vocabulary, dtype=torch.bool)
            for number, row in enumerate(rows):
                if row:
                    seen[number, torch.tensor([*row.prompt, *row.said])] = True
            seen = seen.to(self._device)
        return Rules.of(list(zip(asked, seeds, strict=True)), self._device, seen)

    def _hear(self, request: Request, token: int) -> bool:
        """Take a token; whether it was the last."""
        request.said.append(token)
        request.tell(token)
        request.ended = token in request.decoding.ending(self._stops) or request.left <= 0
        return request.ended

    def _leave(self, place: int) -> None:
        request = self._active[place]
        assert request is not None
        if isinstance(self._cache, Segments):
            self._cache.give(request.start, request.need)
        self._active[place] = None

    # --- going on ---------------------------------------------------------------------------------------------------

    def _go_on(self) -> list[Request]:
        """Step until rows have ended whose places are wanted, or a smaller batch would do."""
        self._close_ranks()
        rows = list(self._active)
        if not rows or self._steps is None:
            return []
        self._steps.load(
            [
                Row(r.start, len(r.prompt) + len(r.said) - 1, r.said[-1], r.left, r.decoding.ignore_eos) if r else None
                for r in rows
            ],
            self._rules(rows),
        )
        alive = sum(row is not None for row in rows)
        enough = max(1, alive // 8) if self._waiting else max(1, alive // 4)
        ended: list[Request] = []
        ahead: deque[tuple[Tensor, Any]] = deque()
        behind = BEHIND if self._device.type == "cuda" else 0
        for _ in range(max(row.left for row in rows if row)):
            if len(ended) >= enough or self._changed:
                break
            ahead.append(self._noted(self._steps.run()))
            if len(ahead) > behind:
                ended += self._heard(rows, ahead.popleft())
        while ahead:
            ended += self._heard(rows, ahead.popleft())
        for request in ended:
            self._leave(self._active.index(request))
        return ended

    def _close_ranks(self) -> None:
        """Have the batch no larger than one of the sizes that its rows fill."""
        count = sum(row is not None for row in self._active)
        size = next((s for s in SIZES if s >= count), count) if self._device.type == "cuda" else count
        if self._steps is not None:
            size = min(size, self._limit())
        free = [n for n in range(min(size, len(self._active))) if self._active[n] is None]
        for place in range(size, len(self._active)):
            if (row := self._active[place]) is not None:
                target = free.pop(0)
                if isinstance(self._cache, Slots):
                    self._cache.move(place, target)
                    row.start = target
                self._active[target], self._active[place] = row, None
        self._active = self._active[:size] + [None] * (size - len(self._active)) if count else []

    def _limit(self) -> int:
        return self._cache.rows if isinstance(self._cache, Slots) else self.rows

    def _noted(self, said: Tensor) -> tuple[Tensor, Any]:
        """What a step said, on its way to the processor."""
        if self._device.type != "cuda":
            return said.clone(), None
        copy = torch.empty(said.shape, dtype=said.dtype, pin_memory=True)
        copy.copy_(said, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return copy, event

    def _heard(self, rows: Sequence[Request | None], noted: tuple[Tensor, Any]) -> list[Request]:
        said, event = noted
        if event is not None:
            event.synchronize()
        ended = []
        for request, token in zip(rows, said.tolist(), strict=True):
            if token != NOTHING and request is not None and not request.ended and self._hear(request, token):
                ended.append(request)
        return ended
