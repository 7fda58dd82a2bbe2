"""The steps of a linear map between two spaces: normalise, rotate, whiten, re-weight, de-whiten."""

from __future__ import annotations

import numpy as np

from vocabalign.alignment.neighbors import unit_rows


def normalise(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(N, D) rows of length 1, minus the (D,) mean, and of length 1 again; zero rows stay zero."""
    covered = vectors.any(axis=1, keepdims=True)
    return unit_rows((unit_rows(vectors) - mean) * covered)


def mean_of(vectors: np.ndarray, centre: bool) -> np.ndarray:
    """(D,) mean of the rows scaled to length 1, zero rows apart; zeros where ``centre`` is not wished."""
    covered = vectors.any(axis=1)
    if not centre or not covered.any():
        return np.zeros(vectors.shape[1], dtype=np.float32)
    return np.asarray(unit_rows(vectors[covered]).mean(axis=0))


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


def whitened_maps(
    source: np.ndarray, target: np.ndarray, reweight: float, dewhiten: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Maps of both sides from dictionary rows: whiten, rotate, re-weight, de-whiten.

    Args:
        source: (P, D) rows of the dictionary.
        target: (P, D).
        reweight: power of the singular values on each side; 0 for none, 0.5 in VecMap.
        dewhiten: whether each side gets its second moments back.

    Returns:
        (D, D) float32 matrices of the source and the target, applied from the right.

    Reference:
        Artetxe et al. (AAAI 2018), section 3: steps 1 to 4.
    """
    source, target = source.astype(np.float64), target.astype(np.float64)
    (white_source, black_source), (white_target, black_target) = _whitening(source), _whitening(target)
    left, singular, right = np.linalg.svd((source @ white_source).T @ (target @ white_target))
    stretch = np.diag(singular**reweight)
    source_matrix, target_matrix = white_source @ left @ stretch, white_target @ right.T @ stretch
    if dewhiten:
        # In the rotated space, each side with its own second moments.
        source_matrix = source_matrix @ left.T @ black_source @ left
        target_matrix = target_matrix @ right @ black_target @ right.T
    return source_matrix.astype(np.float32), target_matrix.astype(np.float32)


def _whitening(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric matrix that makes second moments the identity, and its inverse."""
    values, axes = np.linalg.eigh(rows.T @ rows)
    # Directions that the dictionary hardly spans would be blown up into noise.
    roots = np.sqrt(np.maximum(values, 1e-4 * values.max()))
    return (axes / roots) @ axes.T, (axes * roots) @ axes.T
