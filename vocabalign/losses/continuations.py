"""Continuations: what a teacher with shorter tokens says inside a token of the student.

Where the student writes `` playing`` the teacher writes `` play`` and ``ing``. Event-KL compares the two at the start
of the token alone, over classes of first pieces. Having read `` play``, the teacher says once more what may follow:
``ing``, ``ed``, or something that begins a new token. The student's distribution over the tokens that begin with these
pieces, taken from the same logits, says that too. By the chain rule the divergence of two distributions over whole
tokens is that of the first pieces plus, along the pieces that text follows, those of the continuations: no second pass,
no sampling, and all of the teacher's positions take part instead of those at which tokens of both sides start.

The tokens of the student, cut into the teacher's pieces, are a trie. Its inner nodes are the prefixes; the members of a
node are the tokens below it; their classes are the next pieces, and the end of the token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import Document
from vocabalign.losses.checks import cut_head
from vocabalign.losses.logits import Head, check_head
from vocabalign.losses.positions import check_finite
from vocabalign.losses.streaming import Side, stream
from vocabalign.text.segmentation import ids_in_running_text, segment_many
from vocabalign.text.vocabulary import Vocabulary

__all__ = ["Continuations", "continuation_loss"]

END = -1
# Memory for the head rows of the members of a block of rows.
BLOCK_BYTES = 64 << 20


class Continuations:
    """The trie of a student's tokens in the pieces of a teacher; N inner nodes, M members and C classes of all nodes.

    Args:
        student: whose tokens are cut.
        teacher: into whose tokens.
        device: where the loss runs.

    Attributes:
        num_tokens: of both vocabularies.
        members_at: (N + 1,) int64, where the members of each node begin.
        members: (M,) int64 student ids.
        member_classes: (M,) int64, number of the member's class among the C.
        classes_at: (N + 1,) int64, where the classes of each node begin.
        pieces: (C,) int64 the teacher's token that leads to the class, -1 for the end of the student's token.
    """

    def __init__(self, student: Vocabulary, teacher: Vocabulary, device: torch.device | str = "cpu") -> None:
        self.num_tokens = (len(student), len(teacher))
        ids = ids_in_running_text(student)
        tokens = [token for token in ids if ids[token] not in student.special_ids]
        cuts = {ids[t]: cut for t, cut in zip(tokens, segment_many(teacher, tokens), strict=True) if cut}
        numbers: dict[tuple[int, ...], int] = {}
        for cut in cuts.values():
            for size in range(1, len(cut)):
                numbers.setdefault(tuple(cut[:size]), len(numbers))
        self._cut_at, self._cuts = _ragged([cuts.get(i, []) for i in range(len(student))])
        self._nodes_at, self._nodes = _ragged(
            [
                [numbers[tuple(cuts[i][:size])] for size in range(1, len(cuts[i]))] if i in cuts else []
                for i in range(len(student))
            ]
        )
        below: list[list[tuple[int, int]]] = [[] for _ in numbers]
        for token_id, cut in cuts.items():
            for size in range(1, len(cut) + 1):
                node = numbers.get(tuple(cut[:size]))
                if node is not None:
                    below[node].append((token_id, cut[size] if size < len(cut) else END))
        classes: list[int] = []
        places, members_at, classes_at, members = [], [0], [0], []
        for found in below:
            rank: dict[int, int] = {}
            for token_id, piece in found:
                if piece not in rank:
                    rank[piece] = len(classes)
                    classes.append(piece)
                members.append(token_id)
                places.append(rank[piece])
            members_at.append(len(members))
            classes_at.append(len(classes))
        self.members_at, self.members, self.member_classes, self.classes_at, self.pieces = (
            torch.tensor(values, dtype=torch.int64, device=device)
            for values in (members_at, members, places, classes_at, classes)
        )

    def __len__(self) -> int:
        """Inner nodes."""
        return len(self.members_at) - 1

    def rows(self, documents: Sequence[Document]) -> Tensor:
        """(R, 3) int64: row of the student at the start of a token, row of the teacher inside it, and the node.

        Only tokens that the teacher cuts in this text as it does in running text take part; others are passed over.
        """
        parts = [self._rows(document) for document in documents]
        return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, 3), dtype=np.int64))

    def _rows(self, document: Document) -> np.ndarray:
        a = document.alignment
        sizes = (a.ct_end - a.ct_start).astype(np.int64)
        kept = np.flatnonzero((a.cs_end - a.cs_start == 1) & (sizes > 1) & (a.cs_start > 0))
        at, starts, sizes = a.cs_start[kept].astype(np.int64), a.ct_start[kept].astype(np.int64), sizes[kept]
        tokens = np.asarray(document.student_ids)[at]
        same = self._cut_at[tokens + 1] - self._cut_at[tokens] == sizes
        at, starts, sizes, tokens = at[same], starts[same], sizes[same], tokens[same]
        owner, number = _spread(sizes)
        differs = (
            self._cuts[self._cut_at[tokens][owner] + number] != np.asarray(document.teacher_ids)[starts[owner] + number]
        )
        same = np.bincount(owner[differs], minlength=len(sizes)) == 0
        at, starts, sizes, tokens = at[same], starts[same], sizes[same], tokens[same]
        owner, number = _spread(sizes - 1)
        nodes = self._nodes[self._nodes_at[tokens][owner] + number]
        mine, theirs = at[owner] - 1 + document.student_at, starts[owner] + number + document.teacher_at
        return np.stack([mine, theirs, nodes], 1).astype(np.int64)


def continuation_loss(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    nodes: Tensor,
    continuations: Continuations,
    *,
    num_items: Tensor | float | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Tensor:
    """``sum_r R_r KL(P_r / R_r || Q_r) / num_items`` over the classes of the node of each row.

    Q is the student's distribution over the tokens below the node, summed by class. P is the teacher's probability of
    each next piece, and of the end of the token all that is left; where no token of the student ends at the node, the
    pieces alone count and R is their sum (1 otherwise). Use it with ``event_loss``, which is the root of the trie.

    Gradient, in the forward pass and for the members alone: ``dL/dz_s = R Q(s) - P(c) Q(s | c)``. Nothing of rows times
    vocabulary is made for the student; the teacher's logits are streamed. The teacher gets none.

    Args:
        hidden: (R, H) of the student, at ``rows[:, 0]`` of ``Continuations.rows``.
        head: (V, H).
        teacher_hidden: (R, Ht), at ``rows[:, 1]``.
        teacher_head: (Vt, Ht).
        nodes: (R,) int64, ``rows[:, 2]``.
        continuations: the trie.
        num_items: R by default; over accumulated batches and ranks give the sum of all.
        block_bytes: memory of a block of head rows.

    Returns:
        A scalar in nats; 0 with zero gradients where there are no rows.

    Raises:
        ValueError: a head with fewer rows than its vocabulary, NaN in the teacher, or shapes that do not fit.

    Reference:
        new here; the chain rule of the Kullback-Leibler divergence along the pieces that were observed.
    """
    if not hidden.shape[:1] == teacher_hidden.shape[:1] == nodes.shape:
        raise ValueError(
            f"There are {hidden.shape[0]} rows of the student, {teacher_hidden.shape[0]} of the teacher and nodes of "
            f"shape {tuple(nodes.shape)}; expected one node for each pair of rows."
        )
    check_finite(teacher_hidden, teacher_head.weight)
    head = cut_head(head, continuations.num_tokens[0], "student")
    check_head(hidden, head)
    teacher_head = cut_head(teacher_head, continuations.num_tokens[1], "teacher")
    found = _PieceRows(continuations, nodes)
    with torch.no_grad():
        stream(found, [Side(teacher_hidden, teacher_head, trained=False)])
    scale = 1.0 / (num_items if num_items is not None else max(1, len(nodes)))
    loss: Tensor = _InForward.apply(hidden, head.weight, head.bias, head, nodes, found, continuations, block_bytes)
    return loss * scale


class _PieceRows:
    """The teacher's probabilities of the classes of each row's node, as the rows go by."""

    def __init__(self, continuations: Continuations, nodes: Tensor) -> None:
        self.trie, self.nodes = continuations, nodes
        self.at = torch.cumsum(continuations.classes_at[nodes + 1] - continuations.classes_at[nodes], 0)
        self.at = torch.cat([self.at.new_zeros(1), self.at])
        self.classes = torch.zeros(int(self.at[-1]), device=nodes.device)
        self.mass = torch.zeros(len(nodes), device=nodes.device)

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        p = torch.softmax(logits[0], -1)
        owner, place, _ = _members(self.trie.classes_at, self.nodes[rows])
        pieces = self.trie.pieces[place]
        ends = pieces == END
        values = p[owner, pieces.clamp(min=0)].masked_fill_(ends, 0)
        going_on = values.new_zeros(len(p)).index_add_(0, owner, values)
        values = torch.where(ends, (1 - going_on).clamp(min=0)[owner], values)
        self.classes[int(self.at[rows.start]) : int(self.at[rows.stop])] = values.to(self.classes.dtype)
        self.mass[rows] = going_on.new_zeros(len(p)).index_add_(0, owner, values).to(self.mass.dtype)
        return going_on[None]


class _InForward(torch.autograd.Function):
    """Sum over rows; the gradient is made in ``forward``."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        nodes: Tensor,
        teacher: _PieceRows,
        trie: Continuations,
        block_bytes: int,
    ) -> Tensor:
        exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        needs = ctx.needs_input_grad
        d_hidden = torch.zeros_like(hidden, dtype=exact) if needs[0] else None
        d_weight = torch.zeros_like(weight, dtype=exact) if needs[1] else None
        d_bias = torch.zeros_like(bias, dtype=exact) if bias is not None and needs[2] else None
        total = torch.zeros((), dtype=exact, device=hidden.device)
        sizes = trie.members_at[nodes + 1] - trie.members_at[nodes]
        for rows in _blocks(sizes, max(1, block_bytes // (weight.shape[1] * exact.itemsize))):
            owner, place, _ = _members(trie.members_at, nodes[rows])
            members = trie.members[place]
            x, w = hidden[rows].to(exact), weight[members].to(exact)
            z = (x[owner] * w).sum(-1)
            z, slope = _finish(z if bias is None else z + bias[members].to(exact), head)
            _, _, begins = _members(trie.classes_at, nodes[rows])
            classes = trie.member_classes[place] - trie.classes_at[nodes[rows]][owner] + begins[owner]
            value, dz = _row_losses(z, owner, classes, teacher, rows)
            total += value
            dz *= slope
            if d_hidden is not None:
                d_hidden[rows] = torch.zeros_like(x).index_add_(0, owner, dz[:, None] * w)
            if d_weight is not None:
                d_weight.index_add_(0, members, dz[:, None] * x[owner])
            if d_bias is not None:
                d_bias.index_add_(0, members, dz)
        ctx.save_for_backward(
            *(
                None if gradient is None or tensor is None else gradient.to(tensor.dtype)
                for gradient, tensor in ((d_hidden, hidden), (d_weight, weight), (d_bias, bias))
            )
        )
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (
            None if gradient is None else gradient * upstream.to(gradient.dtype) for gradient in ctx.saved_tensors
        )
        return (*scaled, None, None, None, None, None)


def _row_losses(z: Tensor, owner: Tensor, classes: Tensor, teacher: _PieceRows, rows: slice) -> tuple[Tensor, Tensor]:
    """The sum of the rows' losses and its gradient; ``classes`` are numbered over the block."""
    mass = teacher.mass[rows].to(z.dtype)
    p = teacher.classes[int(teacher.at[rows.start]) : int(teacher.at[rows.stop])].to(z.dtype)
    highest = z.new_full((len(mass),), -torch.inf).scatter_reduce_(0, owner, z, "amax")
    e = (z - highest[owner]).exp_()
    by_class = z.new_zeros(len(p)).index_add_(0, classes, e)
    by_row = z.new_zeros(len(mass)).index_add_(0, owner, e)
    # A class so unlikely that its sum is 0 still has a member that says how unlikely.
    least = torch.finfo(z.dtype).tiny
    class_owner = torch.zeros_like(p, dtype=torch.int64).scatter_(0, classes, owner)
    log_q = by_class.clamp(min=least).log() - by_row.log()[class_owner]
    log_p = p.clamp(min=least).log() - mass.clamp(min=least).log()[class_owner]
    value = (p * (log_p - log_q)).sum()
    gradient = mass[owner] * e / by_row[owner] - p[classes] * e / by_class.clamp(min=least)[classes]
    return value, gradient


def _finish(z: Tensor, head: Head) -> tuple[Tensor, Tensor | float]:
    """Scale and soft cap; the slope of both."""
    z = z * head.scale
    if head.softcap is None:
        return z, head.scale
    bounded = torch.tanh(z / head.softcap)
    return bounded * head.softcap, (1 - bounded.square()) * head.scale


def _members(at: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(E,) row and (E,) place of everything that belongs to the nodes, and (R,) where each row's part begins."""
    sizes = at[nodes + 1] - at[nodes]
    owner = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), sizes)
    begins = torch.cumsum(sizes, 0) - sizes
    return owner, torch.arange(len(owner), device=nodes.device) - begins[owner] + at[nodes][owner], begins


def _blocks(sizes: Tensor, most: int) -> list[slice]:
    """Runs of rows with at most so many members together; one row at least."""
    ends = torch.cumsum(sizes, 0).cpu().numpy()
    blocks, start = [], 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        blocks.append(slice(start, stop))
        start = stop
    return blocks


def _spread(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(E,) owner and number within the owner, for owners of so many entries."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner, np.arange(len(owner)) - (np.cumsum(sizes) - sizes)[owner]


def _ragged(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    at = np.concatenate([[0], np.cumsum([len(part) for part in lists])]).astype(np.int64)
    return at, np.array([value for part in lists for value in part], dtype=np.int64)
