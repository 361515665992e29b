"""The order in which rows are learned: an epoch's own, the same whatever number of processes, and on a resumed run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch


class Shuffled(torch.utils.data.Sampler[int]):
    """The order of one process, whatever their number: the same shuffle each epoch, and what fills the last step at its end.

    The rows of a step are dealt so that all GPUs have about as many tokens: each waits for the one that has most.
    """

    def __init__(self, lengths: Sequence[int], count: int, seed: int, batch: int, gpus: int, at_once: int) -> None:
        self._lengths, self._count, self._seed, self._epoch = lengths, count, seed, 0
        self._batch, self._cards, self._at_once = batch, gpus, at_once

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order = self._order(generator)
        order += range(self._count, len(self._lengths))
        for start in range(0, len(order), self._batch):
            hands = self._dealt(order[start : start + self._batch])
            # GPUs take theirs in turn, so many at once
            for first in range(0, len(hands[0]), self._at_once):
                for hand in hands:
                    yield from hand[first : first + self._at_once]
        self._epoch += 1

    def _order(self, generator: torch.Generator) -> list[int]:
        """The rows of an epoch, before they are dealt."""
        order: list[int] = torch.randperm(self._count, generator=generator).tolist()
        return order

    def _dealt(self, rows: Sequence[int]) -> list[list[int]]:
        """As many rows for each GPU: the longest first, to the GPU that has the fewest tokens so far."""
        hands: list[list[int]] = [[] for _ in range(self._cards)]
        tokens, share = [0] * self._cards, len(rows) // self._cards
        for row in sorted(rows, key=lambda row: -self._lengths[row]):
            gpu = min((gpu for gpu, hand in enumerate(hands) if len(hand) < share), key=tokens.__getitem__)
            hands[gpu].append(row)
            tokens[gpu] += self._lengths[row]
        return hands

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next."""
        self._epoch = epoch


class ShortFirst(Shuffled):
    """A curriculum by length: the stretches of an epoch one after the other, each shuffled anew every epoch."""

    def __init__(
        self, stretches: Sequence[int], lengths: Sequence[int], seed: int, batch: int, gpus: int, at_once: int
    ) -> None:
        """`stretches`: of every row, in order; what fills the last step has none."""
        super().__init__(lengths, len(stretches), seed, batch, gpus, at_once)
        self._stretches = stretches

    def _order(self, generator: torch.Generator) -> list[int]:
        """The rows of each stretch, shuffled, behind those of the stretch before."""
        order: list[int] = []
        for _, rows in groupby(range(len(self._stretches)), key=self._stretches.__getitem__):
            stretch = list(rows)
            order += [stretch[place] for place in torch.randperm(len(stretch), generator=generator).tolist()]
        return order


class ByLength(torch.utils.data.Sampler[int]):
    """Windows in an order of each epoch's own, those of like length together, so that little is padded.

    transformers' own such sampler draws from the global random state, which a resumed run has elsewhere.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        # sorted within stretches of fifty batches only: like beside like, and still chance enough
        for start in range(0, len(order), 50 * self.batch):
            stretch = sorted(order[start : start + 50 * self.batch], key=lambda i: -self.lengths[i])
            batches = [stretch[i : i + self.batch] for i in range(0, len(stretch), self.batch)]
            for number in torch.randperm(len(batches), generator=generator).tolist():
                yield from batches[number]
