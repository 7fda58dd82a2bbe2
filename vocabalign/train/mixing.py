"""The order in which documents are read, epoch by epoch, each as often as its weight says."""

from __future__ import annotations

import numpy as np


class Epochs:
    """Epochs of N documents: each has its own order, which follows from seed and epoch alone.

    A document of weight w is read w times in an epoch on average: as many whole times as fit, and what is left over
    in so many epochs of all as it says, evenly spread (weight 0.5: in every other one). Without weights an epoch is
    the whole text once.

    Args:
        lengths: (N,) tokens in each document.
        weights: (N,) above 0, or None for 1.
        context: tokens in a block.
        seed: of the orders.
    """

    def __init__(self, lengths: np.ndarray, weights: np.ndarray | None, context: int, seed: int) -> None:
        self.lengths, self.weights, self.context, self.seed = lengths, weights, context, seed
        total = lengths.sum() if weights is None else float((lengths * weights.astype(np.float64)).sum())
        self.num_tokens = int(total)
        """In an epoch, on average."""
        self.blocks_per_epoch = (self.num_tokens - 1) // context
        """On average."""
        if weights is not None:
            # Where in its turn each document begins: else all of weight 0.5 would be read in the same epochs.
            self._phases = np.random.default_rng([seed, 1 << 32]).random(len(lengths))
            self._ends: list[int] = []

    def times(self, epoch: int) -> np.ndarray:
        """(N,) how often each document is read in an epoch."""
        if self.weights is None:
            return np.ones(len(self.lengths), dtype=np.int64)
        until = [np.floor(self.weights.astype(np.float64) * e + self._phases) for e in (epoch, epoch + 1)]
        return (until[1] - until[0]).astype(np.int64)

    def order(self, epoch: int) -> np.ndarray:
        """Numbers of the documents of an epoch, as they are read."""
        random = np.random.default_rng([self.seed, epoch])
        if self.weights is None:
            return random.permutation(len(self.lengths))
        return random.permutation(np.repeat(np.arange(len(self.lengths)), self.times(epoch)))

    def locate(self, block: int) -> tuple[int, int]:
        """(epoch, number in it) of a block that is numbered over all epochs."""
        if self.weights is None:
            return divmod(block, self.blocks_per_epoch)
        while not self._ends or self._ends[-1] <= block:
            tokens = int((self.lengths * self.times(len(self._ends))).sum())
            # An epoch that happens to be too short for a block has none.
            self._ends.append((self._ends or [0])[-1] + max(0, (tokens - 1) // self.context))
        epoch = int(np.searchsorted(self._ends, block, side="right"))
        return epoch, block - (self._ends[epoch - 1] if epoch else 0)
