"""Every way of making rows behind one interface: a weighting of source rows, and rows that are no such mixture.

``plan_rows`` says for one side, input or head, what becomes of each target token. Tokens with a twin or a role keep
the rows of these (but for WECHSEL, which copies nothing); the method decides about the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from vocabalign.errors import ConfigError
from vocabalign.transplantation.dense_rows import landmark_rows, normal_rows, scattered_rows, zero_rows
from vocabalign.transplantation.rows import LEXICON_METHODS, SEGMENTATION_METHODS, Pieces, Side
from vocabalign.transplantation.similarity_rows import (
    Mixture,
    map_by_shared,
    mix_by_pursuit,
    mix_by_softmax,
    mix_by_sparsemax,
    mix_nearest,
)
from vocabalign.transplantation.sources import GUIDED, Sources, TokenClass

# What a method needs beside the two tokenizers: fields of the stage's configuration.
NEEDS: dict[str, tuple[str, ...]] = {
    "lexicon": ("lexicon",),
    "lexicon-one": ("lexicon",),
    "focus": ("target_embeddings",),
    "wechsel": ("source_embeddings", "target_embeddings"),
    "nearest": ("target_model",),
    "barycentric": ("target_model",),
    "omp": ("target_model",),
    "landmark": ("target_model",),
}


@dataclass(frozen=True)
class Spaces:
    """Where target tokens lie beside text; None for what was not given.

    Attributes:
        target_vectors: (T, D) token embeddings of the target tokenizer; zero where a token has none.
        source_vectors: (S', D) token embeddings of the source tokenizer.
        owner: side -> (at least T, H') matrix of a model that owns the target vocabulary.
        seed: of everything drawn.
    """

    target_vectors: np.ndarray | None = None
    source_vectors: np.ndarray | None = None
    owner: Callable[[Side], Tensor] | None = None
    seed: int = 0


@dataclass(frozen=True)
class RowPlan:
    """How the rows of one side are made.

    Attributes:
        method: its name, with "auto" resolved.
        weights: (T, S) sparse float32; an empty row becomes the mean of the source's rows.
        classes: (T,) uint8 ``TokenClass``.
        pieces: source pieces in the order of the text, to which counting refers; None where it has no meaning.
        dense: ids (M,) and their rows (M, H) float32, which go before the weights.
    """

    method: str
    weights: sparse.csr_matrix
    classes: np.ndarray
    pieces: Pieces | None = None
    dense: tuple[np.ndarray, Tensor] = field(default_factory=lambda: (np.zeros(0, np.int64), torch.zeros(0, 0)))


def plan_rows(method: str, side: Side, sources: Sources, spaces: Spaces, source: Tensor) -> RowPlan:
    """Plan one side.

    Args:
        method: a name of ``ROW_METHODS``.
        side: which matrix the rows are for.
        sources: of the T target tokens.
        spaces: vectors and matrices that some methods need.
        source: (S, H) the source's matrix of this side.

    Raises:
        ConfigError: an unknown method, or one that needs what was not given.
    """
    method = sources.automatic(side) if method == "auto" else method
    if method == GUIDED or method in LEXICON_METHODS or method in SEGMENTATION_METHODS:
        weights, pieces = sources.weigh(method, side)
        return RowPlan(method, weights, sources.classes_for(method), pieces)
    if method not in ROW_METHODS:
        raise ConfigError(f"There are no rows '{method}'; there are {', '.join(('auto', *COMPOSED, *ROW_METHODS))}.")
    wanted = np.flatnonzero(np.isin(sources.classes, (TokenClass.SEGMENTATION, TokenClass.LEXICON)))
    return ROW_METHODS[method](method, side, sources, spaces, source, wanted)


def _mean(method: str, side: Side, sources: Sources, spaces: Spaces, source: Tensor, wanted: np.ndarray) -> RowPlan:
    """The mean of the source's rows for every token without a twin."""
    return RowPlan(method, _copies(sources), _classes(sources, wanted, TokenClass.MEAN))


def _dense(method: str, side: Side, sources: Sources, spaces: Spaces, source: Tensor, wanted: np.ndarray) -> RowPlan:
    """Rows that do not come from single source rows: normal, zero."""
    rows = zero_rows(source, len(wanted)) if method == "zero" else normal_rows(source, len(wanted), spaces.seed)
    return RowPlan(method, _copies(sources), _classes(sources, wanted, TokenClass.DRAWN), dense=(wanted, rows))


def _focus(method: str, side: Side, sources: Sources, spaces: Spaces, source: Tensor, wanted: np.ndarray) -> RowPlan:
    """FOCUS: sparsemax over similarities to shared tokens; tokens that no text showed are drawn."""
    vectors = torch.from_numpy(_given(spaces.target_vectors, method))
    shared, columns = _shared(sources)
    seen = vectors[shared].any(dim=1).numpy()
    mixture = mix_by_sparsemax(vectors[wanted], vectors[shared[seen]])
    return _mixed(method, sources, spaces, source, wanted, mixture, columns[seen])


def _wechsel(method: str, side: Side, sources: Sources, spaces: Spaces, source: Tensor, wanted: np.ndarray) -> RowPlan:
    """WECHSEL: a softmax over the nearest source tokens, for shared tokens too; shared tokens are the dictionary."""
    mine = torch.from_numpy(_given(spaces.source_vectors, method))[: sources.num_sources]
    theirs = torch.from_numpy(_given(spaces.target_vectors, method))
    shared, columns = _shared(sources)
    seen = (theirs[shared].any(dim=1) & mine[columns].any(dim=1)).numpy()
    usable = mine.any(dim=1).nonzero().flatten()
    every = np.flatnonzero(
        np.isin(sources.classes, (TokenClass.IDENTICAL, TokenClass.SEGMENTATION, TokenClass.LEXICON))
    )
    mapped = map_by_shared(theirs[every], theirs[shared[seen]], mine[columns[seen]])
    return _mixed(method, sources, spaces, source, every, mix_by_softmax(mapped, mine[usable]), usable.numpy())


def _by_owner(method: str, side: Side, sources: Sources, spaces: Spaces, source: Tensor, wanted: np.ndarray) -> RowPlan:
    """Mixtures of shared tokens as the owner of the target vocabulary would mix its own rows."""
    shared, columns = _shared(sources)
    matrix = _owned(spaces, method, side, len(sources.classes))
    mixture = _OWNER_MIXTURES[method](matrix[wanted].float(), matrix[shared].float())
    return _mixed(method, sources, spaces, source, wanted, mixture, columns)


def _landmark(method: str, side: Side, sources: Sources, spaces: Spaces, source: Tensor, wanted: np.ndarray) -> RowPlan:
    """The owner's rows, moved into the source's space."""
    shared, columns = _shared(sources)
    matrix = _owned(spaces, method, side, len(sources.classes))
    rows = landmark_rows(matrix[wanted].float(), matrix[shared].float(), source[torch.from_numpy(columns)].float())
    return RowPlan(method, _copies(sources), _classes(sources, wanted, TokenClass.SIMILARITY), dense=(wanted, rows))


def _mixed(
    method: str,
    sources: Sources,
    spaces: Spaces,
    source: Tensor,
    wanted: np.ndarray,
    mixture: Mixture,
    columns: np.ndarray,
) -> RowPlan:
    """A plan from a mixture whose owners index ``wanted`` and whose shared tokens index ``columns``."""
    shape = (len(sources.classes), sources.num_sources)
    owners, places = wanted[mixture.owners.numpy()], columns[mixture.shared.numpy()]
    found = sparse.csr_matrix((mixture.weights.numpy(), (owners, places)), shape, dtype=np.float32)
    kept = _copies(sources)
    kept = sparse.csr_matrix(sparse.diags((~_flags(wanted, shape[0])).astype(np.float32)) @ kept)
    weights = sparse.csr_matrix(kept + found, dtype=np.float32)
    weights.eliminate_zeros()
    nothing = wanted[np.diff(weights.indptr)[wanted] == 0]
    classes = _classes(sources, wanted, TokenClass.SIMILARITY)
    classes[nothing] = TokenClass.DRAWN
    return RowPlan(method, weights, classes, dense=(nothing, scattered_rows(source, len(nothing), spaces.seed)))


def _copies(sources: Sources) -> sparse.csr_matrix:
    """(T, S) weighting that copies twins and roles and leaves everything else empty."""
    weights = np.repeat(sources.fixed, sources.pieces.lengths).astype(np.float32)
    return sources.pieces.matrix(weights, sources.num_sources)


def _shared(sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    """Target ids of the tokens that both vocabularies have, and their source ids."""
    ids = np.flatnonzero((sources.classes == TokenClass.IDENTICAL) & (sources.pieces.lengths == 1))
    return ids, sources.pieces.ids[sources.pieces.starts[ids]].astype(np.int64)


def _classes(sources: Sources, wanted: np.ndarray, kind: TokenClass) -> np.ndarray:
    classes = sources.classes.copy()
    classes[wanted] = kind
    return classes


def _flags(ids: np.ndarray, size: int) -> np.ndarray:
    flags = np.zeros(size, bool)
    flags[ids] = True
    return flags


def _given(vectors: np.ndarray | None, method: str) -> np.ndarray:
    if vectors is None:
        flags = " and ".join("--" + name.replace("_", "-") for name in NEEDS[method])
        raise ConfigError(f"The rows '{method}' need {flags}, made by 'vocabalign embed'.")
    return vectors.astype(np.float32, copy=False)


def _owned(spaces: Spaces, method: str, side: Side, num_targets: int) -> Tensor:
    if spaces.owner is None:
        raise ConfigError(f"The rows '{method}' need --target-model, a model that owns the target vocabulary.")
    matrix = spaces.owner(side)
    if len(matrix) < num_targets:
        raise ConfigError(
            f"The model of --target-model has {len(matrix):,} rows, and the target vocabulary {num_targets:,} tokens: "
            "expected a model that was trained with this tokenizer."
        )
    return matrix


_OWNER_MIXTURES: dict[str, Callable[[Tensor, Tensor], Mixture]] = {
    "nearest": lambda wanted, shared: mix_nearest(wanted, shared, weighting="distance"),
    "barycentric": lambda wanted, shared: mix_nearest(wanted, shared, weighting="barycentric"),
    "omp": mix_by_pursuit,
}
COMPOSED: tuple[str, ...] = (*SEGMENTATION_METHODS, *LEXICON_METHODS)
ROW_METHODS: dict[str, Callable[[str, Side, Sources, Spaces, Tensor, np.ndarray], RowPlan]] = {
    "focus": _focus,
    "wechsel": _wechsel,
    "nearest": _by_owner,
    "barycentric": _by_owner,
    "omp": _by_owner,
    "landmark": _landmark,
    "mean": _mean,
    "normal": _dense,
    "zero": _dense,
}
