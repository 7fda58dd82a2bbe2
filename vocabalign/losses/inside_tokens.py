"""Continuations in the stream of event-KL: what follows inside a token, from the logits at its start.

The distribution over the tokens below a node of the trie is read off the student's logits at the row before the token:
the entries of its members, a few dozen of the vocabulary. Where the same row is streamed for cross-entropy and event-KL
anyway, continuations cost a gather of these entries and a sum back into their gradient, and no product with the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vocabalign.losses.checks import cut_head
from vocabalign.losses.continuations import END, Continuations
from vocabalign.losses.logits import Head
from vocabalign.losses.ragged import members_of
from vocabalign.losses.streaming import Side, stream

__all__ = ["Inside", "InsideTokens"]


class Inside(NamedTuple):
    """What continuations add to the values and the gradient of a few rows.

    Attributes:
        values: (C,) of the divergences of each row, summed.
        lead: (C,) nats that the teacher gives to the pieces that follow in the text beyond the student.
        places: (E,) int64 flat places in the (C, V) logits.
        gradient: (E,) what is added there.
    """

    values: Tensor
    lead: Tensor
    places: Tensor
    gradient: Tensor


class InsideTokens:
    """The rows of a batch at which a node of the trie is compared, in the order of the student's rows.

    ``sum_r R_r KL(P_r / R_r || Q_r)`` over the classes of the node of each row r. Q is the student's distribution over
    the tokens below the node, summed by class. P is the teacher's probability of each next piece, and of the end of
    the token all that is left; where no token of the student ends at the node, the pieces alone count and R is their
    sum (1 otherwise). Event-KL is the root of the trie.

    Args:
        entries: (R, 3) from ``Continuations.rows``.
        at: (P,) int64 the student's rows that are streamed, each once; entries at others are passed over.
        labels: (P,) int64 the tokens that follow them, -100 for none.
        teacher_hidden: (Nt, Ht) all of the teacher's.
        teacher_head: (Vt, Ht); its logits are streamed.
        trie: the nodes.

    Reference:
        new here; the chain rule of the Kullback-Leibler divergence along the pieces that were observed.
    """

    def __init__(
        self,
        entries: Tensor,
        at: Tensor,
        labels: Tensor,
        teacher_hidden: Tensor,
        teacher_head: Head,
        trie: Continuations,
    ) -> None:
        self.trie, self.labels = trie, labels
        highest = int(torch.cat([at, entries[:, 0]]).max()) + 1 if len(at) or len(entries) else 0
        row_of = at.new_full((highest,), -1)
        row_of[at] = torch.arange(len(at), device=at.device)
        row = row_of[entries[:, 0]]
        order = torch.argsort(row, stable=True)
        order = order[row[order] >= 0]
        self.row, self.nodes = row[order], entries[order, 2]
        self.begins = [0, *torch.cumsum(torch.bincount(self.row, minlength=len(at)), 0).tolist()]
        self.teacher = _PieceRows(trie, self.nodes)
        head = cut_head(teacher_head, trie.num_tokens[1], "teacher")
        with torch.no_grad():
            stream(self.teacher, [Side(teacher_hidden[entries[order, 1]], head, trained=False)])

    @property
    def num_members(self) -> int:
        """Entries of the logits that are read in all rows together."""
        return int((self.trie.members_at[self.nodes + 1] - self.trie.members_at[self.nodes]).sum())

    def __call__(self, z: Tensor, rows: slice) -> Inside:
        """Values and gradient of some of the streamed rows from their (C, V) logits."""
        found = slice(self.begins[rows.start], self.begins[rows.stop])
        nodes, row = self.nodes[found], self.row[found] - rows.start
        owner, place = members_of(self.trie.members_at, nodes)
        members = self.trie.members[place]
        places = row[owner] * z.shape[1] + members
        classes, begins = self._classes(nodes, owner, place)
        p, mass = self.teacher.of(found, z.dtype)
        logits = z.flatten()[places]
        highest = logits.new_full((len(nodes),), -torch.inf).scatter_reduce_(0, owner, logits, "amax")
        e = (logits - highest[owner]).exp_()
        by_class = e.new_zeros(len(p)).index_add_(0, classes, e)
        by_row = e.new_zeros(len(nodes)).index_add_(0, owner, e)
        # A class so unlikely that its sum is 0 still has a member that says how unlikely.
        least = torch.finfo(z.dtype).tiny
        class_owner = torch.repeat_interleave(torch.arange(len(nodes), device=z.device), torch.diff(begins))
        log_q = by_class.clamp(min=least).log_() - by_row.log()[class_owner]
        log_p = p.clamp(min=least).log_() - mass.clamp(min=least).log_()[class_owner]
        gradient = e * ((mass / by_row)[owner] - (p / by_class.clamp(min=least))[classes])
        above = log_p - log_q
        values = z.new_zeros(len(z)).index_add_(0, row[class_owner], p * above)
        observed = members == self.labels[rows][row[owner]]
        lead = z.new_zeros(len(z)).index_add_(0, row[owner[observed]], above[classes[observed]])
        return Inside(values, lead, places, gradient)

    def _classes(self, nodes: Tensor, owner: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """(E,) number of each member's class among those of all nodes here, and (R + 1,) where each node's begin."""
        at = self.trie.classes_at
        begins = torch.nn.functional.pad(torch.cumsum(at[nodes + 1] - at[nodes], 0), (1, 0))
        return self.trie.member_classes[place] + (begins[:-1] - at[nodes])[owner], begins


class _PieceRows:
    """The teacher's probabilities of the classes of each row's node, as the rows go by."""

    def __init__(self, trie: Continuations, nodes: Tensor) -> None:
        self.trie, self.nodes = trie, nodes
        sizes = trie.classes_at[nodes + 1] - trie.classes_at[nodes]
        self.at = [0, *torch.cumsum(sizes, 0).tolist()]
        self.classes = torch.zeros(self.at[-1], dtype=torch.float64, device=nodes.device)
        self.mass = torch.zeros(len(nodes), dtype=torch.float64, device=nodes.device)

    def of(self, rows: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(classes of these rows,) probabilities, and (rows,) their sums."""
        return self.classes[self.at[rows.start] : self.at[rows.stop]].to(dtype), self.mass[rows].to(dtype)

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        p = torch.softmax(logits[0], -1)
        owner, place = members_of(self.trie.classes_at, self.nodes[rows])
        pieces = self.trie.pieces[place]
        ends = pieces == END
        values = p[owner, pieces.clamp(min=0)].masked_fill_(ends, 0)
        going_on = values.new_zeros(len(p)).index_add_(0, owner, values)
        values = torch.where(ends, (1 - going_on).clamp(min=0)[owner], values)
        self.classes[self.at[rows.start] : self.at[rows.stop]] = values.to(self.classes.dtype)
        self.mass[rows] = going_on.new_zeros(len(p)).index_add_(0, owner, values).to(self.mass.dtype)
        return going_on[None]
