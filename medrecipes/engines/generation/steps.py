"""Decoding steps: one token more for every row of a batch, launched as they are or replayed from CUDA graphs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrecipes.core.errors import reason
from medrecipes.engines.generation.body import Body, Next
from medrecipes.engines.generation.cache import Batch, Cache
from medrecipes.engines.generation.sampling import Rules, choose

NOTHING = -1  # what a row says that has ended
GRAIN = 256  # of how many tokens a captured step may look back, where that is fixed


@dataclass(frozen=True)
class Row:
    """Where a row stands before a step: its piece of the cache, how many tokens that holds, the next, and how many may follow."""

    start: int
    used: int
    token: int
    left: int
    endless: bool  # no stop token ends it


class Steps:
    """The state of a batch on its device, and the step that takes it on; every row ends by itself, at a stop token or its limit."""

    def __init__(
        self, body: Body, cache: Cache, rows: int, stops: Sequence[int], device: torch.device,
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._body, self._cache, self._device, self._tell = body, cache, device, tell
        self._stops = torch.tensor(sorted(stops), device=device)
        self._starts = torch.zeros(rows + 1, dtype=torch.int32, device=device)
        self._used, self._left = (torch.zeros(rows, dtype=torch.int32, device=device) for _ in range(2))
        self._tokens, self._said = (torch.zeros(rows, dtype=torch.long, device=device) for _ in range(2))
        self._live, self._endless = (torch.zeros(rows, dtype=torch.bool, device=device) for _ in range(2))
        self._rules: Rules | None = None
        self._graphs: dict[tuple[int, int, bool, bool], torch.cuda.CUDAGraph | None] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self.captures = device.type == "cuda"
        self._rows = self._longest = 0

    @property
    def captured(self) -> bool:
        """Whether any step was captured."""
        return any(graph is not None for graph in self._graphs.values())

    def load(self, rows: Sequence[Row | None], rules: Rules | None) -> None:
        """Take these rows for the next steps; places without a row say nothing."""
        table = [(row.start, row.used, row.token, row.left, row.endless) if row else (0,) * 5 for row in rows]
        values = torch.tensor(table, dtype=torch.long).to(self._device, non_blocking=True)
        count = self._rows = len(rows)
        self._starts[:count], self._used[:count] = values[:, 0], values[:, 1]
        self._tokens[:count], self._left[:count] = values[:, 2], values[:, 3]
        self._live[:count], self._endless[:count] = values[:, 3] > 0, values[:, 4] > 0
        # pieces of a pool are attended to by their own lengths, whatever the longest may become
        self._longest = max(used if self._cache.moves else used + left for _, used, _, left, _ in table)
        self._keep(rules, count)

    def _keep(self, rules: Rules | None, count: int) -> None:
        """Put the rules where captured steps look for them."""
        if rules is None:
            self._rules = None
            return
        held = self._rules
        if held is None or len(held.seeds) < len(self._live) or (held.seen is None) != (rules.seen is None):
            rows = len(self._live)

            def wide(tensor: Tensor) -> Tensor:
                return tensor.new_zeros((rows, *tensor.shape[1:]))

            held = Rules(
                wide(rules.temperature), wide(rules.top_p), wide(rules.seeds), wide(rules.penalty),
                None if rules.seen is None else wide(rules.seen),
            )  # fmt: skip
            self._graphs = {key: graph for key, graph in self._graphs.items() if not key[2]}
        for name in ("temperature", "top_p", "seeds", "penalty", "seen"):
            if (value := getattr(rules, name)) is not None:
                getattr(held, name)[:count] = value
        self._rules = held

    def run(self) -> Tensor:
        """One token more for every row, on the device; rows that have ended say `NOTHING`."""
        self._longest += self._cache.moves
        count, rules = self._rows, self._rules
        if not self.captures:
            self._step(count, self._longest)
            return self._said[:count]
        longest = -(-self._longest // GRAIN) * GRAIN
        key = (count, longest, rules is not None, rules is not None and rules.seen is not None)
        if (graph := self._graphs.get(key)) is not None:
            graph.replay()
        elif (
            key not in self._graphs
        ):  # a size is launched once before it is captured: kernels are compiled, buffers made
            self._graphs[key] = None
            self._step(count, longest)
        elif self._capture(key, count, longest):
            replayed = self._graphs[key]
            assert replayed is not None
            replayed.replay()
        else:
            self._step(count, longest)
        return self._said[:count]

    def _capture(self, key: tuple[int, int, bool, bool], count: int, longest: int) -> bool:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        collects = gc.isenabled()
        gc.disable()  # nothing of the GPU's may be let go in between
        stream = torch.cuda.Stream()
        try:
            with torch.cuda.stream(stream):
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    self._step(count, longest)
                except BaseException:
                    with suppress(RuntimeError):  # which would hide what happened
                        graph.capture_end()
                    raise
                graph.capture_end()
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.captures = False
            self._graphs.clear()
            self._tell(
                f"decoding steps cannot be captured as CUDA graphs here and are launched one by one: {reason(error)}"
            )
            return False
        finally:
            if collects:
                gc.enable()
        self._graphs[key] = graph
        return True

    def _step(self, count: int, longest: int) -> None:
        used, live, left, tokens = (t[:count] for t in (self._used, self._live, self._left, self._tokens))
        places = used.long()
        begins = torch.arange(count, device=self._device) if self._cache.moves else self._starts[:count].long()
        batch = Batch(self._starts[: count + 1], used + 1, longest)
        attend = Next(self._cache, batch, self._cache.where(begins, places))
        logits = self._body(tokens, places, attend, None)
        rules = self._rules
        if rules is not None:
            cut = {n: getattr(rules, n)[:count] for n in ("temperature", "top_p", "seeds", "penalty")}
            seen = None if rules.seen is None else rules.seen[:count]
            rules = replace(rules, **cut, seen=seen)
        chosen = choose(logits, rules, places + 1)
        if rules is not None and rules.seen is not None:
            rules.seen.scatter_(1, chosen[:, None], True)
        self._said[:count] = torch.where(live, chosen, NOTHING)
        tokens.copy_(torch.where(live, chosen, tokens))
        used.add_(live)
        left.sub_(live.int())
        goes_on = (chosen[:, None] != self._stops).all(1) | self._endless[:count]
        live.logical_and_(goes_on & (left > 0))
