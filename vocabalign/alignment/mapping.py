"""The orthogonal map between two embedding spaces, learned from known pairs and grown by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vocabalign.alignment.neighbors import mutual_nearest, unit_rows
from vocabalign.errors import TooFewAnchorsError


@dataclass(frozen=True)
class MappingOptions:
    """What the papers leave open, with the choices taken here.

    Attributes:
        centre: subtract each space's mean after scaling rows to length 1.
        whiten: decorrelate each space on the dictionary before the last rotation, and undo it after.
        reweight: power of the singular values that multiplies both sides (0.5 in VecMap); needs ``whiten``.
        self_learning: grow the dictionary by mutual nearest neighbours.
        csls_neighbors: neighbourhood size of CSLS while the dictionary grows.
        frequency_cutoff: only this many of the commonest tokens of each side join the dictionary.
        max_iterations: mappings learned at most.
        threshold: the mean cosine must rise by this much, or the dictionary is done.
        keep_probability: share of source tokens that may pair in an iteration; below 1 it doubles
            whenever the objective stands still (VecMap's stochastic dropping).
        seed: of the dropping.
    """

    centre: bool = True
    whiten: bool = True
    reweight: float = 0.5
    self_learning: bool = True
    csls_neighbors: int = 10
    frequency_cutoff: int = 20_000
    max_iterations: int = 10
    threshold: float = 1e-4
    keep_probability: float = 1.0
    seed: int = 0


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
        return unit_rows(_normalise(vectors, self.source_mean) @ self.source_matrix)

    def map_target(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D) target vectors -> (N, D) float32 rows of length 1 in the common space; zero rows stay zero."""
        return unit_rows(_normalise(vectors, self.target_mean) @ self.target_matrix)


def _normalise(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Length 1, minus the mean, length 1 again; zero rows stay zero."""
    covered = vectors.any(axis=1, keepdims=True)
    return unit_rows((unit_rows(vectors) - mean) * covered)


def _mean(vectors: np.ndarray, centre: bool) -> np.ndarray:
    covered = vectors.any(axis=1)
    if not centre or not covered.any():
        return np.zeros(vectors.shape[1], dtype=np.float32)
    return unit_rows(vectors[covered]).mean(axis=0)


def solve_procrustes(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation that best carries anchor vectors of the source space onto the target space.

    Only a rotation is allowed, so distances inside each space stay what training made them; an
    unconstrained map would fit the anchors better and every other token worse.

    Args:
        source: (num_anchors, D) rows.
        target: (num_anchors, D), row i the counterpart of ``source[i]``.

    Returns:
        (D, D) orthogonal float32 matrix W; ``source @ W`` lies in the target space.

    Reference:
        Schoenemann (1966).
    """
    assert source.shape == target.shape, (source.shape, target.shape)
    left, _, right = np.linalg.svd(source.T.astype(np.float64) @ target.astype(np.float64))
    return (left @ right).astype(np.float32)


def learn_mapping(
    source_vectors: np.ndarray,
    target_vectors: np.ndarray,
    anchor_pairs: np.ndarray,
    *,
    source_counts: np.ndarray | None = None,
    target_counts: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    options: MappingOptions | None = None,
    device: str = "cpu",
    block_mebibytes: int = 256,
) -> Mapping:
    """Learn the map from known pairs; with self-learning, from the pairs that it finds as well.

    Inside the loop the map is a rotation; the last one is whitened, re-weighted and de-whitened. The
    anchors stay in the dictionary whatever happens, and the best iteration wins, not the last.

    Args:
        source_vectors: (S, D) float32, zero rows for tokens without a vector.
        target_vectors: (T, D) float32.
        anchor_pairs: (A, 2) int, source id and target id; pairs without vectors are left out.
        source_counts: (S,) how common tokens are, for the frequency cut-off; by default all alike.
        target_counts: (T,).
        weights: (A,) non-negative, how much each anchor counts; by default all alike.
        options: choices, see ``MappingOptions``.
        device: ``cpu`` or ``cuda``.
        block_mebibytes: memory for one block of similarities.

    Raises:
        TooFewAnchorsError: fewer anchors than dimensions, so that a rotation is not determined.

    Reference:
        Artetxe et al. (AAAI 2018), section 3, for the steps; Artetxe et al. (ACL 2018), section 3.3, for
        self-learning and dropping; TokAlign++ (2605.13429) section 4.2.
    """
    options = options or MappingOptions()
    assert source_vectors.shape[1] == target_vectors.shape[1], (source_vectors.shape, target_vectors.shape)
    seeds, seed_weights = _usable_anchors(source_vectors, target_vectors, anchor_pairs, weights)
    source_mean = _mean(source_vectors, options.centre)
    target_mean = _mean(target_vectors, options.centre)
    source = _normalise(source_vectors, source_mean)
    target = _normalise(target_vectors, target_mean)
    dictionary, dictionary_weights = seeds, seed_weights
    best, best_objective = (dictionary, dictionary_weights), -np.inf
    objectives: list[float] = []
    pairs: list[int] = []
    frequent_source = _most_frequent(source, source_counts, options.frequency_cutoff)
    frequent_target = _most_frequent(target, target_counts, options.frequency_cutoff)
    keep_probability, rng = options.keep_probability, np.random.default_rng(options.seed)
    for _ in range(options.max_iterations if options.self_learning else 1):
        rotation = solve_procrustes(*_dictionary_rows(source, target, dictionary, dictionary_weights))
        rotated = source @ rotation
        pairs.append(len(dictionary))
        if not options.self_learning:
            objectives.append(_mean_cosine(rotated, target, dictionary))
            best = (dictionary, dictionary_weights)
            break
        keep = None if keep_probability >= 1 else rng.random(len(frequent_source)) < keep_probability
        found, cosines = mutual_nearest(
            rotated[frequent_source],
            target[frequent_target],
            options.csls_neighbors,
            keep=keep,
            device=device,
            block_mebibytes=block_mebibytes,
        )
        # The objective looks at all common tokens, not only at those that the map was fitted to.
        objectives.append(float(cosines.sum() / (len(frequent_source) * min(1.0, keep_probability))))
        if objectives[-1] > best_objective + options.threshold:
            best, best_objective = (dictionary, dictionary_weights), objectives[-1]
        elif keep_probability >= 1:
            break
        else:
            keep_probability, best_objective = min(1.0, 2 * keep_probability), -np.inf
        found = np.stack([frequent_source[found[:, 0]], frequent_target[found[:, 1]]], axis=1)
        dictionary, dictionary_weights = _grow(seeds, seed_weights, found)
    source_matrix, target_matrix = _final_matrices(*_dictionary_rows(source, target, *best), options)
    return Mapping(source_mean, target_mean, source_matrix, target_matrix, tuple(objectives), tuple(pairs))


def _final_matrices(source: np.ndarray, target: np.ndarray, options: MappingOptions) -> tuple[np.ndarray, np.ndarray]:
    """Maps of both sides from dictionary rows: whiten, rotate, re-weight, de-whiten (AAAI 2018, table 1)."""
    source, target = source.astype(np.float64), target.astype(np.float64)
    if not options.whiten:
        return solve_procrustes(source, target), np.eye(source.shape[1], dtype=np.float32)
    (white_source, black_source), (white_target, black_target) = _whitening(source), _whitening(target)
    left, singular, right = np.linalg.svd((source @ white_source).T @ (target @ white_target))
    stretch = np.diag(singular**options.reweight)
    # De-whitening happens in the rotated space, each side with its own second moments.
    source_matrix = white_source @ left @ stretch @ left.T @ black_source @ left
    target_matrix = white_target @ right.T @ stretch @ right @ black_target @ right.T
    return source_matrix.astype(np.float32), target_matrix.astype(np.float32)


def _whitening(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric matrix that makes second moments the identity, and its inverse."""
    values, axes = np.linalg.eigh(rows.T @ rows)
    # Directions that the dictionary hardly spans would be blown up into noise.
    roots = np.sqrt(np.maximum(values, 1e-4 * values.max()))
    return (axes / roots) @ axes.T, (axes * roots) @ axes.T


def _usable_anchors(
    source: np.ndarray, target: np.ndarray, pairs: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    usable = source[pairs[:, 0]].any(axis=1) & target[pairs[:, 1]].any(axis=1)
    weights = np.ones(len(pairs)) if weights is None else np.asarray(weights, dtype=np.float64)
    needed, found = source.shape[1], int(usable.sum())
    if found < needed:
        raise TooFewAnchorsError(
            f"{found:,} of {len(pairs):,} shared tokens have embeddings on both sides; a rotation in {needed} "
            f"dimensions needs at least {needed}: give more text, or learn embeddings of at most {max(1, found // 2)} "
            "dimensions."
        )
    return pairs[usable], weights[usable]


def _most_frequent(vectors: np.ndarray, counts: np.ndarray | None, cutoff: int) -> np.ndarray:
    covered = np.flatnonzero(vectors.any(axis=1))
    if counts is None:
        return covered[:cutoff]
    return np.sort(covered[np.argsort(-counts[covered], kind="stable")[:cutoff]])


def _dictionary_rows(
    source: np.ndarray, target: np.ndarray, pairs: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    root = np.sqrt(weights)[:, None].astype(np.float32)
    return source[pairs[:, 0]] * root, target[pairs[:, 1]] * root


def _mean_cosine(source: np.ndarray, target: np.ndarray, pairs: np.ndarray) -> float:
    return float(np.einsum("pd,pd->p", source[pairs[:, 0]], target[pairs[:, 1]]).mean())


def _grow(seeds: np.ndarray, seed_weights: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The seeds and those found pairs that contradict none of them."""
    free = ~(np.isin(found[:, 0], seeds[:, 0]) | np.isin(found[:, 1], seeds[:, 1]))
    new_weights = np.full(int(free.sum()), seed_weights.mean())
    return np.concatenate([seeds, found[free]]), np.concatenate([seed_weights, new_weights])
