"""What a tokenizer's normalizer does to text before it is cut, found by asking it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vocabalign.text.vocabulary import Vocabulary

# Effect -> (text, the same text where the effect is there). The letters are such that no other effect looks the same.
_EFFECTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "lower case": ("A", "a"),
        "NFC (combining marks join their letters)": ("e\u0301", "\u00e9"),
        "NFD (letters and marks apart)": ("\u00e9", "e\u0301"),
        "compatibility forms replaced (as NFKC)": ("\uff11", "1"),
        "accents stripped": ("\u00e9", "e"),
        "runs of spaces made one": ("a  b", "a b"),
        "spaces at the ends stripped": (" a ", "a"),
        "line ends and tabs made spaces": ("a\nb", "a b"),
        "control characters dropped": ("a\x01b", "ab"),
        "spaces around Chinese characters": ("\u4e00", " \u4e00 "),
        "quotes replaced": ("``", '"'),
    }
)


def normalized(vocabulary: Vocabulary, text: str) -> str:
    """The text that the tokenizer really cuts, spaces written as spaces; special tokens in it are kept as they are.

    A dummy prefix is there too, where the normalizer is what adds it.
    """
    normalizer = getattr(getattr(vocabulary.tokenizer, "backend_tokenizer", None), "normalizer", None)
    components = vocabulary.components
    # A byte-level normalizer writes text in the byte alphabet, which is no normal form of it.
    if normalizer is None or components is None or (components.kind == "byte-level" and not components.normalizer):
        return text
    mark = components.space_mark
    changed = normalizer.normalize_str(text)
    return changed.replace(mark, " ") if mark else changed


def normalizer_effects(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Names of what the normalizer does to text, in plain words; empty where it leaves text as it is."""
    found = []
    for name, (before, after) in _EFFECTS.items():
        changed = normalized(vocabulary, before)
        if vocabulary.dummy_prefix and not changed == after:
            changed = changed.removeprefix(" ")
        if changed == after:
            found.append(name)
    return tuple(found)
