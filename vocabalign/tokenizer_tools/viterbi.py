"""The best cut of a word into pieces with scores, as Unigram models find it (Kudo 2018, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

# What SentencePiece and the tokenizers library subtract from the lowest score for a character that no piece covers.
UNKNOWN_PENALTY = 10.0
# What byte tokens are written in. The tokenizers library also takes them for pieces of text; with these as pieces and
# low scores for byte tokens it never does.
BYTE_CHARACTERS = "<0x123456789ABCDEF>"


class PieceTable:
    """Pieces with scores (natural logarithms of probabilities)."""

    def __init__(self, scores: Mapping[str, float]) -> None:
        self.scores = dict(scores)
        self._longest = max(map(len, self.scores), default=1)
        self._unknown = min(self.scores.values(), default=0.0) - UNKNOWN_PENALTY

    def add(self, piece: str, score: float) -> None:
        """Add a piece, or change its score."""
        self.scores[piece] = score
        self._longest = max(self._longest, len(piece))
        self._unknown = min(self._unknown, score - UNKNOWN_PENALTY)

    def best(self, word: str, without: str | None = None) -> list[tuple[str, bool]]:
        """(piece, whether it is in the vocabulary) of the best cut; characters that no piece covers stand alone."""
        return self._search(word, without)[0]

    def best_score(self, word: str) -> float:
        """The score of the best cut."""
        return self._search(word, None)[1]

    def _search(self, word: str, without: str | None) -> tuple[list[tuple[str, bool]], float]:
        size = len(word)
        scores: list[float] = [0.0] + [float("-inf")] * size
        starts = [0] * (size + 1)
        for end in range(1, size + 1):
            for start in range(max(0, end - self._longest), end):
                piece = word[start:end]
                score = None if piece == without else self.scores.get(piece)
                if score is None:
                    if start != end - 1:
                        continue
                    score = self._unknown
                if scores[start] + score > scores[end]:
                    scores[end], starts[end] = scores[start] + score, start
        pieces, end = [], size
        while end > 0:
            piece = word[starts[end] : end]
            pieces.append((piece, piece in self.scores and piece != without))
            end = starts[end]
        return pieces[::-1], scores[size]
