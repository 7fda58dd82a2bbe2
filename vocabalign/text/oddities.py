"""Tokens that are not what a token should be: never given, double, without text, or half a character.

Tokens that text is never given are untrained and behave badly when they are used all the same (Land and Bartolo,
"Fishing for Magikarp", 2024, section 3.1); they are found as there, by encoding their own text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from vocabalign.text.scripts import SEVERAL, token_script
from vocabalign.text.vocabulary import Vocabulary

# What to put around a token's text beside line ends: a letter, a space or a mark before it, and behind white space,
# which is often given to what follows, a letter. At the start and end of a text some tokenizers cut otherwise.
_AROUND = (("", ""), ("a", ""), (" ", ""), ("", "a"), ("\u00a7", ""))
_ALONE = (("", ""), ("\u00a7", ""))
# Continuations ("##ing") show only behind a letter with which they make no longer token: rare letters do.
_RARE_LETTERS = 24
_BATCH_TEXTS = 8192
_LINES = 64


@dataclass(frozen=True)
class Oddities:
    """Ids of each kind, in order; an id may be of several kinds.

    Attributes:
        gaps: ids that no token has.
        without_text: tokens, not special ones, that no text can give by how they are written.
        duplicates: their text gives another token with the same bytes, byte-fallback tokens apart.
        never_given: their text gives other tokens in every surrounding that was tried.
        byte_tokens: byte-fallback tokens.
        idle_byte_tokens: of these the ones whose byte is given an ordinary token.
        fragments: not whole characters, so that their text cannot be tried.
        control_characters: with invisible characters, other than line ends and tabs.
        several_scripts: letters of more than one script.
    """

    gaps: list[int]
    without_text: list[int]
    duplicates: list[int]
    never_given: list[int]
    byte_tokens: list[int]
    idle_byte_tokens: list[int]
    fragments: list[int]
    control_characters: list[int]
    several_scripts: list[int]

    def kinds(self) -> Iterator[tuple[str, list[int]]]:
        """Name and ids of each kind."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


def find_oddities(
    vocabulary: Vocabulary, counts: np.ndarray | None = None, scripts: Sequence[str] | None = None
) -> Oddities:
    """Look at every token, and encode the text of every one that is whole characters.

    Args:
        vocabulary: its tokens.
        counts: (V,) int64, how often some text uses each; what is used there is not tried again.
        scripts: of each token, where they are known already.
    """
    tokens = vocabulary.token_bytes
    scripts = [token_script(token) for token in tokens] if scripts is None else scripts
    texts = _texts(vocabulary)
    idle = _never_given(vocabulary, texts, counts)
    twins = {token for i, token in enumerate(tokens) if token and i not in idle}
    nothing = [i for i, token in enumerate(tokens) if not token and i not in vocabulary.special_ids]
    return Oddities(
        gaps=[i for i in nothing if not vocabulary.raw_tokens[i]],
        without_text=[i for i in nothing if vocabulary.raw_tokens[i]],
        duplicates=[i for i in idle if i not in vocabulary.byte_ids and tokens[i] in twins],
        never_given=[i for i in idle if i not in vocabulary.byte_ids and tokens[i] not in twins],
        byte_tokens=sorted(vocabulary.byte_ids),
        idle_byte_tokens=[i for i in idle if i in vocabulary.byte_ids],
        fragments=[i for i, token in enumerate(tokens) if token and i not in texts and i not in vocabulary.byte_ids],
        control_characters=[i for i, text in texts.items() if i not in vocabulary.byte_ids and _has_control(text)],
        several_scripts=[i for i, script in enumerate(scripts) if script == SEVERAL],
    )


def _texts(vocabulary: Vocabulary) -> dict[int, str]:
    """Id -> text, of the tokens that are whole characters."""
    result = {}
    for token_id, token in enumerate(vocabulary.token_bytes):
        if token:
            try:
                result[token_id] = token.decode()
            except UnicodeDecodeError:
                continue
    return result


def _never_given(vocabulary: Vocabulary, texts: dict[int, str], counts: np.ndarray | None) -> dict[int, str]:
    """Those of the texts' tokens that no encoding gave, neither for their own text nor for another's."""
    given = np.zeros(len(vocabulary), dtype=bool) if counts is None else counts > 0
    left = {i: text for i, text in texts.items() if not given[i]}
    components = vocabulary.components
    continued = components is None or components.continuation or components.word_end
    letters = _rare_letters(texts) if continued else []
    # Many in one text first: that finds nearly all of them, at a fraction of the cost.
    trials = [(_LINES, *around) for around in _AROUND]
    trials += [(1, *around) for around in (*_ALONE, *((letter, "") for letter in letters))]
    for lines, before, after in trials:
        parts = [before + text + after for text in left.values()]
        _encode(vocabulary, ["\n".join(parts[i : i + lines]) for i in range(0, len(parts), lines)], given)
        left = {i: text for i, text in left.items() if not given[i]}
    return left


def _encode(vocabulary: Vocabulary, texts: Sequence[str], given: np.ndarray) -> None:
    """Mark the ids that the texts are given."""
    for start in range(0, len(texts), _BATCH_TEXTS):
        for row in vocabulary.encode_batch(texts[start : start + _BATCH_TEXTS]):
            given[row] = True


def _rare_letters(texts: dict[int, str]) -> list[str]:
    """The last single letters of the vocabulary, where the rare ones stand."""
    letters = [text for text in texts.values() if len(text) == 1 and text.isalpha()]
    return letters[-_RARE_LETTERS:]


def _has_control(text: str) -> bool:
    if text.isprintable():
        return False
    return any(unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn") for character in text.translate(_ALLOWED))


_ALLOWED = dict.fromkeys(map(ord, "\t\n\r"))
