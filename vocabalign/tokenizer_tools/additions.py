"""A vocabulary that grows: what every kind of model needs to take new tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from vocabalign.errors import TokenizerError
from vocabalign.text.token_bytes import read_components
from vocabalign.tokenizer_tools.merges import MergeTable
from vocabalign.tokenizer_tools.pair_learning import MISSING, Learned
from vocabalign.tokenizer_tools.state import State, all_ids, num_rows, seat_added_tokens
from vocabalign.tokenizer_tools.viterbi import PieceTable


class Growing(ABC):
    """A tokenizer's model while tokens are added to it; new ids follow the highest that there is.

    Attributes:
        state: content of the ``tokenizer.json``; changed in place.
        vocabulary: all raw tokens.
        added: raw token -> id of what was added, in order.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.vocabulary = set(all_ids(state))
        self.added: dict[str, int] = {}
        self.components = read_components(state)
        seat_added_tokens(state)
        self._next_id = num_rows(state)

    def number(self, raw: str) -> int:
        """Give a new raw token the next id."""
        self.vocabulary.add(raw)
        self.added[raw] = self._next_id
        self._next_id += 1
        return self.added[raw]

    @abstractmethod
    def tokens(self, piece: str) -> list[str]:
        """How the model cuts one piece now; a character that it lacks is ``MISSING + character``."""

    @abstractmethod
    def learning_table(self) -> MergeTable:
        """Merges for the pair learner to append to."""

    @abstractmethod
    def take(self, step: Learned) -> None:
        """Add what the pair learner found."""

    @abstractmethod
    def join(self, piece: str) -> str | None:
        """Make one token of a piece; returns why that cannot be, or None where it is done."""


class GrowingMerges(Growing):
    """BPE."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._model = state["model"]
        self.table = MergeTable.from_model(self._model)
        self._characters = {raw for raw in self._model["vocab"] if len(raw) == 1}

    def tokens(self, piece: str) -> list[str]:
        """As ``Growing.tokens``."""
        if self._model.get("ignore_merges") and piece in self._model["vocab"]:
            return [piece]
        return self.table.apply(self._symbols(piece))

    def learning_table(self) -> MergeTable:
        """As ``Growing.learning_table``."""
        return self.table

    def take(self, step: Learned) -> None:
        """As ``Growing.take``."""
        if step.left:
            self._model["merges"].append([step.left, step.right])
        if step.is_new:
            self._model["vocab"][step.product] = self.number(step.product)
        if not step.left:
            self._characters.add(step.product)

    def join(self, piece: str) -> str | None:
        """As ``Growing.join``."""
        symbols = self._symbols(piece)
        for symbol in dict.fromkeys(symbols):
            if symbol.startswith(MISSING):
                self.take(Learned("", symbol[1:], symbol[1:], 0, True))
        start = self.table.apply(self._symbols(piece))
        for plan in (self._fewest_new, _left_to_right):
            steps = plan(start) if len(start) <= _LONGEST_PLAN or plan is _left_to_right else []
            known = len(self.table.ranks)
            for left, right in steps:
                self.table.append(left, right)
            if steps and self.table.apply(start) == [piece]:
                new = [pair for pair, rank in self.table.ranks.items() if rank >= known]
                for left, right in new:
                    product = self.table.product(left, right)
                    self.take(Learned(left, right, product, 0, product not in self.vocabulary))
                return None
            for pair in [pair for pair, rank in self.table.ranks.items() if rank >= known] if steps else []:
                del self.table.ranks[pair]
        return "its merges would be crossed by others"

    def _symbols(self, piece: str) -> list[str]:
        symbols = self.table.symbols(piece)
        return [s if s in self.vocabulary else MISSING + s for s in symbols]

    def _fewest_new(self, tokens: Sequence[str]) -> list[tuple[str, str]]:
        """Merges that join the tokens over as few new ones in between as there can be, inner ones first."""
        best: dict[tuple[int, int], tuple[int, int]] = {}
        joined: dict[tuple[int, int], str] = {(i, i + 1): token for i, token in enumerate(tokens)}
        for length in range(2, len(tokens) + 1):
            for start in range(len(tokens) - length + 1):
                end = start + length
                joined[start, end] = self.table.product(joined[start, end - 1], tokens[end - 1])
                cost = joined[start, end] not in self.vocabulary
                choices = [
                    (best.get((start, cut), (0, 0))[0] + best.get((cut, end), (0, 0))[0], -cut)
                    for cut in range(start + 1, end)
                ]
                least = min(choices)
                best[start, end] = (least[0] + cost, -least[1])
        steps: list[tuple[str, str]] = []

        def walk(start: int, end: int) -> None:
            if end - start > 1:
                cut = best[start, end][1]
                walk(start, cut)
                walk(cut, end)
                steps.append((joined[start, cut], joined[cut, end]))

        walk(0, len(tokens))
        return steps


_LONGEST_PLAN = 40


def _left_to_right(tokens: Sequence[str]) -> list[tuple[str, str]]:
    steps, joined = [], tokens[0]
    for token in tokens[1:]:
        steps.append((joined, token))
        joined += token
    return steps


class GrowingPieces(Growing):
    """Unigram: a new piece gets a score just above that of its best cut, so that Viterbi chooses it."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._model = state["model"]
        special = {token["content"] for token in state["added_tokens"]}
        unknown = self._model.get("unk_id")
        self._pieces = PieceTable(
            {
                raw: score
                for i, (raw, score) in enumerate(self._model["vocab"])
                if raw not in special and i != unknown and not _is_byte(raw, self.components.byte_fallback)
            }
        )
        self._least = min(self._pieces.scores.values(), default=-20.0)

    def tokens(self, piece: str) -> list[str]:
        """As ``Growing.tokens``."""
        return [raw if known else MISSING + raw for raw, known in self._pieces.best(piece)]

    def learning_table(self) -> MergeTable:
        """As ``Growing.learning_table``."""
        return MergeTable()

    def take(self, step: Learned) -> None:
        """As ``Growing.take``."""
        if step.is_new:
            self.join(step.product)

    def join(self, piece: str) -> str | None:
        """As ``Growing.join``."""
        if piece in self._pieces.scores:
            return "it is a token already, but pieces with higher scores are taken instead"
        # Not below the lowest score that there is: the score of unknown characters hangs on that.
        score = max(self._pieces.best_score(piece) + SCORE_MARGIN, self._least)
        self.number(piece)
        self._pieces.add(piece, score)
        self._model["vocab"].append([piece, score])
        return None


class GrowingWords(Growing):
    """WordPiece: the longest match wins, so a whole word only has to be there."""

    def tokens(self, piece: str) -> list[str]:
        """As ``Growing.tokens``."""
        return [piece] if piece in self.state["model"]["vocab"] else list(piece)

    def learning_table(self) -> MergeTable:
        """As ``Growing.learning_table``."""
        raise TokenizerError(
            "A WordPiece vocabulary has no merges that could be continued: give a list of words instead of a number "
            "of tokens, or train a new tokenizer."
        )

    def take(self, step: Learned) -> None:
        """As ``Growing.take``."""
        raise NotImplementedError  # learning_table has refused before

    def join(self, piece: str) -> str | None:
        """As ``Growing.join``."""
        longest = self.state["model"].get("max_input_chars_per_word") or len(piece)
        if len(piece) > longest:
            return f"words of more than {longest} characters are unknown to it"
        self.state["model"]["vocab"][piece] = self.number(piece)
        return None


SCORE_MARGIN = 0.1


def _is_byte(raw: str, fallback: bool) -> bool:
    return fallback and len(raw) == 6 and raw.startswith("<0x") and raw.endswith(">")


def grow(state: Mapping[str, Any]) -> Growing:
    """The right way to add to a tokenizer.

    Raises:
        TokenizerError: its kind of model cannot be extended.
    """
    kind = state["model"].get("type")
    if kind not in GROWING:
        raise TokenizerError(f"A tokenizer of the kind {kind} cannot be extended; {', '.join(GROWING)} can.")
    return GROWING[kind](dict(state))


GROWING: dict[str, type[Growing]] = {"BPE": GrowingMerges, "Unigram": GrowingPieces, "WordPiece": GrowingWords}
