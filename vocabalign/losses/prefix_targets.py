"""The teacher's probability of each of the student's tokens, at starts on a token's edge and inside of it alike.

The starts inside a token of the teacher are told of by the same row of the teacher as the token's own: its
probabilities are made once for all of them, and those inside only look up the few tokens that are still possible.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vocabalign.losses.checks import cut_head
from vocabalign.losses.logits import Head, Projection
from vocabalign.losses.marginal import PrefixMerge
from vocabalign.losses.prefixes import PrefixRows
from vocabalign.losses.ragged import members_of
from vocabalign.losses.sparse_products import times

__all__ = ["PrefixProbabilities"]

# For the teacher's probabilities, and what is made of them, of the rows at hand and some more.
BLOCK_BYTES = 16 << 20


class PrefixProbabilities:
    """p~ of ``prefix_loss`` for the rows of a batch, in the order of the teacher's rows.

    Args:
        rows: of the batch.
        prefixes: of the two vocabularies.
        rest: (M,) log-probabilities of the further tokens of spans.
        hidden: (P, Ht) of the teacher at ``rows.pairs[:, 1]``.
        head: (Vt, Ht).

    Attributes:
        order: (P,) int64 in which the rows come.
    """

    def __init__(self, rows: PrefixRows, prefixes: PrefixMerge, rest: Tensor, hidden: Tensor, head: Head) -> None:
        self.width, theirs = prefixes.num_tokens
        self.exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        self.order = torch.argsort(rows.pairs[:, 1], stable=True)
        self.teacher_rows = rows.pairs[self.order, 1]
        self.side = Projection(hidden[self.order], cut_head(head, theirs, "teacher"), hidden.dtype, self.exact)
        self.matrix, self.rows = prefixes.sums[self.exact], rows
        self.prefix, self.observed = rows.prefix[self.order], rows.observed[self.order]
        self.moved_to, self.moved_from = rows.moved_to[self.order], rows.moved_from[self.order]
        total = torch.zeros(len(rows.pairs), dtype=self.exact, device=rest.device)
        self.rest = total.index_add_(0, rows.rest_owner, rest.detach().to(self.exact))[self.order]
        self.moves = bool((rows.moved_to >= 0).any())
        self.kept: tuple[int, Tensor, Tensor] = 0, hidden.new_zeros(0, self.width), hidden.new_zeros(0)
        self.block = max(1, BLOCK_BYTES // (max(self.width, theirs) * self.exact.itemsize))

    def __call__(self, rows: slice) -> tuple[Tensor, Tensor]:
        """(C, V) probabilities that sum to 1, and (C,) the share of the teacher's that they are of."""
        start, p, known = self.kept
        if rows.start < start or rows.stop > start + len(p):
            # More than is asked for: a tile of a few rows would pay for every small operation again.
            start, stop = rows.start, max(rows.stop, min(rows.start + self.block, len(self.order)))
            parts = [self._some(slice(at, min(at + self.block, stop))) for at in range(start, stop, self.block)]
            p, known = parts[0] if len(parts) == 1 else (torch.cat(side) for side in zip(*parts))
            self.kept = start, p, known
        inside = slice(rows.start - start, rows.stop - start)
        return p[inside], known[inside]

    def _some(self, rows: slice) -> tuple[Tensor, Tensor]:
        theirs = self.teacher_rows[rows]
        first = torch.ones_like(theirs, dtype=torch.bool)
        first[1:] = theirs[1:] != theirs[:-1]
        owner = torch.cumsum(first, 0) - 1
        p = self._probabilities(first.nonzero().squeeze(1) + rows.start)
        target = p.new_zeros(len(theirs), self.width)
        known = p.new_zeros(len(theirs))
        edge = self.prefix[rows] < 0
        at = edge.nonzero().squeeze(1)
        target[at] = times(self.matrix, p)[owner[at]]
        known[at] = target[at].sum(1)
        inside = (~edge).nonzero().squeeze(1)
        if len(inside):
            self._inside(target, known, p, owner, inside, rows.start)
        if self.moves:
            self._move(target, known, p, owner, rows)
        total = target.sum(1, keepdim=True)
        return target.clamp_(min=0).div_(total.clamp(min=torch.finfo(p.dtype).tiny)), known

    def _probabilities(self, rows: Tensor) -> Tensor:
        """(D, Vt) of the teacher."""
        chosen = Projection(self.side.hidden[rows], self.side.head, self.side.product, self.exact)
        logits = chosen.raw(slice(None), None)
        chosen.finish(logits, False)
        return torch.softmax(logits, -1, out=logits)

    def _inside(self, target: Tensor, known: Tensor, p: Tensor, owner: Tensor, inside: Tensor, start: int) -> None:
        """Of the tokens that begin with what was read, those that go on, by how they do."""
        row, at = members_of(self.rows.offsets, self.prefix[inside + start])
        mass = p[owner[inside][row], self.rows.candidates[at]]
        to = self.rows.continuations[at]
        goes_on = to >= 0
        target.index_put_((inside[row[goes_on]], to[goes_on]), mass[goes_on], accumulate=True)
        whole = known.new_zeros(len(inside)).index_add_(0, row, mass)
        share = target[inside].sum(1) / whole.clamp(min=torch.finfo(p.dtype).tiny)
        known[inside] = torch.where(whole > 0, share, 0)

    def _move(self, target: Tensor, known: Tensor, p: Tensor, owner: Tensor, rows: slice) -> None:
        """Give what is there to the student token that is there."""
        at = (self.moved_to[rows] >= 0).nonzero().squeeze(1)
        number = at + rows.start
        mass = p[owner[at], self.observed[number]] * self.rest[number].exp()
        to, origin = self.moved_to[number], self.moved_from[number]
        from_known = origin >= 0
        taken = target[at[from_known], origin[from_known]] - mass[from_known]
        target[at[from_known], origin[from_known]] = taken.clamp(min=0)
        before = target[at, to]
        target[at, to] = before + mass
        # What came out of the unknown is known now.
        share, total = known[at], target[at].sum(1)
        gained = torch.where(from_known, 0, mass)
        old = (total - gained).clamp(min=torch.finfo(p.dtype).tiny)
        known[at] = (share * total / old).clamp(max=1)
