"""Proof that the bytes of a vocabulary are right: encode text, join the bytes, and have the text again.

What does not come back must be explained to the byte: characters that became an unknown token, bytes that an
incomplete alphabet lacks, white space that was dropped. Everything else is a fault of the table.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vocabalign.text.normalization import normalized
from vocabalign.text.vocabulary import Vocabulary

MAX_EXAMPLES = 10
_SPACES = "".join(chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace())
# UTF-8 never has one character's bytes inside another's, so bytes can be searched for characters.
_SPACE = re.compile(b"|".join(re.escape(character.encode()) for character in _SPACES))


@dataclass
class Reconstruction:
    """What came back.

    Attributes:
        counts: outcome -> texts. "exact": the text itself (after a dummy prefix is taken away); "normalized": the text
            after the tokenizer's own normalizer; "unknown": it holds what the vocabulary lacks; "special": it
            spells special tokens; "whitespace": only white space was lost or changed; "different": anything
            else, which for a right table of bytes never happens.
        lost_bytes: byte -> how often it was in (normalized) text and not in the tokens.
        unknown: bytes of the text that became an unknown token, or single bytes that no token has -> how often.
        lost_white_space: white-space character -> how often it was dropped.
        examples: (outcome, start of the text), of texts that did not come back.
        failing_ids: tokens of texts that are different, from the first byte that is: their bytes are not right.
    """

    counts: Counter[str] = field(default_factory=Counter)
    lost_bytes: Counter[int] = field(default_factory=Counter)
    unknown: Counter[bytes] = field(default_factory=Counter)
    lost_white_space: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)
    failing_ids: list[int] = field(default_factory=list)

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
    single = frozenset(token[0] for token in vocabulary.token_bytes if token is not None and len(token) == 1)
    for text in texts:
        ids = vocabulary.encode(text)
        joined = b"".join(vocabulary.token_bytes[i] or b"" for i in ids)
        if _same(joined, text.encode(), vocabulary.dummy_prefix):
            report.counts["exact"] += 1
            continue
        expected = _expected(vocabulary, ids, text)
        if _same(joined, expected, vocabulary.dummy_prefix):
            report.counts["normalized"] += 1
            continue
        outcome = _explain(vocabulary, ids, expected, single, report)
        if outcome == "unknown" and vocabulary.roles.get("unk") in ids:
            report.unknown.update(_unknown_text(vocabulary, text))
        report.counts[outcome] += 1
        report.lost_bytes.update(Counter(expected) - Counter(joined))
        if len(report.examples) < MAX_EXAMPLES:
            report.examples.append((outcome, text[:80]))
    return report


def _same(joined: bytes, expected: bytes, dummy_prefix: bool) -> bool:
    return joined == expected or (dummy_prefix and joined == b" " + expected)


def _expected(vocabulary: Vocabulary, ids: Sequence[int], text: str) -> bytes:
    """The normalized text; special tokens that it spells are taken out before the normalizer sees it."""
    spelled = {vocabulary.raw_tokens[i] for i in vocabulary.special_ids.intersection(ids)} - {""}
    spelled = {raw for raw in spelled if raw in text}
    if not spelled:
        return normalized(vocabulary, text).encode()
    parts = re.split("(" + "|".join(re.escape(raw) for raw in sorted(spelled, key=len, reverse=True)) + ")", text)
    return "".join(part if part in spelled else normalized(vocabulary, part) if part else "" for part in parts).encode()


def _explain(
    vocabulary: Vocabulary, ids: Sequence[int], expected: bytes, single: frozenset[int], report: Reconstruction
) -> str:
    """Why the tokens are not the text; what was lost goes into the report."""
    table = vocabulary.token_bytes
    joined = b"".join(table[i] or b"" for i in ids)
    unknown_id = vocabulary.roles.get("unk")
    # Without an unknown token a byte-level model drops what its alphabet lacks.
    byte_level = vocabulary.components is not None and vocabulary.components.kind == "byte-level"
    if byte_level and unknown_id not in ids and joined == bytes(byte for byte in expected if byte in single):
        report.unknown.update(bytes([byte]) for byte in expected if byte not in single)
        return "unknown"
    # A unigram model gives the text "<0x0A>" the byte token of that name.
    spelled = {i for i in vocabulary.byte_ids.intersection(ids) if vocabulary.raw_tokens[i].encode() in expected}
    runs, kinds = _known_runs(vocabulary, ids, unknown_id, spelled)
    if not _fit(runs, _SPACE.sub(b"", expected)):
        report.failing_ids += _from_first_difference(vocabulary, ids, expected)
        return "different"
    dropped = Counter(_SPACE.findall(expected)) - Counter(_SPACE.findall(joined))
    report.lost_white_space.update({space.decode(): count for space, count in dropped.items()})
    return "unknown" if unknown_id in kinds else "special" if kinds else "whitespace"


def _known_runs(
    vocabulary: Vocabulary, ids: Sequence[int], unknown_id: int | None, spelled: set[int]
) -> tuple[list[bytes], set[int]]:
    """Bytes without white space between unknown tokens, and the special ids seen: those stand for their names.

    Unknown tokens with nothing but white space between them count as one.
    """
    parts: list[list[bytes]] = [[]]
    kinds = set()
    for token_id in ids:
        token = vocabulary.token_bytes[token_id]
        if token is None or token_id in spelled:
            kinds.add(token_id)
            if token_id == unknown_id:
                parts.append([])
                continue
            token = vocabulary.raw_tokens[token_id].encode()
        parts[-1].append(token)
    runs = [_SPACE.sub(b"", b"".join(part)) for part in parts]
    return [run for number, run in enumerate(runs) if run or number in (0, len(runs) - 1)], kinds


def _fit(runs: Sequence[bytes], bare: bytes) -> bool:
    """Whether the runs are all in the text, in order, the first and the last at its ends.

    Between two runs there may be nothing: an unknown token can stand for white space.
    """
    if len(runs) == 1:
        return runs[0] == bare
    if not bare.startswith(runs[0]) or not bare.endswith(runs[-1]):
        return False
    end, position = len(bare) - len(runs[-1]), len(runs[0])
    for run in runs[1:-1]:
        found = bare.find(run, position, end)
        if found < 0:
            return False
        position = found + len(run)
    return position <= end


def _unknown_text(vocabulary: Vocabulary, text: str) -> list[bytes]:
    """The parts of a text that became unknown tokens, as the tokenizer itself says; none for a custom vocabulary."""
    backend = getattr(vocabulary.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return []
    encoding = backend.encode(text, add_special_tokens=False)
    unknown_id = vocabulary.roles["unk"]
    spans = [span for token_id, span in zip(encoding.ids, encoding.offsets, strict=True) if token_id == unknown_id]
    return [text[start:stop].encode() for start, stop in spans]


def _from_first_difference(vocabulary: Vocabulary, ids: Sequence[int], expected: bytes) -> list[int]:
    """The first token whose bytes are not those of the text where it stands."""
    position = 1 if vocabulary.dummy_prefix and expected[:1] != b" " else 0
    text = b" " * position + expected
    place = 0
    for token_id in ids:
        token = vocabulary.token_bytes[token_id] or b""
        while text[place : place + 1].isspace() and not token[:1].isspace():
            place += 1
        if text[place : place + len(token)] != token:
            return [token_id]
        place += len(token)
    return list(ids[-1:])
