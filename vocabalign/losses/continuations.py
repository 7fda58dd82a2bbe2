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

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import Document
from vocabalign.text.segmentation import ids_in_running_text, segment_many
from vocabalign.text.vocabulary import Vocabulary

__all__ = ["END", "Continuations"]

END = -1
"""In place of the teacher's token where the student's ends."""


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
                [n for size in range(1, len(cuts[i]) + 1) if (n := numbers.get(tuple(cuts[i][:size]))) is not None]
                if i in cuts
                else []
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

    @property
    def cut(self) -> np.ndarray:
        """(T,) int64 student ids that the teacher's pieces can write."""
        return np.flatnonzero(np.diff(self._cut_at))

    @property
    def first_pieces(self) -> np.ndarray:
        """(T,) int64 the first piece of each of ``cut``."""
        return self._cuts[self._cut_at[self.cut]]

    def below(self, node: int) -> tuple[np.ndarray, np.ndarray]:
        """(E,) int64 members of a node and (E,) the piece behind it of each, -1 where the member ends."""
        low, high = int(self.members_at[node]), int(self.members_at[node + 1])
        return self.members[low:high].cpu().numpy(), self.pieces[self.member_classes[low:high]].cpu().numpy()

    def nodes_of(self, tokens: np.ndarray, pieces: np.ndarray, groups: np.ndarray, begun: np.ndarray) -> np.ndarray:
        """The node before each piece of a text, where all pieces before it in its token are those of the cut.

        Args:
            tokens: (P,) int64 the student's token that each piece of the teacher begins in.
            pieces: (P,) int64 in the order of the text.
            groups: (P,) int64 which of the text's tokens that is; pieces of one token are neighbours.
            begun: (P,) int64 bytes of the token before the piece.

        Returns:
            (P,) int64, -1 for the first piece of a token and behind a piece that is not of the cut.
        """
        if not len(pieces):
            return np.zeros(0, dtype=np.int64)
        index = np.arange(len(pieces))
        first = np.append(True, groups[1:] != groups[:-1])
        begin = np.maximum.accumulate(np.where(first, index, 0))
        number = index - begin
        size = np.diff(self._cut_at)[tokens]
        fits = number < size
        fits[fits] &= self._cuts[(self._cut_at[tokens] + number)[fits]] == pieces[fits]
        fits &= ~first | (begun == 0)
        wrong = np.concatenate([[0], np.cumsum(~fits)])
        # Node k of a token is that behind its first k + 1 pieces; the last piece ends the token and has none.
        has = (number > 0) & (wrong[index] == wrong[begin]) & (number < size)
        result = np.full(len(pieces), -1, dtype=np.int64)
        result[has] = self._nodes[self._nodes_at[tokens[has]] + number[has] - 1]
        return result

    def __len__(self) -> int:
        """Inner nodes."""
        return len(self.members_at) - 1

    def rows(self, documents: Sequence[Document]) -> Tensor:
        """(R, 3) int64: row of the student at the start of a token, row of the teacher behind a piece of it, its node.

        Only tokens that the teacher cuts in this text as it does in running text take part; others are passed over.
        """
        parts = [self._rows(document) for document in documents]
        return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, 3), dtype=np.int64))

    def _rows(self, document: Document) -> np.ndarray:
        a = document.alignment
        sizes = (a.ct_end - a.ct_start).astype(np.int64)
        kept = np.flatnonzero((a.cs_end - a.cs_start == 1) & (a.cs_start > 0))
        at, starts, sizes = a.cs_start[kept].astype(np.int64), a.ct_start[kept].astype(np.int64), sizes[kept]
        tokens = np.asarray(document.student_ids)[at]
        same = self._cut_at[tokens + 1] - self._cut_at[tokens] == sizes
        at, starts, sizes, tokens = at[same], starts[same], sizes[same], tokens[same]
        owner, number = _spread(sizes)
        differs = (
            self._cuts[self._cut_at[tokens][owner] + number] != np.asarray(document.teacher_ids)[starts[owner] + number]
        )
        same = np.bincount(owner[differs], minlength=len(sizes)) == 0
        at, starts, tokens = at[same], starts[same], tokens[same]
        # After each piece, the last one too where longer tokens begin with these pieces: there it may end or not.
        owner, number = _spread(self._nodes_at[tokens + 1] - self._nodes_at[tokens])
        nodes = self._nodes[self._nodes_at[tokens][owner] + number]
        mine, theirs = at[owner] - 1 + document.student_at, starts[owner] + number + document.teacher_at
        return np.stack([mine, theirs, nodes], 1).astype(np.int64)


def _spread(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(E,) owner and number within the owner, for owners of so many entries."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner, np.arange(len(owner)) - (np.cumsum(sizes) - sizes)[owner]


def _ragged(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    at = np.concatenate([[0], np.cumsum([len(part) for part in lists])]).astype(np.int64)
    return at, np.array([value for part in lists for value in part], dtype=np.int64)
