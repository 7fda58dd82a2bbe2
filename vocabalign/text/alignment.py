"""Two tokenisations of one text, lined up at the bytes where tokens of both end.

Distillation across tokenizers needs two things of a text that a student S and a teacher T have cut: *chunks*, the
smallest runs of tokens that are the same bytes on both sides, and *start pairs*, the places where both have read
exactly the same and predict what comes next. Special tokens have no bytes; they meet by role, and a chunk never
reaches across one. Everything is counted or taken from sorted arrays in linear time; what does not line up is
refused and counted, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vocabalign.text.cuts import Alignment, Cut, align_cuts
from vocabalign.text.roles import role_bit, role_masks
from vocabalign.text.spans import token_lengths, verified_ends
from vocabalign.text.vocabulary import Vocabulary

__all__ = ["Alignment", "AlignmentTally", "Cut", "align_cuts", "align_tokens", "cut_of"]


@dataclass
class AlignmentTally:
    """What was aligned and what was not, over many texts.

    Attributes:
        texts: texts that were aligned.
        texts_refused: texts that are not the same bytes on both sides.
        num_bytes: aligned bytes.
        bytes_refused: bytes of chunks that were given up.
        tokens_truncated: tokens behind the last common end, both sides together.
    """

    texts: int = 0
    texts_refused: int = 0
    num_bytes: int = 0
    bytes_refused: int = 0
    tokens_truncated: int = 0

    def add(self, alignment: Alignment | None) -> None:
        """Count one result; None for a text that was refused."""
        if alignment is None:
            self.texts_refused += 1
            return
        self.texts += 1
        self.num_bytes += alignment.num_bytes - alignment.refused[1]
        self.bytes_refused += alignment.refused[1]
        self.tokens_truncated += sum(alignment.truncated)


def align_tokens(
    student: Vocabulary,
    student_ids: Sequence[int] | np.ndarray,
    teacher: Vocabulary,
    teacher_ids: Sequence[int] | np.ndarray,
    text: str | bytes | None = None,
) -> Alignment | None:
    """Align two tokenisations of one text, special tokens included.

    Args:
        student: vocabulary of side S.
        student_ids: its tokens.
        teacher: vocabulary of side T.
        teacher_ids: its tokens.
        text: what both were made from. With it, text that a normalizer changed is lined up where that can be told;
            without it, the bytes of the shorter side must be the beginning of the longer one.

    Returns:
        The alignment, or None where the two sides are not the same text.
    """
    if text is not None:
        raw = text.encode() if isinstance(text, str) else text
        cuts = [cut_of(v, ids, raw) for v, ids in ((student, student_ids), (teacher, teacher_ids))]
        return None if cuts[0] is None or cuts[1] is None else align_cuts(cuts[0], cuts[1])
    s, t = (_read(v, np.asarray(ids, dtype=np.int64)) for v, ids in ((student, student_ids), (teacher, teacher_ids)))
    if s is None or t is None:
        return None
    (s_cut, s_bytes, s_prefixes), (t_cut, t_bytes, t_prefixes) = s, t
    # With both dummy prefixes taken away or with neither the chunks are the same; away is how text is counted.
    for first, second in sorted(((a, b) for a in s_prefixes for b in t_prefixes), key=sum, reverse=True):
        s_text, t_text = s_bytes[first:], t_bytes[second:]
        if s_text.startswith(t_text) or t_text.startswith(s_text):
            return align_cuts(_without_prefix(s_cut, first), _without_prefix(t_cut, second))
    return None


def cut_of(vocabulary: Vocabulary, ids: Sequence[int] | np.ndarray, text: str | bytes) -> Cut | None:
    """The cut of a text by one tokenizer, special tokens included; None unless the tokens are the text.

    Args:
        vocabulary: whose ids these are.
        ids: L tokens; special ones among them stand for nothing in the text.
        text: what was encoded, without the special tokens.
    """
    ids = np.asarray(ids, dtype=np.int64)
    masks = role_masks(vocabulary)[ids]
    if not masks.any():
        ends = verified_ends(vocabulary, ids.tolist(), text)
        return None if ends is None else Cut(ends)
    ordinary = masks == 0
    ends = verified_ends(vocabulary, ids[ordinary].tolist(), text)
    if ends is None:
        return None
    # A special token ends where the token of text before it ends.
    return Cut(np.concatenate([[0], ends])[np.cumsum(ordinary)], masks)


def _read(vocabulary: Vocabulary, ids: np.ndarray) -> tuple[Cut, bytes, tuple[int, ...]] | None:
    """The cut by the bytes of the tokens alone, these bytes, and how many of them may be a dummy prefix.

    None where a token stands for text that the vocabulary lacks.
    """
    masks = role_masks(vocabulary)[ids]
    if (masks & role_bit("unk")).any():
        return None
    table = vocabulary.token_bytes
    joined = b"".join([table[i] or b"" for i in ids.tolist()])
    cut = Cut(np.cumsum(token_lengths(vocabulary)[ids], dtype=np.int64), masks if masks.any() else None)
    return cut, joined, (0, 1) if vocabulary.dummy_prefix and joined[:1] == b" " else (0,)


def _without_prefix(cut: Cut, num_bytes: int) -> Cut:
    return Cut(np.maximum(cut.ends - num_bytes, 0), cut.masks) if num_bytes else cut
