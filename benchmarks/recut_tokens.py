"""Tokens cut into other tokens of the same vocabulary: sequences of which it is known what they became."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from vocabalign.text.segmentation import ids_in_running_text
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.rows import Pieces


def recut(vocabulary: Vocabulary, num_rows: int) -> tuple[np.ndarray, Pieces]:
    """Every token that text is given, of two bytes or more, in the fewest other tokens, longer ones first.

    These are nearly always two; of half the tokens, by hash, the pieces are cut once more where they can be, as new
    target tokens have more pieces too.

    Returns:
        (N,) ids, and the pieces of each: at least two, whose joined bytes are the token's.
    """
    ids = {token: i for token, i in ids_in_running_text(vocabulary).items() if i < num_rows}
    found = {i: cut for token, i in sorted(ids.items()) if (cut := cut_by_others(token, ids))}
    names = {i: token for token, i in ids.items()}
    for i, cut in found.items():
        if _hash(names[i])[1] % 2:
            found[i] = [part for piece in cut for part in cut_by_others(names[piece], ids) or [piece]]
    return np.array(list(found), np.int64), Pieces.from_lists(list(found.values()))


def cut_by_others(token: bytes, ids: dict[bytes, int]) -> list[int]:
    """The fewest tokens that together are these bytes, none of which is all of them; [] where there are none."""
    size = len(token)
    best: list[list[int] | None] = [None] * size + [[]]
    for start in range(size - 1, -1, -1):
        for end in range(size if start else size - 1, start, -1):
            rest = best[end]
            piece = ids.get(token[start:end])
            shorter = rest is not None and (best[start] is None or len(rest) + 1 < len(best[start] or []))
            if piece is not None and rest is not None and shorter:
                best[start] = [piece, *rest]
    return best[0] or []


def is_held_out(token: bytes) -> bool:
    """A third of all tokens, by hash."""
    return _hash(token)[0] % 3 == 0


def _hash(token: bytes) -> bytes:
    return blake2b(token, digest_size=4).digest()
