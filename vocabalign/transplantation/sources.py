"""Which source tokens each target token is made from, and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy import sparse

from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.text.overrides import Overrides
from vocabalign.text.segmentation import idle_ids, ids_in_running_text, segment_many
from vocabalign.text.special_tokens import SpecialTokenMap, map_special_tokens
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.rows import LEXICON_METHODS, SEGMENTATION_METHODS, Pieces, RowMethod, Side

logger = logging.getLogger("vocabalign")

AUTO: dict[Side, str] = {"input": "last", "head": "first"}
GUIDED = "last-or-lexicon"
# Where the lexicon found the token itself, but for a space or its case, or where only similarity of use speaks,
# it knows more than the last piece.
_GUIDES = (Evidence.RELAXED, Evidence.DISTRIBUTIONAL)


class TokenClass(IntEnum):
    """Where a target token's rows come from."""

    IDENTICAL = 0
    """The source token with the same bytes, copied."""
    ROLE = 1
    """The special token that does the same work."""
    LEXICON = 2
    """A lexicon's evidence."""
    SEGMENTATION = 3
    """The source tokenizer's cut of its bytes."""
    MEAN = 4
    """Nothing is known: the mean of the source's rows, which can never be the most likely."""
    PADDING = 5
    """No token has this id."""
    SIMILARITY = 6
    """Source tokens that are similar by token embeddings, or by the rows of the target vocabulary's owner."""
    DRAWN = 7
    """Drawn from the distribution of the source's rows, or zero: nothing is known of the token."""
    FITTED = 8
    """The source tokenizer's cut of its bytes, then fitted to the source model's hidden states."""


@dataclass(frozen=True)
class Sources:
    """Source tokens of T target tokens.

    Attributes:
        pieces: the twin, the role's tokens, or the segmentation, in the order of the text; empty where unknown.
        lexicon: the lexicon's entries; None without one.
        classes: (T,) uint8 ``TokenClass`` for rows made from ``pieces``.
        confidence: (T,) float32 in [0, 1].
        num_sources: S, rows of the source.
        same: the two vocabularies are one and the same.
        guided: (T,) bool, tokens about which the lexicon knows more than the segmentation.
        special: how special tokens were mapped; None for the same vocabulary.
    """

    pieces: Pieces
    lexicon: Pieces | None
    classes: np.ndarray
    confidence: np.ndarray
    num_sources: int
    same: bool
    guided: np.ndarray
    special: SpecialTokenMap | None = None

    @property
    def fixed(self) -> np.ndarray:
        """(T,) bool, tokens with a twin or a role: no method is asked about them."""
        return (self.classes == TokenClass.IDENTICAL) | (self.classes == TokenClass.ROLE)

    def automatic(self, side: Side) -> str:
        """The method that "auto" stands for: measured best, with a lexicon and without."""
        return GUIDED if side == "input" and self.lexicon is not None and not self.same else AUTO[side]

    def weigh(self, method: str, side: Side) -> tuple[sparse.csr_matrix, Pieces]:
        """The (T, S) weighting of a method, and the pieces that it weighed.

        Raises:
            ConfigError: a lexicon's method without a lexicon.
        """
        method = self.automatic(side) if method == "auto" else method
        if method == GUIDED and self.lexicon is not None:
            pieces = self.pieces.merged(self.lexicon, self.guided | (self.classes == TokenClass.LEXICON))
            function: RowMethod = self._weigh_guided
        elif method in LEXICON_METHODS:
            if self.lexicon is None:
                raise ConfigError(f"The rows '{method}' need a lexicon: give --lexicon, made by 'vocabalign align'.")
            pieces, function = self.pieces.merged(self.lexicon, ~self.fixed), LEXICON_METHODS[method]
        else:
            pieces, function = self.pieces, SEGMENTATION_METHODS[method]
            if self.lexicon is not None:
                pieces = pieces.merged(self.lexicon, self.classes == TokenClass.LEXICON)
        weights = function(pieces, side)
        several = np.repeat(self.classes == TokenClass.ROLE, pieces.lengths)  # an override may name several tokens
        return pieces.matrix(np.where(several, np.float32(1), weights), self.num_sources), pieces

    def _weigh_guided(self, pieces: Pieces, side: Side) -> np.ndarray:
        """The lexicon's weights for guided tokens, the last piece for the others."""
        by_lexicon = np.repeat(self.guided | (self.classes == TokenClass.LEXICON), pieces.lengths)
        return np.where(by_lexicon, pieces.weights, SEGMENTATION_METHODS["last"](pieces, side))

    def classes_for(self, *methods: str) -> np.ndarray:
        """(T,) uint8 classes as they are when rows are made by these methods."""
        if GUIDED in methods:
            return np.where(self.guided, TokenClass.LEXICON, self.classes).astype(np.uint8)
        if not any(method in LEXICON_METHODS for method in methods) or self.lexicon is None:
            return self.classes
        known = np.where(self.lexicon.lengths > 0, TokenClass.LEXICON, TokenClass.MEAN)
        free = ~self.fixed & (self.classes != TokenClass.PADDING)
        return np.where(free, known, self.classes).astype(np.uint8)


def find_sources(
    source: Vocabulary, target: Vocabulary, num_sources: int, lexicon: Lexicon | None, map_tokens: Overrides
) -> Sources:
    """Find the source tokens of every target token.

    Args:
        source: the model's vocabulary.
        target: the wanted one.
        num_sources: rows of the model; ids at or above it have no row and count as unknown.
        lexicon: entries for tokens without a twin.
        map_tokens: overrides for special tokens, TARGET -> SOURCE.

    Raises:
        ArtifactError: the lexicon was made for other vocabularies.
        ConfigError: an override names a token that does not exist or has no row, or contradicts another.
    """
    if lexicon is not None:
        check_lexicon(lexicon, source, target)
    same = source.fingerprint == target.fingerprint and not map_tokens
    special = None if same else map_special_tokens(source, target, map_tokens)
    if special is None:
        lists, classes, idle = _identity(target)
    else:
        _check_rows(source, special, num_sources)
        lists, classes, idle = _sources_by_bytes(source, target, special)
    pieces = Pieces.from_lists(lists).without(lambda ids: ids >= num_sources)
    entries = None
    if lexicon is not None:
        table = np.where(idle[:, None], -1, lexicon.source_ids)
        entries = Pieces.from_table(table, lexicon.weights).without(lambda ids: ids >= num_sources)
        classes[(pieces.lengths == 0) & (entries.lengths > 0) & (classes != TokenClass.PADDING)] = TokenClass.LEXICON
    classes[(pieces.lengths == 0) & ~np.isin(classes, (TokenClass.LEXICON, TokenClass.PADDING))] = TokenClass.MEAN
    confidence = np.zeros(len(target), np.float32)
    confidence[np.isin(classes, (TokenClass.IDENTICAL, TokenClass.ROLE))] = 1
    cut = classes == TokenClass.SEGMENTATION
    confidence[cut] = 1 / (1 + pieces.lengths[cut])
    guided = np.zeros(len(target), bool)
    if lexicon is not None and entries is not None:
        guided = cut & np.isin(lexicon.evidence, _GUIDES) & (entries.lengths > 0)
        told = guided | (classes == TokenClass.LEXICON)
        confidence[told] = np.maximum(confidence, lexicon.confidence)[told]
    return Sources(pieces, entries, classes, confidence, num_sources, same, guided, special)


def _check_rows(source: Vocabulary, special: SpecialTokenMap, num_sources: int) -> None:
    """Refuse overrides that name tokens beyond the model's rows; tell how collisions were resolved."""
    for target_id, rule in special.rules.items():
        missing = [i for i in special[target_id] if i >= num_sources]
        if rule == "override" and missing:
            raise ConfigError(
                f"The override for special tokens takes '{source.raw_tokens[missing[0]]}', id {missing[0]:,}, but the "
                f"source model has {num_sources:,} rows: name a token that has one."
            )
    for note in special.notes:
        logger.info("special tokens: %s", note)


def check_lexicon(lexicon: Lexicon, source: Vocabulary, target: Vocabulary) -> None:
    """Refuse a lexicon that was made for other vocabularies.

    Raises:
        ArtifactError: a fingerprint or the size differs.
    """
    wrong = []
    pairs = (("source", lexicon.source_fingerprint, source), ("target", lexicon.target_fingerprint, target))
    for side, fingerprint, vocabulary in pairs:
        if fingerprint != vocabulary.fingerprint:
            wrong.append(f"its {side} is {fingerprint[:12]}, '{vocabulary.name}' is {vocabulary.fingerprint[:12]}")
    if lexicon.num_targets != len(target):
        wrong.append(f"it has {lexicon.num_targets:,} target tokens, '{target.name}' has {len(target):,}")
    if wrong:
        raise ArtifactError(
            f"The lexicon was made for other tokenizers than '{source.name}' and '{target.name}': {'; '.join(wrong)}. "
            "Make it again with 'vocabalign align'."
        )


def counterparts(sources: Sources) -> dict[int, int]:
    """Source id -> the first target id that is its copy, for the ids in configuration files."""
    result: dict[int, int] = {}
    for target_id in np.flatnonzero(sources.fixed & (sources.pieces.lengths == 1)):
        result.setdefault(int(sources.pieces.of(int(target_id))[0]), int(target_id))
    return result


def _identity(target: Vocabulary) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    size = len(target)
    return [[i] for i in range(size)], np.full(size, TokenClass.IDENTICAL, np.uint8), np.zeros(size, bool)


def _sources_by_bytes(
    source: Vocabulary, target: Vocabulary, special: SpecialTokenMap
) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    """Twins by bytes, special tokens by role, the rest by the source's segmentation.

    A token is idle where running text uses another id for its bytes: a byte token whose byte is an ordinary token
    too, or GPT-NeoX's own runs of spaces. It takes the source's idle row with these bytes where there is one, else
    the mean, and a lexicon is not asked: a second copy of a used row would share its probability.

    Returns:
        Lists of source ids, (T,) classes, and (T,) bool: which tokens are idle.
    """
    twins, main_ids = ids_in_running_text(source), ids_in_running_text(target)
    idle_twins = idle_ids(source, twins)
    idle = np.zeros(len(target), bool)
    lists: list[list[int]] = [[] for _ in range(len(target))]
    classes = np.full(len(target), TokenClass.SEGMENTATION, np.uint8)
    open_ids: list[int] = []
    for token_id, token in enumerate(target.token_bytes):
        if token_id in special:
            lists[token_id], classes[token_id] = list(special[token_id]), TokenClass.ROLE
        elif token is None:
            no_token = target.raw_tokens[token_id] == "" and token_id not in target.special_ids
            classes[token_id] = TokenClass.PADDING if no_token else TokenClass.MEAN
        else:
            idle[token_id] = bool(token) and main_ids[token] != token_id
            twin = (idle_twins if idle[token_id] else twins).get(token)
            if twin is None and idle[token_id]:
                classes[token_id] = TokenClass.MEAN
            elif twin is None:
                open_ids.append(token_id)
            else:
                lists[token_id], classes[token_id] = [twin], TokenClass.IDENTICAL
    cuts: Sequence[Sequence[int]] = segment_many(source, [target.token_bytes[i] or b"" for i in open_ids])
    for token_id, cut in zip(open_ids, cuts, strict=True):
        lists[token_id] = list(cut)
    return lists, classes, idle
