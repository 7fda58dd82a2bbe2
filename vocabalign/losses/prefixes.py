"""Prefixes: what a teacher's next token says about a student's, wherever the student's token starts.

Of the student's tokens that a teacher's token could begin with, the one is taken that the student's tokenizer would
write: `` look`` may be `` l``, ``oo``, ``k`` although `` lo`` is a token too. The longest one, as published, is another
token at one start in forty between two vocabularies that were trained on the same text, and always the same ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import Document
from vocabalign.losses.classes import same_vocabulary, special_pairs
from vocabalign.losses.continuations import Continuations
from vocabalign.text.segmentation import ids_in_running_text
from vocabalign.text.spans import token_lengths
from vocabalign.text.vocabulary import Vocabulary

__all__ = ["PrefixMap", "PrefixRows", "prefix_rows"]


class PrefixMap:
    """From teacher tokens to the student token that each begins with.

    Args:
        student: whose tokens are wanted; V.
        teacher: whose tokens are given; Vt.

    Attributes:
        whole: (Vt,) int64 student id of each teacher token: the first that the student's tokenizer cuts it into, else
            the longest that its bytes begin with, -1 for none; special tokens by role. One vocabulary on both sides
            gives the identity.
        cuts: the teacher's tokens as a trie of the student's.
    """

    def __init__(self, student: Vocabulary, teacher: Vocabulary) -> None:
        self.num_tokens = (len(student), len(teacher))
        self.vocabularies = (student, teacher)
        self._ids: Mapping[bytes, int] = ids_in_running_text(student)
        self._longest = max(map(len, self._ids), default=0)
        # Teacher tokens in the order of their bytes: those that begin with a prefix are one range.
        known = sorted((token, i) for i, token in enumerate(teacher.token_bytes) if token)
        self._sorted = [token for token, _ in known]
        self._sorted_ids = np.array([i for _, i in known], dtype=np.int64)
        self._cache: dict[bytes | int, tuple[np.ndarray, np.ndarray]] = {}
        self.cuts = Continuations(teacher, student)
        self.whole = np.full(len(teacher), -1, dtype=np.int64)
        if same_vocabulary(student, teacher):
            self.whole = np.arange(len(teacher))
        else:
            self.whole[self._sorted_ids] = [self._longest_prefix(token) for token in self._sorted]
            self.whole[self.cuts.cut] = self.cuts.first_pieces
            for mine, theirs in special_pairs(student, teacher):
                self.whole[theirs] = mine

    def after(self, prefix: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Teacher tokens that begin with ``prefix``, and the student token that the rest of each begins with.

        Returns:
            (R,) teacher ids and (R,) student ids, -1 where nothing is left or no student token fits. Kept.
        """
        if prefix not in self._cache:
            low = bisect_left(self._sorted, prefix)
            top = prefix.rstrip(b"\xff")
            high = bisect_left(self._sorted, top[:-1] + bytes([top[-1] + 1])) if top else len(self._sorted)
            rest = [self._longest_prefix(token[len(prefix) :]) for token in self._sorted[low:high]]
            self._cache[prefix] = self._sorted_ids[low:high], np.array(rest, dtype=np.int64)
        return self._cache[prefix]

    def below(self, node: int) -> tuple[np.ndarray, np.ndarray]:
        """Teacher tokens that the student cuts into the pieces of a node of ``cuts`` and perhaps more.

        Returns:
            (R,) teacher ids and (R,) student ids of the piece behind the node, -1 where the token ends. Kept.
        """
        if node not in self._cache:
            self._cache[node] = self.cuts.below(node)
        return self._cache[node]

    def continuation(self, teacher_id: int, begun: int, node: int = -1) -> int:
        """The student token that a teacher token gives behind its first ``begun`` bytes, -1 for none.

        Args:
            teacher_id: the token.
            begun: bytes of it that were read.
            node: of ``cuts``, where the student read them as its tokenizer would cut the token, else -1.
        """
        if not begun:
            return int(self.whole[teacher_id])
        if node >= 0:
            ids, pieces = self.below(node)
            return int(pieces[np.flatnonzero(ids == teacher_id)[0]])
        return self._longest_prefix((self.vocabularies[1].token_bytes[teacher_id] or b"")[begun:])

    def _longest_prefix(self, token: bytes) -> int:
        for size in range(min(self._longest, len(token)), 0, -1):
            found = self._ids.get(token[:size])
            if found is not None:
                return found
        return -1


@dataclass(frozen=True)
class PrefixRows:
    """Places where a student token starts, and what the teacher knows there; P rows, aligned ones first.

    Attributes:
        pairs: (P, 2) int64 rows of student and teacher. The teacher's is the last whose text is inside the student's.
        prefix: (P,) int64: -1 where the teacher's next token starts at the same byte, else the number of the prefix
            by which it has begun already.
        offsets: (U + 1,) int64: the candidates of prefix u are ``offsets[u]:offsets[u + 1]`` of the two below.
        candidates: (R,) int64 teacher ids that begin with the prefix, where possible cut there by the student.
        continuations: (R,) int64 student ids of what is left of each, -1 for none.
        observed: (P,) int64 the teacher's next token.
        moved_to: (P,) int64 the student's next token where it spans several whole teacher tokens, else -1.
        moved_from: (P,) int64 the student token that the teacher's next token gives by itself, -1 for none; where
            ``moved_to`` is.
        rest: (M,) int64 teacher rows that predict the second and later tokens of such spans.
        rest_labels: (M,) int64 these tokens.
        rest_owner: (M,) int64 which of the P rows each belongs to.
    """

    pairs: Tensor
    prefix: Tensor
    offsets: Tensor
    candidates: Tensor
    continuations: Tensor
    observed: Tensor
    moved_to: Tensor
    moved_from: Tensor
    rest: Tensor
    rest_labels: Tensor
    rest_owner: Tensor


def prefix_rows(documents: Sequence[Document], prefixes: PrefixMap) -> PrefixRows:
    """All starts of student tokens in a batch that a teacher token covers or meets.

    Args:
        documents: aligned.
        prefixes: of the two vocabularies.
    """
    parts = [_document_rows(document, prefixes) for document in documents] or [_empty()]
    mine, theirs, u, token, node, moved = (np.concatenate([p[i] for p in parts]) for i in range(6))
    order = np.argsort(u > 0, kind="stable")
    place = np.argsort(order)
    begins = np.cumsum([0, *(len(p[0]) for p in parts)])
    owner = place[np.concatenate([p[8] + begin for p, begin in zip(parts, begins)]).astype(np.int64)]
    inside = u > 0
    # Where the student read the token as its tokenizer cuts it, the node of the trie says it all.
    known = np.where(node[inside] >= 0, -1, token[inside])
    keys, number = np.unique(np.stack([node[inside], known, u[inside] * (known >= 0)], 1), axis=0, return_inverse=True)
    table = prefixes.vocabularies[1].token_bytes
    names: list[bytes | int] = [n if n >= 0 else (table[t] or b"")[:size] for n, t, size in keys.tolist()]
    distinct = {name: index for index, name in enumerate(dict.fromkeys(names))}
    prefix = np.full(len(u), -1, dtype=np.int64)
    prefix[inside] = np.array([distinct[name] for name in names], dtype=np.int64)[number.reshape(-1)]
    found = [prefixes.after(name) if isinstance(name, bytes) else prefixes.below(name) for name in distinct]
    origin = np.full(len(u), -1, dtype=np.int64)
    for at in np.flatnonzero(moved >= 0).tolist():
        origin[at] = prefixes.continuation(int(token[at]), int(u[at]), int(node[at]))
    arrays = (
        np.stack([mine, theirs], 1)[order],
        prefix[order],
        np.cumsum([0, *(len(ids) for ids, _ in found)]),
        np.concatenate([np.zeros(0, np.int64), *(ids for ids, _ in found)]),
        np.concatenate([np.zeros(0, np.int64), *(ids for _, ids in found)]),
        token[order],
        moved[order],
        origin[order],
        np.concatenate([p[6] for p in parts]),
        np.concatenate([p[7] for p in parts]),
        owner,
    )
    return PrefixRows(*(torch.from_numpy(np.ascontiguousarray(a, dtype=np.int64)) for a in arrays))


def _empty() -> list[np.ndarray]:
    return [np.zeros(0, dtype=np.int64)] * 9


def _document_rows(document: Document, prefixes: PrefixMap) -> list[np.ndarray]:
    """Rows of both sides, bytes inside the teacher token, that token, node, moved to; rest rows, labels, owners."""
    ids = [np.asarray(side, dtype=np.int64) for side in (document.student_ids, document.teacher_ids)]
    (mine, begins, ends), (theirs, teacher_begins, teacher_ends) = _placed_tokens(document, ids, prefixes)
    # The teacher's token that covers the first byte of each of the student's.
    at = np.searchsorted(teacher_begins, begins, side="right") - 1
    inside, cover = begins - teacher_begins[at], theirs[at]
    last = np.searchsorted(teacher_ends, ends)
    together = np.append(teacher_ends, -1)[last] == ends
    within = np.flatnonzero((inside > 0) & (mine > 0) & (cover > 0))
    nodes = prefixes.cuts.nodes_of(ids[1][cover], ids[0][mine], at, inside)
    pairs = document.start_pairs
    further = np.zeros(len(ids[0]) + 1, dtype=np.int64)
    further[mine] = np.where(together, last - at, 0)
    rows = [np.concatenate([pairs[:, 1], mine[within] - 1]), np.concatenate([pairs[:, 2], cover[within] - 1])]
    more = further[rows[0] + 1]
    owner = np.repeat(np.arange(len(more)), more)
    rest = rows[1][owner] + 1 + np.arange(len(owner)) - np.repeat(np.cumsum(more) - more, more)
    token = ids[1][rows[1] + 1]
    return [
        rows[0] + document.student_at,
        rows[1] + document.teacher_at,
        np.concatenate([np.zeros(len(pairs), dtype=np.int64), inside[within]]),
        token,
        np.concatenate([np.full(len(pairs), -1, dtype=np.int64), nodes[within]]),
        np.where(more > 0, ids[0][rows[0] + 1], -1),
        rest + document.teacher_at,
        ids[1][rest + 1],
        owner,
    ]


def _placed_tokens(document: Document, ids: list[np.ndarray], prefixes: PrefixMap) -> list[tuple[np.ndarray, ...]]:
    """For both sides the tokens in chunks of the same bytes, and where they begin and end.

    Chunks that are not as long on both sides (a dummy prefix, text that a normalizer changed) are left out.
    """
    a = document.alignment
    bounds = ((a.cs_start, a.cs_end), (a.ct_start, a.ct_end))
    lengths = [token_lengths(v)[side].astype(np.int64) for v, side in zip(prefixes.vocabularies, ids)]
    totals = [np.concatenate([[0], np.cumsum(side)]) for side in lengths]
    sizes = [total[end] - total[start] for total, (start, end) in zip(totals, bounds)]
    exact = (sizes[0] == sizes[1]) & (sizes[0] > 0)
    base = np.cumsum(sizes[0] * exact) - sizes[0]
    result: list[tuple[np.ndarray, ...]] = []
    for (start, end), total, length in zip(bounds, totals, lengths):
        first, count = start[exact].astype(np.int64), (end - start)[exact].astype(np.int64)
        token = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(count.sum())
        begin = total[token] + np.repeat(base[exact] - total[first], count)
        result.append((token, begin, begin + length[token]))
    return result
