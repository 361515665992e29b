"""The order in which rows are learned: an epoch's own, the same whatever number of processes, and on a resumed run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch


class Shuffled(torch.utils.data.Sampler[int]):
    """The order of one process, whatever their number: the same shuffle each epoch, and what fills the last step at its end."""

    def __init__(self, count: int, padded: int, seed: int) -> None:
        self._count, self._padded, self._seed, self._epoch = count, padded, seed, 0

    def __len__(self) -> int:
        return self._padded

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        yield from torch.randperm(self._count, generator=generator).tolist()
        yield from range(self._count, self._padded)
        self._epoch += 1

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next."""
        self._epoch = epoch


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
