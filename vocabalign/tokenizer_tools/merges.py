"""Byte-pair merges applied exactly as the tokenizers library does: always the pair of lowest rank, leftmost first.

Written out in Python because extending and pruning need what the library does not tell: the state of a word
before and after one more merge, and which merge made a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Pair = tuple[str, str]


class MergeTable:
    """Ranked merges between raw tokens.

    Attributes:
        ranks: pair -> rank; lower goes first.
        prefix: what every token that continues a word begins with ("##"), "" for none.
        suffix: what a token that ends a word ends with ("</w>"), "" for none.
    """

    def __init__(self, merges: Iterable[Sequence[str]] = (), prefix: str = "", suffix: str = "") -> None:
        self.ranks: dict[Pair, int] = {}
        for left, right in merges:
            self.ranks.setdefault((left, right), len(self.ranks))
        self.prefix, self.suffix = prefix, suffix

    @classmethod
    def from_model(cls, model: Mapping[str, Any]) -> MergeTable:
        """The merges of the ``model`` part of a ``tokenizer.json``."""
        return cls(model["merges"], model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or "")

    def product(self, left: str, right: str) -> str:
        """The raw token that two become."""
        return left + right.removeprefix(self.prefix)

    def append(self, left: str, right: str) -> None:
        """Add a merge behind all others; one that exists keeps its rank."""
        self.ranks.setdefault((left, right), len(self.ranks))

    def symbols(self, word: str) -> list[str]:
        """The single characters that merging a whole word starts from."""
        symbols = [character if i == 0 else self.prefix + character for i, character in enumerate(word)]
        if symbols:
            symbols[-1] += self.suffix
        return symbols

    def apply(self, symbols: Sequence[str]) -> list[str]:
        """Merge until nothing can be merged; a state that some merges were applied to already is fine."""
        return self._run(symbols)[0]

    def last_pair(self, token: str) -> Pair | None:
        """The two tokens from which merging makes this one; None where merging does not give it."""
        bare = token.removesuffix(self.suffix) if self.suffix else token
        symbols = self.symbols(bare)
        if self.suffix and bare == token:
            symbols[-1] = symbols[-1].removesuffix(self.suffix)
        if self.prefix and token.startswith(self.prefix):
            symbols = [self.prefix + character for character in token.removeprefix(self.prefix)]
        merged, pair = self._run(symbols)
        return pair if merged == [token] else None

    def _run(self, symbols: Sequence[str]) -> tuple[list[str], Pair | None]:
        current, last = list(symbols), None
        ranks = self.ranks
        while len(current) > 1:
            found = [(ranks.get(pair), place) for place, pair in enumerate(zip(current, current[1:], strict=False))]
            best = min(((rank, place) for rank, place in found if rank is not None), default=None)
            if best is None:
                break
            place = best[1]
            last = (current[place], current[place + 1])
            current[place : place + 2] = [self.product(*last)]
        return current, last
