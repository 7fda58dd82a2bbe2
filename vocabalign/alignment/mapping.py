"""The map between two embedding spaces, learned from known pairs or from none, and grown by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vocabalign.alignment.dictionaries import (
    Dictionary,
    Progress,
    Spaces,
    anchors_alone,
    most_frequent,
    refinement,
    self_learning,
)
from vocabalign.alignment.mapping_options import MappingOptions
from vocabalign.alignment.neighbors import unit_rows
from vocabalign.alignment.procrustes import mean_of, normalise, solve_procrustes, whitened_maps
from vocabalign.alignment.search import SearchOptions
from vocabalign.alignment.unsupervised import unsupervised_dictionary
from vocabalign.errors import TooFewAnchorsError


@dataclass(frozen=True, eq=False)
class Mapping:
    """Both spaces carried into a common one; D dimensions.

    Attributes:
        source_mean: (D,) float32, subtracted from source rows of length 1.
        target_mean: (D,) float32.
        source_matrix: (D, D) float32, applied from the right.
        target_matrix: (D, D) float32.
        objectives: after each iteration the cosines of mutual nearest pairs, summed over the number of
            common source tokens; without self-learning the mean cosine of the anchors.
        pairs: size of the dictionary in each iteration; the first is the number of anchors.
    """

    source_mean: np.ndarray
    target_mean: np.ndarray
    source_matrix: np.ndarray
    target_matrix: np.ndarray
    objectives: tuple[float, ...]
    pairs: tuple[int, ...]

    def map_source(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D) source vectors -> (N, D) float32 rows of length 1 in the common space; zero rows stay zero."""
        return unit_rows(normalise(vectors, self.source_mean) @ self.source_matrix)

    def map_target(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D) target vectors -> (N, D) float32 rows of length 1 in the common space; zero rows stay zero."""
        return unit_rows(normalise(vectors, self.target_mean) @ self.target_matrix)


def learn_mapping(
    source_vectors: np.ndarray,
    target_vectors: np.ndarray,
    anchor_pairs: np.ndarray,
    *,
    source_counts: np.ndarray | None = None,
    target_counts: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    options: MappingOptions | None = None,
    search: SearchOptions | None = None,
) -> Mapping:
    """Learn the map from known pairs, or from none; with self-learning, from the pairs that it finds as well.

    Args:
        source_vectors: (S, D) float32, zero rows for tokens without a vector.
        target_vectors: (T, D) float32.
        anchor_pairs: (A, 2) int, source id and target id; pairs without vectors are left out, and an
            unsupervised start looks at none.
        source_counts: (S,) how common tokens are, for the frequency cut-off; by default all alike.
        target_counts: (T,).
        weights: (A,) non-negative, how much each anchor counts; by default all alike.
        options: choices, see ``MappingOptions``.
        search: device and memory of the searches.

    Raises:
        TooFewAnchorsError: fewer anchors than dimensions, so that a rotation is not determined.

    Reference:
        Artetxe et al. (AAAI 2018), section 3, for the steps; Artetxe et al. (ACL 2018), sections 3.2 to 3.4, for
        the unsupervised start, self-learning and dropping; Conneau et al. (2018) for the refined rotation;
        TokAlign++ (2605.13429) section 4.2.
    """
    options, search = options or MappingOptions(), search or SearchOptions()
    assert source_vectors.shape[1] == target_vectors.shape[1], (source_vectors.shape, target_vectors.shape)
    means = [mean_of(vectors, options.centre) for vectors in (source_vectors, target_vectors)]
    source, target = normalise(source_vectors, means[0]), normalise(target_vectors, means[1])
    spaces = Spaces(
        source,
        target,
        most_frequent(source, source_counts, options.frequency_cutoff),
        most_frequent(target, target_counts, options.frequency_cutoff),
    )
    if options.start == "unsupervised":
        pairs = unsupervised_dictionary(source, target, source_counts, target_counts, options, search)
        seeds = Dictionary.of(pairs)
    else:
        seeds = _usable_anchors(source_vectors, target_vectors, anchor_pairs, weights)
    dictionary, progress = _grown(spaces, seeds, options, search)
    rows = dictionary.rows(source, target)
    if options.method == "vecmap" and options.whiten:
        matrices = whitened_maps(*rows, options.reweight, options.dewhiten)
    else:
        matrices = solve_procrustes(*rows), np.eye(source.shape[1], dtype=np.float32)
    return Mapping(means[0], means[1], matrices[0], matrices[1], progress.objectives, progress.pairs)


def _grown(
    spaces: Spaces, seeds: Dictionary, options: MappingOptions, search: SearchOptions
) -> tuple[Dictionary, Progress]:
    way = options.method if options.method != "vecmap" or options.self_learning else "procrustes"
    return DICTIONARIES[way](spaces, seeds, options, search)


def _usable_anchors(
    source: np.ndarray, target: np.ndarray, pairs: np.ndarray, weights: np.ndarray | None
) -> Dictionary:
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    usable = source[pairs[:, 0]].any(axis=1) & target[pairs[:, 1]].any(axis=1)
    weights = np.ones(len(pairs)) if weights is None else np.asarray(weights, dtype=np.float64)
    needed, found = source.shape[1], int(usable.sum())
    if found < needed:
        raise TooFewAnchorsError(
            f"{found:,} of {len(pairs):,} shared tokens have embeddings on both sides; a rotation in {needed} "
            f"dimensions needs at least {needed}: give more text, learn embeddings of at most {max(1, found // 2)} "
            "dimensions, or start without anchors (start: unsupervised)."
        )
    return Dictionary(pairs[usable], weights[usable])


DICTIONARIES: dict[str, Callable[[Spaces, Dictionary, MappingOptions, SearchOptions], tuple[Dictionary, Progress]]] = {
    "procrustes": anchors_alone,
    "vecmap": self_learning,
    "muse": refinement,
}
