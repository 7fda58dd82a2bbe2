"""A first dictionary without any known pair: tokens whose similarities to their own side are distributed alike."""

from __future__ import annotations

import numpy as np

from vocabalign.alignment.dictionaries import most_frequent
from vocabalign.alignment.mapping_options import MappingOptions
from vocabalign.alignment.neighbors import mutual_nearest
from vocabalign.alignment.procrustes import mean_of, normalise
from vocabalign.alignment.search import SearchOptions


def similarity_distributions(vectors: np.ndarray) -> np.ndarray:
    """What each token's similarities to all others look like, whatever the others are called.

    The symmetric square root of ``X X^T`` has one row for each token; sorted, rows of two spaces that differ by a
    rotation and by the order of their tokens are equal.

    Args:
        vectors: (F, D) float32 rows of length 1.

    Returns:
        (F, F) float32 rows, each sorted in ascending order, normalised, centred and normalised again.

    Reference:
        Artetxe et al. (ACL 2018), section 3.2.
    """
    left, singular, _ = np.linalg.svd(vectors.astype(np.float64), full_matrices=False)
    root = np.sort((left * singular) @ left.T, axis=1)
    return normalise(root, mean_of(root, centre=True)).astype(np.float32)


def unsupervised_dictionary(
    source: np.ndarray,
    target: np.ndarray,
    source_counts: np.ndarray | None,
    target_counts: np.ndarray | None,
    options: MappingOptions,
    search: SearchOptions,
) -> np.ndarray:
    """(P, 2) int64 pairs of common tokens whose similarity distributions are mutually nearest.

    Only a beginning: most pairs are wrong, and self-learning has to make a map of them.

    Args:
        source: (S, D) float32 normalised rows; zero rows take no part.
        target: (T, D).
        source_counts: (S,) how common tokens are; by default all alike.
        target_counts: (T,).
        options: ``unsupervised_tokens`` and ``csls_neighbors``.
        search: device and memory.
    """
    rows = [
        most_frequent(vectors, counts, options.unsupervised_tokens)
        for vectors, counts in ((source, source_counts), (target, target_counts))
    ]
    # Rows of equal length: as many tokens on both sides.
    size = min(map(len, rows))
    rows = [
        most_frequent(vectors, counts, size) for vectors, counts in ((source, source_counts), (target, target_counts))
    ]
    of_source, of_target = similarity_distributions(source[rows[0]]), similarity_distributions(target[rows[1]])
    found, _ = mutual_nearest(of_source, of_target, options.csls_neighbors, search)
    return np.stack([rows[0][found[:, 0]], rows[1][found[:, 1]]], axis=1)
