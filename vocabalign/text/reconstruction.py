"""Proof that the bytes of a vocabulary are right: encode text, join the bytes, and have the text again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from vocabalign.text.vocabulary import Vocabulary

OUTCOMES = ("exact", "normalized", "unknown", "special", "whitespace", "different")
MAX_EXAMPLES = 10


@dataclass
class Reconstruction:
    """What came back.

    Attributes:
        counts: outcome -> texts. "exact": the text itself (after a dummy prefix is taken away); "normalized": the text
            after the tokenizer's own normalizer; "unknown": it holds what the vocabulary lacks; "special": it
            spells special tokens; "whitespace": only white space was lost or changed; "different": anything
            else, which for a right table of bytes never happens.
        lost_bytes: byte -> how often it was in (normalized) text and not in the tokens.
        examples: (outcome, start of the text), of texts that did not come back.
    """

    counts: Counter[str] = field(default_factory=Counter)
    lost_bytes: Counter[int] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    @property
    def num_texts(self) -> int:
        """Texts tried."""
        return self.counts.total()

    @property
    def lossless(self) -> bool:
        """Whether every text came back, up to the normalizer."""
        return self.num_texts == self.counts["exact"] + self.counts["normalized"]

    @property
    def proven(self) -> bool:
        """Whether everything that did not come back is explained: the bytes of the tokens are right."""
        return not self.counts["different"]


def check_reconstruction(vocabulary: Vocabulary, texts: Iterable[str]) -> Reconstruction:
    """Encode texts and compare the joined bytes with them.

    Nothing is raised: what did not come back is in the report, with the reason.
    """
    report = Reconstruction()
    normalizer = getattr(getattr(vocabulary.tokenizer, "backend_tokenizer", None), "normalizer", None)
    components = vocabulary.components
    mark = components.space_mark if components else ""
    # A byte-level normalizer writes text in the byte alphabet, which is no normal form of it.
    if components is not None and components.kind == "byte-level" and not components.normalizer:
        normalizer = None
    single = {token[0] for token in vocabulary.token_bytes if token is not None and len(token) == 1}
    for text in texts:
        ids = vocabulary.encode(text)
        joined = b"".join(vocabulary.token_bytes[i] or b"" for i in ids)
        expected = text.encode()
        outcome = "exact"
        if not _same(joined, expected, vocabulary.dummy_prefix):
            if normalizer is not None:
                normalized = normalizer.normalize_str(text)
                expected = (normalized.replace(mark, " ") if mark else normalized).encode()
            outcome = _explain(vocabulary, ids, joined, expected, single)
        report.counts[outcome] += 1
        if outcome not in ("exact", "normalized"):
            report.lost_bytes.update(Counter(expected) - Counter(joined))
            if len(report.examples) < MAX_EXAMPLES:
                report.examples.append((outcome, text[:80]))
    return report


def _same(joined: bytes, expected: bytes, dummy_prefix: bool) -> bool:
    return joined == expected or (dummy_prefix and joined == b" " + expected)


def _explain(vocabulary: Vocabulary, ids: list[int], joined: bytes, expected: bytes, single: set[int]) -> str:
    if _same(joined, expected, vocabulary.dummy_prefix):
        return "normalized"
    special = vocabulary.special_ids.intersection(ids)
    unknown = vocabulary.roles.get("unk")
    if unknown in special:
        return "unknown"
    if special:
        return "special"
    if joined.split() == expected.split() or b"".join(joined.split()) == b"".join(expected.split()):
        return "whitespace"
    # Without an unknown token a byte-level model drops what its alphabet lacks.
    dropped = Counter(expected) - Counter(joined)
    missing = {byte for byte in dropped if byte not in single and not bytes([byte]).isspace()}
    kept = bytes(byte for byte in b"".join(expected.split()) if byte not in missing)
    return "unknown" if missing and kept == b"".join(joined.split()) else "different"
