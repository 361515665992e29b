"""CUDA graphs: all layers of a decoder captured once for a size as one piece of work, and replayed from then on.

A step is thousands of kernels. With few tokens at once a fast GPU is done with each before the processor has launched
the next, and waits; a CUDA graph is launched as a whole. It holds for one size, so tokens are filled up to the next of
the planned sizes, with a row of their own in which nothing is supervised.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecipes.core.errors import reason
from medrecipes.engines.kernels.torch_private import add_all, clone_all, copy_all
from medrecipes.engines.kernels.varlen_attention import Rows
from medrecipes.engines.plan.pace import Graphs

if TYPE_CHECKING:
    from medrecipes.engines.kernels.fused_layer import Layer

ROWS = 8  # their number is filled up to a multiple of this, with empty ones
# of a CUDA graph from what it was made of, as a share, all together and one by one: gradients of attention are added up in
# no fixed order, which those of single updates that hardly matter yet show most
APART, ONE_APART = 0.02, 0.25


class Recorded:
    """Takes the tokens of a step through all layers: as they are until a size was seen some times, then from a CUDA graph.

    Sizes up to the largest are captured, all in one room of so many bytes. Where a capture fails, it is told and given up.
    """

    most = 0  # bytes that were CUDA graphs' own at one time, in this process

    def __init__(
        self, layers: Sequence[Layer], refresh: Callable[[], None], graphs: Graphs, room: float, tell: Callable[[str], None]
    ) -> None:  # fmt: skip
        self._layers, self._refresh, self._graphs, self._room, self._tell = layers, refresh, graphs, int(room), tell
        self._largest = graphs.largest
        self._weights = [weight for layer in layers for weight in layer.parameters]
        # a single process may have been started as one of several are, and is wrapped like them
        self._alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._takes: dict[tuple[Any, ...], _Take] = {}
        self._studio: _Studio | None = None

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, rows: Rows) -> Tensor:
        tokens = x.shape[1]
        size = self._graphs.filled(tokens)
        if size > self._largest or rows.longest > self._graphs.longest:
            return self._as_it_is(x, cos, sin, rows)
        x, cos, sin = (pad(tensor, (0, 0, 0, size - tokens)) for tensor in (x, cos, sin))
        count = len(rows.ends) - 1
        ends = pad(rows.ends, (0, ROWS - count % ROWS), value=size)
        # no longer than need be: attention is launched for rows of this length, and what they do not have takes its time
        rows = Rows(ends, self._graphs.longest_row(size), rows.causal, fixed=True)
        key = size, len(rows.ends), x.requires_grad
        self._seen[key] += 1
        if key not in self._takes and x.is_cuda and self._seen[key] > self._graphs.sights:
            self._record(key, x, cos, sin, rows)
        if (take := self._takes.get(key)) is None:
            return self._as_it_is(x, cos, sin, rows)[:, :tokens]
        # one stands for all where they get their gradients of us: autograd takes its time with hundreds
        weights = self._weights[:1] if self._alone else self._weights
        out: Tensor = _Played.apply(take, x[0], cos[0], sin[0], rows.ends, *weights)
        return out[None, :tokens]

    def _as_it_is(self, x: Tensor, cos: Tensor, sin: Tensor, rows: Rows) -> Tensor:
        self._refresh()
        for layer in self._layers:
            x = layer(x, cos, sin, rows)
        return x

    def _record(self, key: tuple[Any, ...], x: Tensor, cos: Tensor, sin: Tensor, rows: Rows) -> None:
        values, why = [x[0], cos[0], sin[0]], ""
        try:
            with torch.no_grad():
                self._studio = self._studio or _Studio(self._weights, values, self._largest, self._room)
                self._studio.part()
                work = _Work(self._layers, self._refresh, rows, self._alone)
                self._takes[key] = _Take(work, self._studio, values, needs_x=x.requires_grad)
            Recorded.most = max(Recorded.most, self._studio.held)
        except torch.cuda.OutOfMemoryError:
            why = "they do not fit beside all else"
        except RuntimeError as error:  # a driver or a library that cannot, or what is replayed is something else
            why = reason(error)
        if why:  # behind the block, where nothing holds what was begun
            self._takes.clear()
            self._studio, self._largest = None, 0
            torch.cuda.empty_cache()
            self._tell(why)


class _Studio:
    """What all CUDA graphs share: where numbers go in and come out, and the memory that the work is done in."""

    def __init__(self, weights: Sequence[Tensor], like: Sequence[Tensor], largest: int, room: int) -> None:
        x = like[0]
        self.x, self.cos, self.sin = (tensor.new_zeros(largest, tensor.shape[-1]) for tensor in like[:3])
        self.out, self.grad, self.dx = (x.new_zeros(largest, x.shape[-1]) for _ in range(3))
        self.weights, self.gradients = weights, [torch.zeros_like(weight) for weight in weights]
        self.held = 0
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # one for all: memory is shared within a stream alone
        torch.cuda.empty_cache()  # what is cached is of no use to CUDA graphs
        # one piece that all cut theirs from: left to themselves, sizes that come as they may would share it badly
        with self.recording() as self._first:
            x.new_empty(room // x.itemsize)[:1].zero_()

    def part(self) -> None:
        """Leave the weights the gradients they have, which the next work would write over."""
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            if weight.grad is gradient:
                weight.grad = gradient.clone()

    @contextmanager
    def recording(self) -> Iterator[torch.cuda.CUDAGraph]:
        """What the GPU is told inside is captured; torch.cuda.graph does as much, and takes longer to clean up around it."""
        graph = torch.cuda.CUDAGraph()
        before = torch.cuda.memory_reserved()
        torch.cuda.synchronize()
        collects = gc.isenabled()
        gc.disable()  # nothing of the GPU's may be let go in between
        try:
            with torch.cuda.stream(self._stream):
                # other threads may ask the GPU something meanwhile
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
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
        self.held += torch.cuda.memory_reserved() - before


@dataclass(frozen=True)
class _Work:
    """What is captured."""

    layers: Sequence[Layer]
    refresh: Callable[[], None]  # copies the updates' weights to where they are used
    rows: Rows  # which others take the place of
    alone: bool  # whether no other GPU adds its gradients to ours


class _Take:
    """One size: the work on the way forward and backward."""

    def __init__(self, work: _Work, studio: _Studio, values: Sequence[Tensor], *, needs_x: bool) -> None:
        size, ends = len(values[0]), work.rows.ends
        self.inputs = [studio.x[:size], studio.cos[:size], studio.sin[:size], ends.clone()]
        self.out, self.grad = studio.out[:size], studio.grad[:size]
        self.weights, self.gradients = studio.weights, studio.gradients
        self.dx = studio.dx[:size] if needs_x else None
        self._work = work
        self.take_in([*values, ends])
        self.grad.copy_(values[0])  # any will do until there is a true one
        kept = self._forth()
        self._back(kept)
        expected = [self.out.clone(), *(gradient.clone() for gradient in self.gradients)]
        with studio.recording() as self.forth:
            kept = self._forth()
        with studio.recording() as self.back:
            self._back(kept)
        self._prove(expected)

    def take_in(self, values: Sequence[Tensor]) -> None:
        """Put numbers where the work begins."""
        copy_all(self.inputs, list(values))

    def _forth(self) -> list[list[Tensor]]:
        x, cos, sin, ends = self.inputs
        self._work.refresh()
        # anew each time: what is worked out of their ends is captured as well
        self._rows = replace(self._work.rows, ends=ends)
        kept = []
        for layer in self._work.layers:
            x, own = layer.forth(x, cos, sin, self._rows)
            kept.append(own)
        self.out.copy_(x)
        return kept

    def _back(self, kept: list[list[Tensor]]) -> None:
        grad: Tensor | None = self.grad
        end = len(self.gradients)
        for number in reversed(range(len(self._work.layers))):
            assert grad is not None
            needs_x = number > 0 or self.dx is not None
            grad, found = self._work.layers[number].back(grad, kept.pop(), self._rows, needs_x=needs_x)
            copy_all(self.gradients[end - len(found) : end], found)
            end -= len(found)
        if self.dx is not None:
            assert grad is not None
            self.dx.copy_(grad)

    def learn(self) -> None:
        """Work backward, and leave the weights their gradients, on top of those of micro-batches before."""
        before = [weight.grad for weight in self.weights if weight.grad is not None]
        kept = clone_all(before) if before else []  # which may lie where the work writes
        self.back.replay()
        if kept:
            add_all(self.gradients, kept)
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            weight.grad = gradient

    def _prove(self, expected: list[Tensor]) -> None:
        """What is replayed is what was captured."""
        self.forth.replay()
        self.back.replay()
        norms = torch.stack([tensor.float().norm() for tensor in expected])
        pairs = zip([self.out, *self.gradients], expected, strict=True)
        apart = torch.stack([(found.float() - tensor.float()).norm() for found, tensor in pairs])
        if not bool(norms.isfinite().all()):  # the step itself will tell
            return
        norms = norms.clamp(min=1e-20)
        # what comes out, all gradients together, and each by itself
        shares = torch.stack([apart[0] / norms[0], apart[1:].norm() / norms[1:].norm(), (apart / norms).max()])
        for share, most in zip(shares.tolist(), (APART, APART, ONE_APART), strict=True):
            if not share <= most:
                raise RuntimeError(f"what was replayed lay {share:.1%} from the step that it was captured from")


class _Played(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, take: _Take, x: Tensor, cos: Tensor, sin: Tensor, ends: Tensor, *weights: Tensor) -> Tensor:
        take.take_in((x, cos, sin, ends))
        take.forth.replay()
        ctx.take = take
        return take.out.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        take = ctx.take
        take.grad.copy_(grad)
        gradients: list[Tensor | None] = [None]
        if take._work.alone:
            take.learn()
        else:  # several GPUs add up what autograd is given
            take.back.replay()
            gradients = [*clone_all(take.gradients)]
        dx = None if take.dx is None else take.dx.detach()
        return (None, dx, None, None, None, *gradients)
