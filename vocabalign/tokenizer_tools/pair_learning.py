"""Continued byte-pair encoding: new merges learned on top of those that a tokenizer has.

Sennrich et al. (2016), section 3.2, started from the tokens that the tokenizer gives instead of from characters.
New merges rank behind all old ones, so old merges are applied first and words are at their fixed point when the first
new merge is reached; that makes the learner's picture of the text exactly what the tokenizer will give.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vocabalign.progress import progress
from vocabalign.tokenizer_tools.merges import MergeTable

# Marks a character that the vocabulary lacks; NUL itself is never part of a raw token that is learned from.
MISSING = "\0"
Candidate = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Learned:
    """One step: a merge, or ("", character) for a character that became a token.

    Attributes:
        left: raw token on the left, "" for a character.
        right: raw token on the right, or the character.
        product: the raw token that results.
        saved: tokens of the training text that the step saved.
        is_new: whether the product was not in the vocabulary before.
    """

    left: str
    right: str
    product: str
    saved: int
    is_new: bool


class PairLearner:
    """Finds the pair that saves most tokens, again and again.

    Args:
        words: (raw tokens of a word, how often it occurs); characters that the vocabulary lacks are written
            ``MISSING + character``.
        table: merges of the tokenizer; new ones are appended to it.
        vocabulary: raw tokens that exist; new ones are added to it.
        allowed: whether a product may be a token.
        character_cost: tokens that a character that the vocabulary lacks costs now; what it saves is one less.
    """

    def __init__(
        self,
        words: Iterable[tuple[Sequence[str], int]],
        table: MergeTable,
        vocabulary: set[str],
        allowed: Callable[[str], bool],
        character_cost: Callable[[str], int],
    ) -> None:
        self._table, self._vocabulary = table, vocabulary
        self._allowed, self._cost = allowed, character_cost
        self._words: list[list[str]] = []
        self._counts: list[int] = []
        self._saved: dict[Candidate, int] = defaultdict(int)
        self._places: dict[Candidate, set[int]] = defaultdict(set)
        for symbols, count in words:
            number = len(self._words)
            self._words.append(list(symbols))
            self._counts.append(count)
            self._add(number, 1)
        self._heap = [(-saved, *candidate) for candidate, saved in self._saved.items()]
        heapq.heapify(self._heap)

    def learn(self, num_new: int, min_count: int) -> list[Learned]:
        """Steps until this many tokens are new, or no candidate is left that saves ``min_count`` tokens."""
        steps: list[Learned] = []
        found = 0
        with progress("learning merges", num_new) as counter:
            while found < num_new:
                candidate = self._best(min_count)
                if candidate is None:
                    break
                step = self._take(candidate)
                steps.append(step)
                found += step.is_new
                counter.advance(step.is_new)
        return steps

    def _best(self, min_count: int) -> Candidate | None:
        while self._heap:
            negative, left, right = heapq.heappop(self._heap)
            saved = self._saved.get((left, right), 0)
            if saved != -negative:  # an outdated entry; the right one is in the heap too
                continue
            if saved < min_count:
                return None
            if self._allowed(right if not left else self._table.product(left, right)):
                return left, right
        return None

    def _take(self, candidate: Candidate) -> Learned:
        left, right = candidate
        saved = self._saved[candidate]
        product = right if not left else self._table.product(left, right)
        is_new = product not in self._vocabulary
        self._vocabulary.add(product)
        if left:
            self._table.append(left, right)
        changed: set[Candidate] = set()
        for number in list(self._places[candidate]):
            changed |= self._add(number, -1)
            word = self._words[number]
            if not left:
                word = [right if symbol == MISSING + right else symbol for symbol in word]
            self._words[number] = self._table.apply(word)
            changed |= self._add(number, 1)
        for key in sorted(changed):
            if self._saved[key] > 0:
                heapq.heappush(self._heap, (-self._saved[key], *key))
            else:
                del self._saved[key], self._places[key]
        return Learned(left, right, product, saved, is_new)

    def _add(self, number: int, sign: int) -> set[Candidate]:
        """Count a word's candidates in or out; returns them."""
        word, count = self._words[number], sign * self._counts[number]
        touched = set()
        for place, symbol in enumerate(word):
            if symbol.startswith(MISSING) and len(symbol) > 1:
                key, weight = ("", symbol[1:]), self._cost(symbol[1:]) - 1
            elif place + 1 < len(word) and not word[place + 1].startswith(MISSING):
                key, weight = (symbol, word[place + 1]), 1
            else:
                continue
            self._saved[key] += weight * count
            (self._places[key].add if sign > 0 else self._places[key].discard)(number)
            touched.add(key)
        return touched
