"""How a string is cut at the start of a text, behind a space, behind a letter; and where words end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from vocabalign.text.segmentation import segment_many
from vocabalign.text.vocabulary import Vocabulary

CONTEXTS: Mapping[str, str] = MappingProxyType({"start": "", "space": " ", "letter": "a", "digit": "1", "line": "\n"})


def segment_in_context(vocabulary: Vocabulary, tokens: Sequence[bytes], context: str) -> list[list[int] | None]:
    """Cut byte strings as they are cut right behind a given neighbour.

    Args:
        vocabulary: its tokens.
        tokens: byte strings; those that are not whole characters are cut as ``segment_many`` does.
        context: a key of ``CONTEXTS``.

    Returns:
        For each string its ids; at the start the first of them may hold a dummy prefix. None where the string is not
        cut off from its neighbour (``a`` and ``ing`` are one token), or does not come back byte for byte.

    Raises:
        KeyError: the context is unknown.
    """
    before = CONTEXTS[context].encode()
    results: list[list[int] | None] = [None] * len(tokens)
    texts: dict[int, str] = {}
    for index, token in enumerate(tokens):
        try:
            texts[index] = CONTEXTS[context] + token.decode()
        except UnicodeDecodeError:
            continue
    encoded = vocabulary.encode_batch(list(texts.values())) if texts else []
    for index, ids in zip(texts, encoded, strict=True):
        results[index] = _behind(vocabulary, ids, before, tokens[index])
    broken = [index for index in range(len(tokens)) if index not in texts]
    for index, cut in zip(broken, segment_many(vocabulary, [tokens[i] for i in broken]), strict=True):
        results[index] = cut or None
    return results


def _behind(vocabulary: Vocabulary, ids: Sequence[int], before: bytes, token: bytes) -> list[int] | None:
    pieces = [vocabulary.token_bytes[i] for i in ids]
    if any(piece is None for piece in pieces):
        return None
    joined = b"".join(piece or b"" for piece in pieces)
    if joined == before + token:
        start = len(before)
    elif vocabulary.dummy_prefix and joined == b" " + before + token:
        # At the start of a text the prefix belongs to the string's own first token.
        start = len(before) + 1 if before else 0
    else:
        return None
    ends = np.cumsum([0, *(len(piece or b"") for piece in pieces)])
    at = np.flatnonzero(ends == start)
    return list(ids[int(at[-1]) if before else 0 :]) if len(at) else None


def word_ends(vocabulary: Vocabulary, text: str) -> np.ndarray | None:
    """(W,) int64, the bytes at which the pre-tokenizer cuts a text; tokens never reach across them.

    None where the normalizer changes the text; one end, that of the text, without a pre-tokenizer.
    """
    backend = getattr(vocabulary.tokenizer, "backend_tokenizer", None)
    components = vocabulary.components
    if backend is None or components is None:
        return None
    size = len(text.encode())
    if backend.normalizer is not None and components.normalizer and backend.normalizer.normalize_str(text) != text:
        return None
    if backend.pre_tokenizer is None or not text:
        return np.array([size] if size else [], dtype=np.int64)
    bytes_before = np.concatenate([[0], np.cumsum([len(character.encode()) for character in text], dtype=np.int64)])
    stops = [stop for _, (_, stop) in backend.pre_tokenizer.pre_tokenize_str(text)]
    ends = np.unique(bytes_before[np.array([*stops, len(text)], dtype=np.int64)])
    return ends[ends > 0]
