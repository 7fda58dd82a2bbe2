"""Two lists of token ends in one text, and where they meet: linear in tokens and bytes (NumPy throughout)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vocabalign.text.roles import SPECIAL


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
