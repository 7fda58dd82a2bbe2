"""Projection KL: the student's distribution carried to the teacher's vocabulary by a lexicon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from vocabalign.losses.checks import both_sides, check_temperature
from vocabalign.losses.divergences import Divergence, named
from vocabalign.losses.logits import NEVER, Head
from vocabalign.losses.pairs import Pair, normalise_
from vocabalign.losses.sparse_products import times, to_tensor
from vocabalign.losses.streaming import stream

__all__ = ["LexiconProjection", "projection_loss"]

_ROW_TOLERANCE = 1e-3


class LexiconProjection:
    """A row-stochastic sparse matrix W (Vs, E) from student tokens to events, E of them.

    Events are the teacher's tokens that some student token points to, and one more for student tokens without any
    source, which the teacher gives no probability. Teacher tokens that nothing points to are no events.

    Args:
        source_ids: (Vs, K) int, teacher tokens of each student token, -1 for none.
        weights: (Vs, K) not negative; every row sums to 1, or to 0 where the token has no source.
        num_teacher_tokens: Vt.
        device: where the loss runs.

    Raises:
        ValueError: shapes that differ, ids outside the teacher's vocabulary, negative weights, rows of another sum.
    """

    def __init__(
        self,
        source_ids: np.ndarray,
        weights: np.ndarray,
        num_teacher_tokens: int,
        device: torch.device | str = "cpu",
    ) -> None:
        ids, values = np.asarray(source_ids, dtype=np.int64), np.asarray(weights, dtype=np.float64)
        _check(ids, values, num_teacher_tokens)
        count = len(ids)
        used = (ids >= 0) & (values > 0)
        row = np.nonzero(used)[0]
        matrix = sparse.csr_matrix((values[used], (row, ids[used])), shape=(count, num_teacher_tokens))
        matrix.sum_duplicates()
        total = np.asarray(matrix.sum(1)).reshape(-1)
        covered = np.flatnonzero(np.asarray(matrix.sum(0)).reshape(-1))
        lost = np.flatnonzero(total == 0)
        matrix = sparse.diags(1 / np.where(total > 0, total, 1)) @ matrix[:, covered]
        nowhere = sparse.csr_matrix((np.ones(len(lost)), (lost, np.zeros(len(lost), int))), shape=(count, 1))
        matrix = sparse.hstack([matrix, nowhere]).tocsr() if len(lost) else matrix.tocsr()
        self.num_tokens = (count, num_teacher_tokens)
        self.identity = count == num_teacher_tokens and _is_identity(matrix)
        self.covered = torch.from_numpy(covered).to(device)
        self.uncovered = torch.from_numpy(np.setdiff1d(np.arange(num_teacher_tokens), covered)).to(device)
        self.has_lost = bool(len(lost))
        self._matrices = {
            dtype: tuple(to_tensor(part, dtype, device) for part in (matrix, matrix.T.tocsr()))
            for dtype in (torch.float32, torch.float64)
            if not self.identity
        }

    def forward(self, q: Tensor) -> Tensor:
        """(C, Vs) probabilities -> (C, E)."""
        return times(self._matrices[q.dtype][1], q)

    def back(self, g: Tensor) -> Tensor:
        """(C, E) derivatives -> (C, Vs)."""
        return times(self._matrices[g.dtype][0], g)


def projection_loss(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    projection: LexiconProjection,
    *,
    divergence: str | Divergence = "forward-kl",
    temperature: float = 1.0,
    weights: Tensor | None = None,
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``T^2 sum_b w_b R_b D(p_b, q_b W) / num_items`` at aligned starts b, position by position.

    W is the lexicon: the probability of a student token is given to its source tokens. p is the teacher's distribution
    over the tokens that W reaches and R their probability. Choose it where there is a lexicon but no sensible classes,
    for example a lexicon of neighbours in meaning; elsewhere ``event_loss`` needs no weights to be believed in.
    Nothing is averaged over chunks, so that equal models have no loss; W = I is the plain divergence, bit for bit.

    Gradient: ``dL/dz_s = w R T q_s (h_s - <q, h>)`` with ``h = W dD/d(qW)``; the teacher gets none.

    Args:
        hidden: (N, H) student's hidden states that predict the next token at aligned starts.
        head: (V, H).
        teacher_hidden: (N, Ht) of the teacher at the same places.
        teacher_head: (Vt, Ht).
        projection: W.
        divergence: a name in ``divergences.DIVERGENCES``, or one with other settings.
        temperature: T of both sides.
        weights: (N,) w, 1 by default.
        num_items: the sum of the weights by default; over accumulated batches and ranks give the sum of all.
        block_bytes: memory of a block of logits.

    Returns:
        A scalar in nats; 0 with zero gradients where there are no rows.

    Raises:
        ValueError: an unknown divergence, a head with fewer rows than its vocabulary, NaN in the teacher, or
            shapes that do not fit.

    Reference:
        projection of the student as in X-Token (2605.21699), but per position and without choosing a subset.
    """
    rows = _ProjectionRows(projection, named(divergence), check_temperature(temperature))
    sides = both_sides(hidden, head, teacher_hidden, teacher_head, projection.num_tokens)
    return stream(rows, sides, weights=weights, num_items=num_items, block_bytes=block_bytes)[0]


class _ProjectionRows:
    """Values and gradient of a few rows."""

    def __init__(self, projection: LexiconProjection, divergence: Divergence, temperature: float) -> None:
        self.projection, self.divergence, self.temperature = projection, divergence, temperature

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        mine, theirs = logits
        if self.temperature != 1.0:
            mine /= self.temperature
            theirs /= self.temperature
        scale = self.temperature**2
        if self.projection.identity:
            values, towards = self.divergence(Pair.from_logits(mine, theirs))
            if gradient:
                torch.mul(towards, self.temperature, out=mine)
            return values[None] * scale
        q = torch.softmax(mine, -1)
        carried = self.projection.forward(q).clamp_(min=torch.finfo(q.dtype).tiny ** 0.5)
        pair, resolved = self._pair(carried, theirs)
        values, towards = self.divergence(pair)
        if resolved is not None:
            values = values * resolved
        if gradient:
            # From dD/du = Q (g - <Q, g>) back to g, of which a constant does not matter.
            g = self.projection.back(towards.div_(carried)).mul_(q)
            torch.addcmul(g, q, g.sum(-1, keepdim=True), value=-1, out=mine)
            if resolved is not None or self.temperature != 1.0:
                mine *= self.temperature if resolved is None else (self.temperature * resolved)[:, None]
        return values[None] * scale

    def _pair(self, carried: Tensor, theirs: Tensor) -> tuple[Pair, Tensor | None]:
        """Both sides over the events, and (C,) the teacher's probability of all of them; None for 1."""
        covered, resolved = theirs, None
        if len(self.projection.uncovered):
            covered = theirs.index_select(1, self.projection.covered)
            missing = theirs.index_select(1, self.projection.uncovered).logsumexp(-1)
            highest = covered.amax(-1)
        if self.projection.has_lost:
            covered = torch.cat([covered, covered.new_full((len(covered), 1), NEVER)], 1)
        p = normalise_(covered)
        if len(self.projection.uncovered):
            # The likeliest event tells what the sum was.
            resolved = torch.sigmoid(highest - covered.amax(-1) - missing)
        pair = Pair(carried.log(), covered)
        pair.q, pair.p = carried, p
        return pair, resolved


def _check(ids: np.ndarray, weights: np.ndarray, num_teacher_tokens: int) -> None:
    if ids.ndim != 2 or ids.shape != weights.shape:
        raise ValueError(
            f"The lexicon has ids of shape {ids.shape} and weights of shape {weights.shape}; expected (V, K)."
        )
    if ids.size and (ids.min() < -1 or ids.max() >= num_teacher_tokens):
        raise ValueError(
            f"The lexicon's source ids reach from {ids.min()} to {ids.max()}; expected -1 to {num_teacher_tokens - 1}."
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("The lexicon has weights that are negative or not finite.")
    total = np.where(ids >= 0, weights, 0).sum(1)
    wrong = np.flatnonzero((np.abs(total - 1) > _ROW_TOLERANCE) & (total != 0))
    if len(wrong):
        raise ValueError(
            f"The weights of token {wrong[0]} sum to {total[wrong[0]]:.4g}; expected 1, or 0 for no source."
        )


def _is_identity(matrix: sparse.csr_matrix) -> bool:
    count = matrix.shape[0]
    return bool(
        matrix.shape == (count, count)
        and matrix.nnz == count
        and (matrix.indices == np.arange(count)).all()
        and (matrix.data == 1).all()
    )
