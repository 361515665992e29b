"""All layers of a decoder as one piece of work, recorded once for a size and played from then on.

A step is thousands of kernels. With few tokens at once a fast card is done with each before the processor has launched
the next, and waits; a recording (a CUDA graph) is launched as a whole. It holds for one size, so tokens are filled up to
the next of eight sizes an octave, with a row of their own that nothing is learned from.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecipes.engines.attention import Rows
from medrecipes.plan import RECORDED, SHARED_BADLY

if TYPE_CHECKING:
    from medrecipes.engines.fused import Layer

ROWS = 8  # their number is filled up to a multiple of this, with empty ones
# of a recording from what it was made of, as a share: gradients of attention are added up in no fixed order
APART = 0.02


class Recorded:
    """Takes the tokens of a step through all layers: as they are the first time that a size is seen, then recorded.

    Recordings may hold so many bytes; a size for which there is no room, and all where recording fails, are taken as they are.
    """

    most = 0  # bytes that recordings held at one time, in this process

    def __init__(self, layers: Sequence[Layer], allowed: float, tell: Callable[[str], None]) -> None:
        self._layers, self._allowed, self._tell = layers, allowed, tell
        self._weights = [weight for layer in layers for weight in layer.parameters]
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._takes: dict[tuple[Any, ...], _Take] = {}
        self._gradients: list[Tensor] = []
        self._pool: Any = None
        self._held = 0

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, rows: Rows) -> Tensor:
        tokens = x.shape[1]
        size = filled(tokens)
        if size > RECORDED or not self._allowed:
            return self._as_it_is(x, cos, sin, rows)
        x, cos, sin = (pad(tensor, (0, 0, 0, size - tokens)) for tensor in (x, cos, sin))
        count = len(rows.ends) - 1
        rows = Rows(pad(rows.ends, (0, ROWS - count % ROWS), value=size), size)
        key = size, len(rows.ends), x.requires_grad
        self._seen[key] += 1
        if not x.is_cuda or self._seen[key] == 1:  # which compiles kernels, too
            return self._as_it_is(x, cos, sin, rows)[:, :tokens]
        take = self._takes.get(key) or self._record(x, cos, sin, rows)
        if take is None:
            return self._as_it_is(x, cos, sin, rows)[:, :tokens]
        self._takes[key] = take
        out: Tensor = _Played.apply(take, x[0], cos[0], sin[0], rows.ends, *self._weights)
        return out[None, :tokens]

    def _as_it_is(self, x: Tensor, cos: Tensor, sin: Tensor, rows: Rows) -> Tensor:
        for layer in self._layers:
            x = layer(x, cos, sin, rows)
        return x

    def _record(self, x: Tensor, cos: Tensor, sin: Tensor, rows: Rows) -> _Take | None:
        if self._held + self._allowed / SHARED_BADLY * rows.longest / RECORDED > self._allowed:
            return None
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
            self._gradients = [torch.zeros_like(weight) for weight in self._weights]
        inputs = [tensor.detach().clone() for tensor in (x[0], cos[0], sin[0], rows.ends)]
        try:
            with torch.no_grad():
                take = _Take(self._layers, inputs, rows.longest, self._gradients, self._pool, needs_x=x.requires_grad)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:  # a driver or a library that cannot, or what is played is something else
            self._allowed = 0.0
            self._tell(str(error).strip().split("\n")[0])
            return None
        self._held += take.held
        Recorded.most = max(Recorded.most, self._held)
        return take


class _Take:
    """One size: where its numbers are put, and the work on the way forth and back."""

    def __init__(
        self, layers: Sequence[Layer], inputs: list[Tensor], longest: int, gradients: list[Tensor], pool: Any, *,
        needs_x: bool,
    ) -> None:  # fmt: skip
        self.inputs, self.gradients = inputs, gradients
        self.grad = inputs[0].clone()  # any will do until there is a true one
        self._layers, self._rows, self._needs_x = layers, Rows(inputs[3], longest), needs_x
        out, kept = self._forth()
        self._back(kept)
        expected = [out, *(gradient.clone() for gradient in gradients)]
        del out, kept
        torch.cuda.empty_cache()  # what is cached is of no use to a recording, which holds memory of its own
        before = torch.cuda.memory_reserved()
        with _recording(pool) as self.forth:
            self.out, kept = self._forth()
        with _recording(pool) as self.back:
            self.dx = self._back(kept)
        del kept
        self.held = torch.cuda.memory_reserved() - before
        self._prove(expected)

    def _forth(self) -> tuple[Tensor, list[list[Tensor]]]:
        x, cos, sin, _ = self.inputs
        kept = []
        for layer in self._layers:
            x, own = layer.forth(x, cos, sin, self._rows)
            kept.append(own)
        return x, kept

    def _back(self, kept: list[list[Tensor]]) -> Tensor | None:
        grad: Tensor | None = self.grad
        end = len(self.gradients)
        for number in reversed(range(len(self._layers))):
            assert grad is not None
            grad, found = self._layers[number].back(grad, kept.pop(), self._rows, needs_x=number > 0 or self._needs_x)
            torch._foreach_copy_(self.gradients[end - len(found) : end], found)
            end -= len(found)
        return grad

    def _prove(self, expected: list[Tensor]) -> None:
        """What is played is what was recorded."""
        self.forth.replay()
        self.back.replay()
        norms = torch.stack([tensor.float().norm() for tensor in expected])
        pairs = zip([self.out, *self.gradients], expected, strict=True)
        apart = torch.stack([(found.float() - tensor.float()).norm() for found, tensor in pairs])
        if not bool(norms.isfinite().all()):  # the step itself will tell
            return
        most = float((apart / norms.clamp(min=1e-20)).max())
        if not most <= APART:
            raise RuntimeError(f"what was played lay {most:.1%} from the step that it was recorded from")


@contextmanager
def _recording(pool: Any) -> Iterator[torch.cuda.CUDAGraph]:
    """What the card is told inside is recorded; torch.cuda.graph does as much, and takes longer to clean up around it."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    collects = gc.isenabled()
    gc.disable()  # nothing of the card's may be let go in between
    try:
        with torch.cuda.stream(_aside()):
            # other threads may ask the card something meanwhile
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                yield graph
            except BaseException:
                with suppress(RuntimeError):  # which would hide what happened
                    graph.capture_end()
                raise
            graph.capture_end()
    finally:
        if collects:
            gc.enable()


@cache
def _aside() -> torch.cuda.Stream:
    """One for all: memory is shared within a stream alone."""
    return torch.cuda.Stream()


class _Played(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, take: _Take, x: Tensor, cos: Tensor, sin: Tensor, ends: Tensor, *weights: Tensor) -> Tensor:
        for place, value in zip(take.inputs, (x, cos, sin, ends), strict=True):
            place.copy_(value)
        take.forth.replay()
        ctx.take = take
        return take.out.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        take = ctx.take
        take.grad.copy_(grad)
        take.back.replay()
        dx = None if take.dx is None else take.dx.detach()
        return (None, dx, None, None, None, *torch._foreach_mul(take.gradients, 1.0))


def filled(tokens: int) -> int:
    """The next size that is recorded: eight an octave, multiples of 128."""
    step = max(128, 1 << max(0, tokens.bit_length() - 4))
    return -(-tokens // step) * step
