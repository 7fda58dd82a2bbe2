"""Where tokens end in a text that the tokenizer's normalizer changed before it cut it.

The tokenizers library says which characters of the original each token came from. That is believed only where it can
be checked: normalizing the part of the text between two ends must give exactly the bytes of the tokens between them.
Parts that do not are joined with the next ones; a text whose rest does not fit is refused. Reference: the offsets of
byte tokens overlap, and trimmed ones leave white space out, so an end alone proves nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import numpy as np

from vocabalign.text.normalization import normalized
from vocabalign.text.vocabulary import Vocabulary

# Longer parts would make the joining quadratic, and mean that nothing fits.
_LONGEST = 64
_SPACE = re.compile(b"|".join(re.escape(c.encode()) for c in map(chr, range(sys.maxunicode + 1)) if c.isspace()))


def original_ends(vocabulary: Vocabulary, ids: Sequence[int], text: str) -> np.ndarray | None:
    """(L,) int64, the byte of the original text at which each token ends; None where that cannot be established.

    Tokens that share a character of the original all end at its end.

    Args:
        vocabulary: with a tokenizer of the tokenizers library behind it.
        ids: L tokens of the whole text, none of them special.
        text: as it was before the normalizer.
    """
    backend = getattr(vocabulary.tokenizer, "backend_tokenizer", None)
    if backend is None or backend.normalizer is None or not ids:
        return None
    encoding = backend.encode(text, add_special_tokens=False)
    if encoding.ids != list(ids):
        return None
    bytes_before = np.concatenate([[0], np.cumsum([len(character.encode()) for character in text], dtype=np.int64)])
    stops = np.maximum.accumulate(np.array([stop for _, stop in encoding.offsets], dtype=np.int64))
    starts = np.array([start for start, _ in encoding.offsets], dtype=np.int64)
    # A token ends inside a character where the next one begins before that end: both belong to one part.
    closed = np.append(starts[1:] >= stops[:-1], True)
    stops[-1] = len(text)
    result = stops.copy()
    table, part, begin, first = vocabulary.token_bytes, b"", 0, 0
    for index, token_id in enumerate(ids):
        part += table[token_id] or b""
        if not closed[index]:
            continue
        # A mark that joined its letter is between the end of the one token and the start of the next.
        following = int(starts[index + 1]) if index + 1 < len(ids) else len(text)
        for end in dict.fromkeys((int(stops[index]), following)):
            if _fits(vocabulary, text[begin:end], part, opening=begin == 0):
                result[first : index + 1] = end
                part, begin, first = b"", end, index + 1
                break
        if index - first > _LONGEST:
            return None
    return bytes_before[result] if first == len(ids) else None


def _fits(vocabulary: Vocabulary, original: str, part: bytes, *, opening: bool) -> bool:
    """Whether normalizing a part of the text gives these bytes, white space that was dropped and prefixes apart."""
    expected = normalized(vocabulary, original).encode()
    if expected == part or (opening and vocabulary.dummy_prefix and part == b" " + expected):
        return True
    # The normalizer puts its dummy prefix before any part; only the first one has it in the text.
    if vocabulary.dummy_prefix and not opening and expected == b" " + part:
        return True
    drops_spaces = vocabulary.components is not None and vocabulary.components.kind in ("wordpiece", "plain")
    return drops_spaces and _SPACE.sub(b"", expected) == part
