"""Two tokenisations of one text, lined up at the bytes where tokens of both end.

Distillation across tokenizers needs two things of a text that a student S and a teacher T have cut: *chunks*, the
smallest runs of tokens that are the same bytes on both sides, and *start pairs*, the places where both have read
exactly the same and predict what comes next. Special tokens have no bytes; they meet by role, and a chunk never
reaches across one. Everything is counted or taken from sorted arrays in linear time; what does not line up is
refused and counted, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vocabalign.text.roles import SPECIAL, role_bit, role_masks
from vocabalign.text.spans import token_lengths, verified_ends
from vocabalign.text.vocabulary import Vocabulary

__all__ = ["Alignment", "AlignmentTally", "Cut", "align_cuts", "align_tokens", "cut_of"]


@dataclass(frozen=True)
class Cut:
    """One tokenisation of a text; L tokens.

    Attributes:
        ends: (L,) integers, never decreasing: the byte at which each token ends; a special token ends where it stands.
        masks: (L,) uint32, 0 for tokens of text, else ``roles.SPECIAL`` and the bits of the roles; None where all
            tokens are text.
    """

    ends: np.ndarray
    masks: np.ndarray | None = None


@dataclass(frozen=True)
class Alignment:
    """What two cuts S and T of one text have in common; C chunks, P start pairs, all int32.

    Chunk c is the tokens ``cs_start[c]:cs_end[c]`` of S and ``ct_start[c]:ct_end[c]`` of T, the same bytes on both
    sides. Between two chunks only special tokens without a counterpart lie. A pair of special tokens with the same
    role is a chunk of no bytes.

    Attributes:
        cs_start: (C,) first token of S.
        cs_end: (C,) one behind the last token of S.
        ct_start: (C,) the same for T.
        ct_end: (C,) the same for T.
        byte_end: (C,) the byte at which the chunk ends on both sides.
        start_pairs: (P, 3): a byte at which tokens of both sides start, and the index of the token before it on S and
            on T, whose outputs predict what comes next.
        num_bytes: the last common end, where both sides are cut off.
        truncated: tokens behind it, on S and on T.
        refused: (chunks, bytes) given up because a special token without a counterpart lies inside them.
        unmatched_specials: special tokens without a counterpart before the last common end, on S and on T.
    """

    cs_start: np.ndarray
    cs_end: np.ndarray
    ct_start: np.ndarray
    ct_end: np.ndarray
    byte_end: np.ndarray
    start_pairs: np.ndarray
    num_bytes: int
    truncated: tuple[int, int]
    refused: tuple[int, int]
    unmatched_specials: tuple[int, int]

    def __len__(self) -> int:
        """Chunks."""
        return len(self.byte_end)


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
    tokens_truncated: int = field(default=0)

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


def align_cuts(s: Cut, t: Cut) -> Alignment:
    """Line up two cuts of the same text; linear time in tokens and bytes.

    Tokens of text that have no bytes (a dummy prefix that was taken away) go with the chunk before them; at the
    beginning and behind a special token with the one after them; between two special tokens with none.

    Args:
        s: the student's cut.
        t: the teacher's cut; of the same bytes, or of a beginning or continuation of them.

    Raises:
        ValueError: the ends decrease, or the masks have another shape.
    """
    for cut in (s, t):
        _check(cut)
    tops = [int(cut.ends[-1]) if len(cut.ends) else 0 for cut in (s, t)]
    s_stops, t_stops = _common_stops(s, t, min(tops))
    chunks = [*_text_chunks(s, s_stops), *_text_chunks(t, t_stops), s.ends[s_stops - 1]]
    inside = [_specials_between(cut, chunks[2 * side], chunks[2 * side + 1]) for side, cut in enumerate((s, t))]
    crossing = (inside[0] + inside[1]) > 0
    if s.masks is not None and t.masks is not None:
        pairs = _matching_specials(s, t)
        if len(pairs):
            chunks, crossing = _insert(chunks, crossing, pairs, s.ends)
    cs_start, cs_end, ct_start, ct_end, byte_end = chunks
    starts = _start_pairs(cs_start, cs_end, ct_start, ct_end, byte_end)
    sizes = np.diff(byte_end, prepend=0)
    last = int(byte_end[-1]) if len(byte_end) else 0
    used = [int(stop[-1]) if len(stop) else 0 for stop in (cs_end, ct_end)]
    specials = [_num_specials(cut, until) for cut, until in zip((s, t), used, strict=True)]
    matched = int((sizes == 0).sum())
    kept = [np.ascontiguousarray(part[~crossing], dtype=np.int32) for part in chunks]
    return Alignment(
        cs_start=kept[0],
        cs_end=kept[1],
        ct_start=kept[2],
        ct_end=kept[3],
        byte_end=kept[4],
        start_pairs=starts,
        num_bytes=last,
        truncated=(len(s.ends) - used[0], len(t.ends) - used[1]),
        refused=(int(crossing.sum()), int(sizes[crossing].sum())),
        unmatched_specials=(specials[0] - matched, specials[1] - matched),
    )


def _check(cut: Cut) -> None:
    if len(cut.ends) and (cut.ends[0] < 0 or (cut.ends[1:] < cut.ends[:-1]).any()):
        raise ValueError("The ends of the tokens decrease; expected byte offsets in the order of the text.")
    if cut.masks is not None and cut.masks.shape != cut.ends.shape:
        raise ValueError(f"Masks of shape {cut.masks.shape} for {len(cut.ends)} tokens; expected one for each token.")


def _common_stops(s: Cut, t: Cut, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """For each common end > 0 one behind the last token of text of the chunk that ends there, on both sides."""
    last = [_is_last(cut) for cut in (s, t)]
    marks = np.zeros((2, limit + 1), dtype=bool)
    stops = []
    candidates = []
    for side, (cut, is_last) in enumerate(zip((s, t), last, strict=True)):
        at = np.flatnonzero(is_last & (cut.ends <= limit) & (cut.ends > 0))
        candidates.append(at)
        marks[side, cut.ends[at]] = True
    for cut, at in zip((s, t), candidates, strict=True):
        ends = cut.ends[at]
        stops.append(at[marks[0, ends] & marks[1, ends]] + 1)
    return stops[0], stops[1]


def _is_last(cut: Cut) -> np.ndarray:
    """(L,) bool: the last token of text that ends at its byte before any special token there."""
    if cut.masks is None:
        return np.concatenate([cut.ends[1:] != cut.ends[:-1], np.ones(min(1, len(cut.ends)), bool)])
    ordinary = np.flatnonzero(cut.masks == 0)
    result = np.zeros(len(cut.ends), dtype=bool)
    if len(ordinary):
        ends = cut.ends[ordinary]
        # A token of no bytes behind a special one begins what follows.
        opens = np.zeros(len(ordinary), dtype=bool)
        opens[1:] = (ends[1:] == ends[:-1]) & (np.diff(ordinary) > 1)
        opens = _carry(opens, ends)
        key = 2 * ends + opens
        is_last = np.concatenate([key[1:] != key[:-1], [True]]) & ~opens
        result[ordinary[is_last]] = True
    return result


def _carry(flags: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """A flag holds for all later tokens with the same end."""
    counts = np.cumsum(flags)
    first = np.concatenate([[True], ends[1:] != ends[:-1]])
    before = np.maximum.accumulate(np.where(first, counts - flags, 0))
    return counts > before


def _text_chunks(cut: Cut, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First token and one behind the last of each chunk of text: special tokens around it are left out."""
    starts = np.concatenate([np.zeros(min(1, len(stops)), dtype=np.int64), stops[:-1]])
    if cut.masks is None or not len(stops):
        return starts, stops
    bytes_before = np.concatenate([[0], cut.ends[stops[:-1] - 1]])
    opening = np.searchsorted(cut.ends, bytes_before, side="right")
    behind_special = np.maximum.accumulate(np.where(cut.masks != 0, np.arange(1, len(cut.masks) + 1), 0))
    return np.maximum(starts, np.concatenate([[0], behind_special])[opening]), stops


def _specials_between(cut: Cut, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    if cut.masks is None:
        return np.zeros(len(starts), dtype=np.int64)
    counts = np.concatenate([[0], np.cumsum(cut.masks != 0)])
    return counts[stops] - counts[starts]


def _num_specials(cut: Cut, until: int) -> int:
    return 0 if cut.masks is None else int(np.count_nonzero(cut.masks[:until]))


def _matching_specials(s: Cut, t: Cut) -> np.ndarray:
    """(M, 2) indices of special tokens that stand at the same byte and share a role.

    Those without a possible partner at that byte are left out; of the others the first meets the first as long as
    their roles agree. That is the same from both sides; an order that contradicts the other side's is not guessed at.
    """
    places = []
    for cut in (s, t):
        assert cut.masks is not None
        at = np.flatnonzero(cut.masks > SPECIAL)
        places.append((at, cut.ends[at], cut.masks[at] & ~np.uint32(SPECIAL)))
    (s_at, s_ends, s_masks), (t_at, t_ends, t_masks) = places
    pairs: list[tuple[int, int]] = []
    for end in np.intersect1d(s_ends, t_ends):
        mine, theirs = (slice(*np.searchsorted(ends, [end, end + 1])) for ends in (s_ends, t_ends))
        all_mine, all_theirs = (np.bitwise_or.reduce(m) for m in (s_masks[mine], t_masks[theirs]))
        first = [(i, m) for i, m in zip(s_at[mine], s_masks[mine], strict=True) if m & all_theirs]
        second = [(i, m) for i, m in zip(t_at[theirs], t_masks[theirs], strict=True) if m & all_mine]
        for (i, a), (j, b) in zip(first, second, strict=False):
            if not a & b:
                break
            pairs.append((int(i), int(j)))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _insert(
    chunks: list[np.ndarray], crossing: np.ndarray, pairs: np.ndarray, s_ends: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Put pairs of special tokens between the chunks of text, in the order of both sides."""
    s, t = pairs[:, 0], pairs[:, 1]
    order = np.argsort(np.concatenate([chunks[0], s]), kind="stable")
    parts = (s, s + 1, t, t + 1, s_ends[s])
    merged = [np.concatenate([chunk, part])[order] for chunk, part in zip(chunks, parts, strict=True)]
    return merged, np.concatenate([crossing, np.zeros(len(s), dtype=bool)])[order]


def _start_pairs(
    cs_start: np.ndarray, cs_end: np.ndarray, ct_start: np.ndarray, ct_end: np.ndarray, byte_end: np.ndarray
) -> np.ndarray:
    """(P, 3): at the start of a chunk both sides have read the same, unless a token without a counterpart is between.

    The first chunk needs a token before it on both sides.
    """
    if not len(byte_end):
        return np.zeros((0, 3), dtype=np.int32)
    valid = np.empty(len(byte_end), dtype=bool)
    valid[0] = cs_start[0] > 0 and ct_start[0] > 0
    valid[1:] = (cs_start[1:] == cs_end[:-1]) & (ct_start[1:] == ct_end[:-1])
    at = np.concatenate([[0], byte_end[:-1]])
    return np.stack([at[valid], cs_start[valid] - 1, ct_start[valid] - 1], axis=1).astype(np.int32)
