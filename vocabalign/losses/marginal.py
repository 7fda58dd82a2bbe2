"""Byte-prefix marginalisation: the teacher's next token as a distribution over the student's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.checks import both_sides, check_numbers
from vocabalign.losses.divergences import Divergence, named
from vocabalign.losses.logits import NEVER, Head
from vocabalign.losses.merging import Merge
from vocabalign.losses.pairs import Pair
from vocabalign.losses.prefixes import PrefixMap, PrefixRows
from vocabalign.losses.ragged import members_of
from vocabalign.losses.sparse_products import sum_matrices
from vocabalign.losses.streaming import stream

__all__ = ["PrefixMerge", "PrefixTargets", "prefix_loss"]


class PrefixMerge:
    """The part of a ``PrefixMap`` for aligned starts on a device, made once and used at every step."""

    def __init__(self, prefixes: PrefixMap, device: torch.device | str = "cpu") -> None:
        self.num_tokens = prefixes.num_tokens
        found = np.unique(prefixes.whole[prefixes.whole >= 0])
        rank = np.full(max(prefixes.num_tokens[0], 1) + 1, -1, dtype=np.int64)
        rank[found] = np.arange(len(found))
        self.merge = Merge(rank[prefixes.whole], len(found), device)
        self.sums = sum_matrices(prefixes.whole, prefixes.num_tokens[0], device)
        """(V, Vt) which teacher tokens add up to each of the student's."""
        self.unknown = torch.from_numpy(np.flatnonzero(prefixes.whole < 0)).to(device)
        self.identity = self.merge.identity and len(found) == prefixes.num_tokens[0]
        self.columns = torch.from_numpy(found).to(device)[self.merge.order]

    def student_logits(self, logits: Tensor) -> Tensor:
        """(C, Vt) logits -> (C, V) logits of the teacher's probability of each student token."""
        if self.identity:
            return logits
        merged, _ = self.merge.merge(self.merge.arrange(logits))
        result = logits.new_full((len(logits), self.num_tokens[0]), NEVER)
        return result.index_copy_(1, self.columns, merged)


def prefix_loss(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    rows: PrefixRows,
    prefixes: PrefixMerge,
    rest_log_probs: Tensor,
    *,
    divergence: str | Divergence = "forward-kl",
    weights: Tensor | None = None,
    num_items: Tensor | float | None = None,
    block_bytes: int | None = None,
) -> Tensor:
    """``sum_b w_b R_b D(p~_b / R_b, q_b) / num_items`` over all starts b of student tokens that the teacher knows.

    Where the teacher has begun its token by the bytes u, ``p~(s) = sum of p(u v) / Z_u`` over tokens u v of which s is
    the longest student token that v begins with, and Z_u sums all tokens that begin with u. A student token that is
    really there and spans several teacher tokens gets the product of their probabilities, taken from the token that
    the first of them alone would give. What is left, p(u) / Z_u above all (the teacher's token ends here, and what
    would follow was not computed), is the residual 1 - R: an event that the student cannot tell from others either,
    so it has the same probability on both sides and adds nothing but the factor R.

    Choose it where the student's tokens are shorter than the teacher's: then it is dense and nearly exact at every
    start. Where they are longer the student's long tokens get no probability from it and are unlearned; use
    ``event_loss``. For the same reason reverse KL is infinite wherever a student token is out of reach: take a
    forward or bounded divergence. One vocabulary on both sides gives the plain divergence, bit for bit.

    Gradient: ``w_b R_b dD/dz`` of the divergence with the target p~ / R; to the student only.

    Args:
        hidden: (P, H) student's hidden states at ``rows.pairs[:, 0]``.
        head: (V, H).
        teacher_hidden: (P, Ht) the teacher's at ``rows.pairs[:, 1]``.
        teacher_head: (Vt, Ht).
        rows: from ``prefix_rows``.
        prefixes: of the two vocabularies.
        rest_log_probs: (M,) teacher's log-probabilities of ``rows.rest_labels`` at its rows ``rows.rest``, from
            ``observed_log_probs``.
        divergence: a name in ``divergences.DIVERGENCES``, or one with other settings.
        weights: (P,) w, 1 by default.
        num_items: the sum of the weights by default; over accumulated batches and ranks give the sum of all.
        block_bytes: memory of a block of logits.

    Returns:
        A scalar in nats; 0 with zero gradients where there are no rows.

    Raises:
        ValueError: shapes that do not fit, a head with fewer rows than tokens, NaN in the teacher.

    Reference:
        byte-prefix marginalisation, arXiv 2607.22334; the treatment of the residual is ours.
    """
    count = len(rows.pairs)
    for name, given in (("student", hidden), ("teacher", teacher_hidden)):
        if given.shape[0] != count:
            raise ValueError(f"The {name} has {given.shape[0]} hidden states for {count} starts of tokens.")
    if rest_log_probs.shape != rows.rest.shape:
        raise ValueError(
            f"{tuple(rest_log_probs.shape)} log-probabilities for {len(rows.rest)} further tokens of spans."
        )
    check_numbers(rest_log_probs, "teacher's log-probabilities")
    sides = both_sides(hidden, head, teacher_hidden, teacher_head, prefixes.num_tokens)
    loss = _PrefixLoss(PrefixTargets(rows, prefixes, rest_log_probs), named(divergence))
    return stream(loss, sides, weights=weights, num_items=num_items, block_bytes=block_bytes)[0]


class PrefixTargets:
    """p~ of a few rows, from the teacher's logits.

    Args:
        rows: all rows, aligned ones first.
        prefixes: of the two vocabularies.
        rest: (M,) log-probabilities of the further tokens of spans.
    """

    def __init__(self, rows: PrefixRows, prefixes: PrefixMerge, rest: Tensor) -> None:
        self.rows, self.prefixes = rows, prefixes
        self.num_aligned = int((rows.prefix < 0).sum())
        self.moves = bool((rows.moved_to >= 0).any())
        total = torch.zeros(len(rows.pairs), dtype=torch.float64 if rest.device.type != "mps" else rest.dtype)
        self.rest = total.to(rest.device).index_add_(0, rows.rest_owner, rest.detach().to(total.dtype))

    def __call__(self, theirs: Tensor, rows: slice) -> tuple[Tensor, Tensor | None]:
        """(C, V) logits of p~, and (C,) the share R of the probability that it has; None where that is all."""
        target, residual = self._targets(theirs, rows)
        if self.moves:
            self._move(target, residual, theirs, rows)
        return target, None if residual is None else torch.sigmoid(target.logsumexp(-1) - residual)

    def _targets(self, theirs: Tensor, rows: slice) -> tuple[Tensor, Tensor | None]:
        """(C, V) logits of p~, and (C,) those of the residual; None where there is none."""
        split = min(max(self.num_aligned - rows.start, 0), len(theirs))
        parts, residuals = [], []
        if split:
            aligned = theirs[:split]
            unknown = self.prefixes.unknown
            if len(unknown):
                residuals.append(aligned.index_select(1, unknown).logsumexp(-1))
            elif split < len(theirs):
                residuals.append(aligned.new_full((split,), NEVER))
            parts.append(self.prefixes.student_logits(aligned))
        if split < len(theirs):
            inside, rest = self._inside(theirs[split:], slice(rows.start + split, rows.stop))
            parts.append(inside)
            residuals.append(rest)
        target = parts[0] if len(parts) == 1 else torch.cat(parts)
        return target, torch.cat(residuals) if residuals else None

    def _inside(self, theirs: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """The same for rows at which the teacher is inside a token."""
        prefix = self.rows.prefix[rows]
        row, at = members_of(self.rows.offsets, prefix)
        values = theirs[row, self.rows.candidates[at]]
        highest = theirs.new_full((len(prefix),), NEVER).scatter_reduce_(0, row, values, "amax")
        mass = (values - highest[row]).exp_()
        # The last column takes what fits no token of the student.
        width = self.prefixes.num_tokens[0]
        to = self.rows.continuations[at]
        sums = theirs.new_zeros(len(prefix), width + 1)
        sums.index_put_((row, torch.where(to >= 0, to, width)), mass, accumulate=True)
        sums.log_().add_(highest[:, None]).clamp_(min=NEVER)
        return sums[:, :width].contiguous(), sums[:, width]

    def _move(self, target: Tensor, residual: Tensor | None, theirs: Tensor, rows: slice) -> None:
        """Give what is there to the student token that is there; in units of the teacher's logits."""
        at = (self.rows.moved_to[rows] >= 0).nonzero().squeeze(1)
        if not len(at):
            return
        number = at + rows.start
        to, origin = self.rows.moved_to[number], self.rows.moved_from[number]
        mass = theirs[at, self.rows.observed[number]] + self.rest[number].to(theirs.dtype)
        known = origin >= 0
        _take(target, (at[known], origin[known]), mass[known])
        if residual is not None:
            _take(residual, (at[~known],), mass[~known])
        target[at, to] = torch.logaddexp(target[at, to], mass)


class _PrefixLoss:
    """Values and gradient of a few rows."""

    def __init__(self, targets: PrefixTargets, divergence: Divergence) -> None:
        self.targets, self.divergence = targets, divergence

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        mine, theirs = logits
        target, resolved = self.targets(theirs, rows)
        values, towards = self.divergence(Pair.from_logits(mine, target))
        if resolved is not None:
            values = values * resolved
            towards *= resolved[:, None]
        if gradient:
            mine.copy_(towards)
        return values[None]


def _take(logits: Tensor, at: tuple[Tensor, ...], mass: Tensor) -> None:
    """``log(e^logits - e^mass)`` in place, where the mass is a part of what is there."""
    there = logits[at]
    logits[at] = (there + torch.log1p(-(mass - there).clamp(max=0).exp())).clamp(min=NEVER)
