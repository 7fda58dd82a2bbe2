"""Ways to make a new row: a weighting of source rows for each target token.

Every way gives a sparse (T, S) matrix; the rows themselves are products with the source's matrix, made
block by block in float32, so that no second matrix of that size exists. Names: T target tokens,
S source rows, H hidden size, N pieces in all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import sparse

DECAY = 0.5
STEEP_DECAY = 0.15
_BLOCK_ROWS = 4096

Side = Literal["input", "head"]


@dataclass(frozen=True)
class Pieces:
    """Source tokens of each target token, as one ragged array.

    Attributes:
        starts: (T + 1,) int64; the pieces of token t are ``ids[starts[t]:starts[t + 1]]``.
        ids: (N,) int32 source ids; for a segmentation in the order of the text, for a lexicon best first.
        weights: (N,) float32, non-negative; 1 for each piece of a segmentation.
    """

    starts: np.ndarray
    ids: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(T,) int64, pieces of each token; 0 where nothing is known."""
        return np.diff(self.starts)

    def of(self, token: int) -> np.ndarray:
        """Source ids of one token."""
        return self.ids[self.starts[token] : self.starts[token + 1]]

    @classmethod
    def from_lists(cls, ids: Sequence[Sequence[int]], weights: Sequence[Sequence[float]] | None = None) -> Pieces:
        """From one list of source ids for each target token."""
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=starts[1:])
        flat = np.fromiter((i for row in ids for i in row), np.int32, int(starts[-1]))
        if weights is None:
            return cls(starts, flat, np.ones(len(flat), np.float32))
        return cls(starts, flat, np.fromiter((w for row in weights for w in row), np.float32, int(starts[-1])))

    @classmethod
    def from_table(cls, ids: np.ndarray, weights: np.ndarray) -> Pieces:
        """From a lexicon's (T, K) tables; entries with a negative id or no weight are left out."""
        used = (ids >= 0) & (weights > 0)
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(used.sum(axis=1), out=starts[1:])
        return cls(starts, ids[used].astype(np.int32), weights[used].astype(np.float32))

    def merged(self, other: Pieces, take_other: np.ndarray) -> Pieces:
        """Token by token: the other's pieces where ``take_other`` (T,) says so, else one's own."""
        chosen = [other if take else self for take in take_other]
        ids = [part.of(t) for t, part in enumerate(chosen)]
        weights = [part.weights[part.starts[t] : part.starts[t + 1]] for t, part in enumerate(chosen)]
        starts = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(row) for row in ids], out=starts[1:])
        empty_ids, empty_weights = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
        return Pieces(starts, np.concatenate(ids or empty_ids), np.concatenate(weights or empty_weights))

    def without(self, unusable: Callable[[np.ndarray], np.ndarray]) -> Pieces:
        """Without the source ids that have no row; ``unusable`` maps (N,) ids to (N,) bool."""
        keep = ~unusable(self.ids)
        owners = np.repeat(np.arange(len(self)), self.lengths)[keep]
        starts = np.zeros(len(self) + 1, np.int64)
        np.cumsum(np.bincount(owners, minlength=len(self)), out=starts[1:])
        return Pieces(starts, self.ids[keep], self.weights[keep])

    def matrix(self, weights: np.ndarray, num_sources: int) -> sparse.csr_matrix:
        """(T, S) float32 CSR whose rows sum to 1, or are empty where nothing is known."""
        weights = weights.astype(np.float64)
        owners = np.repeat(np.arange(len(self)), self.lengths)
        totals = np.bincount(owners, weights, minlength=len(self))
        shares = np.divide(weights, totals[owners], out=np.zeros_like(weights), where=totals[owners] > 0)
        # A copy: adding up duplicates sorts the ids in place.
        arrays = (shares.astype(np.float32), self.ids, self.starts)
        result = sparse.csr_matrix(arrays, (len(self), num_sources), copy=True)
        result.sum_duplicates()
        result.eliminate_zeros()
        return result

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) place of each piece counted from its token's first one, and from its last one."""
        from_first = np.arange(len(self.ids)) - np.repeat(self.starts[:-1], self.lengths)
        return from_first, np.repeat(self.lengths, self.lengths) - 1 - from_first


def weigh_evenly(pieces: Pieces, side: Side) -> np.ndarray:
    """Mean of the pieces: FVT (Gee et al. 2022), tokenkit's and ReTok's start."""
    return np.ones(len(pieces.ids), np.float32)


def weigh_as_given(pieces: Pieces, side: Side) -> np.ndarray:
    """The lexicon's own weights."""
    return pieces.weights


def weigh_first(pieces: Pieces, side: Side) -> np.ndarray:
    """The first piece alone: what a model that writes the token's text chooses first."""
    return (pieces.places()[0] == 0).astype(np.float32)


def weigh_last(pieces: Pieces, side: Side) -> np.ndarray:
    """The last piece alone: what was just read (transplant-vocab's input rows)."""
    return (pieces.places()[1] == 0).astype(np.float32)


def weigh_decaying(pieces: Pieces, side: Side) -> np.ndarray:
    """0.5^i from the last piece for input rows, from the first for head rows (transplant-vocab's head)."""
    from_first, from_last = pieces.places()
    return np.float32(DECAY) ** (from_last if side == "input" else from_first).astype(np.float32)


def weigh_steeply(pieces: Pieces, side: Side) -> np.ndarray:
    """0.15^i: nearly the piece that matters most, with a trace of the others."""
    from_first, from_last = pieces.places()
    return np.float32(STEEP_DECAY) ** (from_last if side == "input" else from_first).astype(np.float32)


def make_rows(
    weights: sparse.csr_matrix,
    source: torch.Tensor,
    shift: np.ndarray | None = None,
    direction: torch.Tensor | None = None,
) -> torch.Tensor:
    """New rows as mixtures of source rows: a float32 product, kept in the source's dtype.

    A row with one source token of weight 1 and no shift is that token's row, bit for bit. A row
    without source tokens becomes the mean of the source's rows: never random, and a head row that is
    a mixture can never beat the best of what it mixes.

    Args:
        weights: (T, S) sparse float32.
        source: (S, H) or, for a bias, (S,).
        shift: (T,) float32, multiples of ``direction`` to add.
        direction: (H,) float32, or () for a bias.

    Returns:
        (T, H) or (T,) in ``source.dtype``.
    """
    num_targets = weights.shape[0]
    result = torch.empty((num_targets, *source.shape[1:]), dtype=source.dtype)
    mean = mean_row(source)
    sizes = np.diff(weights.indptr)
    for begin in range(0, num_targets, _BLOCK_ROWS):
        block = weights[begin : begin + _BLOCK_ROWS]
        used, columns = np.unique(block.indices, return_inverse=True)
        small = sparse.csr_matrix((block.data, columns, block.indptr), (block.shape[0], len(used)))
        gathered = source[torch.from_numpy(used.astype(np.int64))]
        # A block may use no source row at all, as where thousands of tokens get the mean.
        flat = gathered.float().reshape(len(used), source[:1].numel()).numpy()
        rows = torch.from_numpy(np.asarray(small @ flat, dtype=np.float32)).reshape(-1, *source.shape[1:])
        block_sizes = sizes[begin : begin + _BLOCK_ROWS]
        rows[torch.from_numpy(block_sizes == 0)] = mean
        if shift is not None and direction is not None:
            part = torch.from_numpy(shift[begin : begin + _BLOCK_ROWS].astype(np.float32))
            rows += part.reshape(-1, *[1] * direction.dim()) * direction
        result[begin : begin + len(rows)] = rows.to(source.dtype)
        unshifted = block_sizes == 1 if shift is None else (block_sizes == 1) & (shift[begin : begin + len(rows)] == 0)
        copied = np.flatnonzero(unshifted)
        result[begin + torch.from_numpy(copied)] = gathered[torch.from_numpy(columns[block.indptr[copied]])]
    return result


def mean_row(source: torch.Tensor) -> torch.Tensor:
    """(H,) float32 mean over rows, in blocks and float64 so that no large copy is made."""
    total = torch.zeros(source.shape[1:], dtype=torch.float64)
    for block in source.split(_BLOCK_ROWS):
        total += block.double().sum(dim=0)
    return (total / len(source)).float()


# How much each piece of each token counts on a side: (sum of lengths,) float32.
RowMethod = Callable[[Pieces, Side], np.ndarray]

# Ways that weigh the pieces of the source's own segmentation, and ways that weigh a lexicon's entries.
SEGMENTATION_METHODS: dict[str, RowMethod] = {
    "last": weigh_last,
    "first": weigh_first,
    "fvt": weigh_evenly,
    "decay": weigh_decaying,
    "steep": weigh_steeply,
}
LEXICON_METHODS: dict[str, RowMethod] = {
    "lexicon": weigh_as_given,
    "lexicon-one": weigh_first,
}
