"""What a tokenizer's model gets to see of a text: the pieces that normalizer and pre-tokenizer cut it into."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vocabalign.text.token_bytes import byte_alphabet, read_components

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Scripts that write no spaces between words; their letters are not joined with those of others.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u30FC\u3005"
LONGEST_PIECE = 1000
# In no raw token that is learned: they would break lines of vocabulary files.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Every pre-tokenizer cuts here, so pieces can be counted between such places before they are cut further.
_BEFORE_SPACES = re.compile(r"(?<=\S)(?= )")
_DIGITS = re.compile(r"\d\d")


class Pieces:
    """Cuts text as a tokenizer does before its model.

    A tokenizer without a pre-tokenizer gives its model the whole text. To learn from it text is cut further, as
    SentencePiece does in training: before spaces, between letters, numbers and other signs, between scripts with and
    without spaces, and between digits if no token has two. Nothing that is learned lies across such a cut, so what is
    learned is also what running text gives.
    """

    def __init__(self, backend: Tokenizer, state: Mapping[str, Any]) -> None:
        self._normalizer = backend.normalizer
        self._pre_tokenizer = backend.pre_tokenizer
        components = read_components(state)
        self.kind = components.kind
        self.mark = components.space_mark
        # What is cut out beforehand never reaches the model.
        added = sorted((token["content"] for token in state["added_tokens"] if token["content"]), key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, added))) if added else None
        self._fine = self._pre_tokenizer
        if self._pre_tokenizer is None or self.kind == "sentencepiece":
            self._fine = _then(self._pre_tokenizer, _fine_pattern(self.mark or " ", _joins_digits(state)))
        self._coarse = _then(self._pre_tokenizer, r"\s+")
        self._dummy_prefix = components.dummy_prefix
        self._bytes = byte_alphabet()

    def count(self, texts: Iterable[str], *, fine: bool = True) -> Counter[str]:
        """How often each piece occurs; memory follows the number of different words, not the text.

        Args:
            texts: read once.
            fine: cut finely enough to learn from; else only by the pre-tokenizer and at line ends.
        """
        cut = self._fine if fine else self._coarse
        chunks: Counter[str] = Counter()
        for text in texts:
            for part in self._added.split(text) if self._added else (text,):
                chunks.update(_BEFORE_SPACES.split(part))
        counts: Counter[str] = Counter()
        for chunk, count in chunks.items():
            if not chunk:
                continue
            # The tokenizer puts the space back, as it did at the beginning of the text.
            chunk = chunk.removeprefix(" ") if self._dummy_prefix else chunk
            for piece, _ in cut.pre_tokenize_str(self.normalize(chunk)):
                counts[piece] += count
        return counts

    def inside(self, text: str) -> list[str]:
        """The pieces that the model gets of a text that stands behind other text."""
        if self._pre_tokenizer is None:
            # A letter in front, because some normalizers make a space of a line end.
            before, both = self.normalize("a"), self.normalize("a" + text)
            return [both.removeprefix(before)] if both.startswith(before) else [both]
        pieces, line_end = self._whole("\n" + text), self._whole("\n")
        return pieces[len(line_end) :] if pieces[: len(line_end)] == line_end else pieces

    def normalize(self, text: str) -> str:
        """The text after the normalizer."""
        return self._normalizer.normalize_str(text) if self._normalizer is not None else text

    def readable(self, raw: str) -> str:
        """A raw token or piece as people write it; bytes that are no character as U+FFFD."""
        if self.kind == "byte-level":
            if all(character in self._bytes for character in raw):
                return bytes(self._bytes[character] for character in raw).decode(errors="replace")
            return raw
        return raw.replace(self.mark, " ") if self.mark else raw

    def _whole(self, text: str) -> list[str]:
        return [piece for piece, _ in self._pre_tokenizer.pre_tokenize_str(self.normalize(text))]


def _fine_pattern(mark: str, joins_digits: bool) -> str:
    m, digits = re.escape(mark), r"\p{N}+" if joins_digits else r"\p{N}"
    return "|".join(
        [
            f"{m}+(?={m})",
            f"{m}?[{UNSPACED}][{UNSPACED}\\p{{M}}]*",
            f"{m}?(?:(?![{UNSPACED}])\\p{{L}}\\p{{M}}*)+",
            f"{m}?{digits}",
            f"{m}?[^{m}\\s\\p{{L}}\\p{{N}}]+",
            f"{m}",
            r"\s+",
        ]
    )


def _then(pre_tokenizer: Any, pattern: str) -> Any:
    """A pre-tokenizer, or none, and a cut at every match behind it."""
    from tokenizers import Regex, pre_tokenizers

    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    return cut if pre_tokenizer is None else pre_tokenizers.Sequence([pre_tokenizer, cut])


def _joins_digits(state: Mapping[str, Any]) -> bool:
    vocabulary = state["model"]["vocab"]
    raws = vocabulary if isinstance(vocabulary, Mapping) else (entry[0] for entry in vocabulary)
    return any(_DIGITS.search(raw) for raw in raws if not raw.startswith("<"))
