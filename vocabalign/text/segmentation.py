"""How a tokenizer cuts a given string of bytes when it stands inside running text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from vocabalign.text.vocabulary import Vocabulary

# What to put before a token so that it is cut as inside text and not as at its beginning, where SentencePiece
# adds a space. The neighbour must not merge with the token: letters are set off by a line end or punctuation,
# everything else by a letter. Tried in this order until the cut falls exactly behind the neighbour.
_BEFORE_WORDS = ("\n", "-", ",", "(", "")
_BEFORE_OTHERS = ("a", "\n", "1", "")
_LONGEST = 256

_tables: WeakKeyDictionary[Vocabulary, tuple[dict[bytes, int], int]] = WeakKeyDictionary()


def segment_bytes(vocabulary: Vocabulary, token: bytes) -> list[int]:
    """Cut one byte string; see ``segment_many``, which is much faster for many."""
    return segment_many(vocabulary, [token])[0]


def segment_many(vocabulary: Vocabulary, tokens: Sequence[bytes]) -> list[list[int]]:
    """Cut byte strings as the tokenizer would in running text.

    Strings that are not whole characters, or that the tokenizer would change, are cut into the fewest tokens
    of the vocabulary.

    Returns:
        For each string ids whose joined bytes are exactly the string, or [] where the vocabulary cannot
        write it.
    """
    results: list[list[int] | None] = [None] * len(tokens)
    waiting: list[tuple[int, str, tuple[str, ...]]] = []
    for index, token in enumerate(tokens):
        if not token:
            results[index] = []
            continue
        try:
            text = token.decode()
        except UnicodeDecodeError:
            continue
        waiting.append((index, text, _BEFORE_WORDS if text[0].isalnum() else _BEFORE_OTHERS))
    attempt = 0
    while waiting:
        waiting = [item for item in waiting if attempt < len(item[2])]
        batch = [prefixes[attempt] + text for _, text, prefixes in waiting]
        encoded = vocabulary.encode_batch(batch) if batch else []
        left = []
        for (index, text, prefixes), ids in zip(waiting, encoded, strict=True):
            results[index] = _behind(vocabulary, ids, prefixes[attempt].encode(), tokens[index])
            if results[index] is None:
                left.append((index, text, prefixes))
        waiting, attempt = left, attempt + 1
    return [
        _fewest(vocabulary, token) if result is None else result for token, result in zip(tokens, results, strict=True)
    ]


def _behind(vocabulary: Vocabulary, ids: list[int], prefix: bytes, token: bytes) -> list[int] | None:
    """The ids behind the prefix, if the cut falls there and they are the token byte for byte."""
    table = vocabulary.token_bytes
    pieces = [table[i] for i in ids]
    if None in pieces:
        return None
    joined = b"".join(pieces)  # type: ignore[arg-type]
    start = len(joined) - len(token)
    if start < 0 or joined[start:] != token or joined[:start] not in (prefix, b" " + prefix):
        return None
    position = 0
    for number, piece in enumerate(pieces):
        if position == start:
            return ids[number:]
        position += len(piece)  # type: ignore[arg-type]
    return None


def _fewest(vocabulary: Vocabulary, token: bytes) -> list[int]:
    """The fewest tokens that together are these bytes, longer ones first; [] where there are none."""
    ids, longest = _table(vocabulary)
    size = len(token)
    # best[i] = (tokens needed for the bytes from i on, bytes of the first of them)
    best: list[tuple[int, int] | None] = [None] * size + [(0, 0)]
    for start in range(size - 1, -1, -1):
        for length in range(min(longest, size - start), 0, -1):
            rest = best[start + length]
            if rest is None or token[start : start + length] not in ids:
                continue
            current = best[start]
            if current is None or rest[0] + 1 < current[0]:
                best[start] = (rest[0] + 1, length)
    pieces, position = [], 0
    while position < size:
        step = best[position]
        if step is None:
            return []
        pieces.append(ids[token[position : position + step[1]]])
        position += step[1]
    return pieces


def _table(vocabulary: Vocabulary) -> tuple[dict[bytes, int], int]:
    if vocabulary not in _tables:
        ids = ids_in_running_text(vocabulary)
        _tables[vocabulary] = ids, min(_LONGEST, max(map(len, ids), default=0))
    return _tables[vocabulary]


def ids_in_running_text(vocabulary: Vocabulary) -> dict[bytes, int]:
    """Bytes -> the id that text is really given, where several tokens have the same bytes.

    ``Vocabulary.ids_by_bytes`` takes the lowest id; in GPT-NeoX that is the model's own token for a run of
    spaces, which is never used because an added token for the same run comes first.
    """
    ids = {token: token_id for token, token_id in vocabulary.ids_by_bytes().items() if token}
    twins: dict[bytes, set[int]] = {}
    for token_id, token in enumerate(vocabulary.token_bytes):
        if token and token_id not in vocabulary.byte_ids and ids[token] != token_id:
            twins.setdefault(token, {ids[token]}).add(token_id)
    texts = {token: token.decode() for token in twins if _is_text(token)}
    for prefix in _BEFORE_OTHERS:
        encoded = vocabulary.encode_batch([prefix + text for text in texts.values()]) if texts else []
        for token, row in zip(list(texts), encoded, strict=True):
            if row and row[-1] in twins[token]:
                ids[token] = row[-1]
                del texts[token]
    return ids


def idle_ids(vocabulary: Vocabulary, used: Mapping[bytes, int]) -> dict[bytes, int]:
    """Bytes -> an id that has them and that text is never given, where there is one: byte tokens before others.

    Args:
        vocabulary: its tokens.
        used: as from ``ids_in_running_text``.
    """
    result: dict[bytes, int] = {}
    for token_id in sorted(range(len(vocabulary)), key=lambda i: (i not in vocabulary.byte_ids, i)):
        token = vocabulary.token_bytes[token_id]
        if token and used[token] != token_id:
            result.setdefault(token, token_id)
    return result


def _is_text(token: bytes) -> bool:
    try:
        token.decode()
    except UnicodeDecodeError:
        return False
    return True
