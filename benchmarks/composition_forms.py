"""Forms of "which row should this sequence of tokens become", learned from tokens whose row is known.

A form takes the pieces of N tokens, the rows of all S source tokens, the N true rows and how much each token is to be
believed, and gives a function from pieces to rows. All are least squares in closed form; none needs a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import nnls

from vocabalign.transplantation.rows import SEGMENTATION_METHODS, Pieces, Side

Predict = Callable[[Pieces], np.ndarray]
# (pieces of N tokens, (S, H) rows, (N, H) true rows, (N,) trust, side) -> predict
Form = Callable[[Pieces, np.ndarray, np.ndarray, np.ndarray, Side], Predict]
Basis = Callable[[Pieces], list[np.ndarray]]

FACTORS = np.round(np.arange(0, 1.01, 0.05), 2)
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
RANKS = (4, 16, 10_000)
SHARES = (0.0, 0.5, 1.0)
FOLDS = 5
# So many tokens' worth of belief that a dimension is scaled like all others.
DIAGONAL_PRIOR = 20.0


def select(pieces: Pieces, chosen: np.ndarray) -> Pieces:
    """Some tokens' pieces; ``chosen`` are indices."""
    return Pieces.from_lists([pieces.of(int(i)).tolist() for i in chosen])


def gather(pieces: Pieces, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(N, H): the sum of each token's piece rows with these weights."""
    owners = np.repeat(np.arange(len(pieces)), pieces.lengths)
    result = np.zeros((len(pieces), rows.shape[1]))
    used = np.flatnonzero(weights)
    np.add.at(result, owners[used], weights[used, None] * rows[pieces.ids[used]])
    return result


def fixed(method: str) -> Form:
    """A way of ``SEGMENTATION_METHODS``: nothing is learned."""

    def fit(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
        def predict(given: Pieces) -> np.ndarray:
            weights = SEGMENTATION_METHODS[method](given, side).astype(float)
            return gather(given, _shares(given, weights), rows)

        return predict

    return fit


def as_auto(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
    """The piece that ``auto`` takes: the last for inputs, the first for heads."""
    return fixed("last" if side == "input" else "first")(pieces, rows, truth, trust, side)


def learned_decay(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
    """factor^i from the end (inputs) or the start (heads), the factor learned; 0 is one piece, 1 the mean."""

    ways = [decay(factor)(pieces, rows, truth, trust, side) for factor in FACTORS.tolist()]
    return min(ways, key=lambda predict: squared_error(predict(pieces), truth, trust))


def decay(factor: float) -> Form:
    """factor^i from the end (inputs) or the start (heads), nothing learned."""

    def fit(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
        def predict(given: Pieces) -> np.ndarray:
            return gather(given, _shares(given, factor ** given.places()[side == "input"].astype(float)), rows)

        return predict

    return fit


def learned_weights(basis: Basis) -> Form:
    """Non-negative weights by position, and a constant row; see ``from_end`` and the like."""

    def fit(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
        parts = [gather(pieces, weights, rows) for weights in basis(pieces)]
        means, mean = [_average(part, trust) for part in parts], _average(truth, trust)
        root = np.sqrt(trust)[:, None]
        design = np.stack([(root * (part - centre)).ravel() for part, centre in zip(parts, means, strict=True)], 1)
        gram, right = design.T @ design, design.T @ (root * (truth - mean)).ravel()
        factor = np.linalg.cholesky(gram + 1e-9 * (1 + np.trace(gram)) * np.eye(len(gram)))
        weights = nnls(factor.T, np.linalg.solve(factor, right))[0]
        constant = mean - sum(weight * centre for weight, centre in zip(weights, means, strict=True))

        def predict(given: Pieces) -> np.ndarray:
            total = sum(weight * part for weight, part in zip(weights, basis(given), strict=True))
            return constant + gather(given, np.asarray(total), rows)

        return predict

    return fit


def from_end(pieces: Pieces) -> list[np.ndarray]:
    """The last piece, the one before it, earlier ones."""
    place = pieces.places()[1]
    return [(place == 0).astype(float), (place == 1).astype(float), (place > 1).astype(float)]


def from_start(pieces: Pieces) -> list[np.ndarray]:
    """The first piece, the second, later ones."""
    place = pieces.places()[0]
    return [(place == 0).astype(float), (place == 1).astype(float), (place > 1).astype(float)]


def from_both(pieces: Pieces) -> list[np.ndarray]:
    """Positions from both ends, and the mean."""
    return [*from_start(pieces), *from_end(pieces), _shares(pieces, np.ones(len(pieces.ids)))]


def with_diagonal(base: Form) -> Form:
    """Each dimension of the base scaled by a factor of its own, shrunk towards 1."""

    def fit(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
        predict_base = base(pieces, rows, truth, trust, side)
        made = predict_base(pieces)
        centre, mean = _average(made, trust), _average(truth, trust)
        product = (trust[:, None] * (made - centre) * (truth - mean)).sum(0)
        square = (trust[:, None] * (made - centre) ** 2).sum(0)
        prior = DIAGONAL_PRIOR * square.mean() / max(trust.sum(), 1e-9)
        scale = (product + prior) / (square + prior)
        return lambda given: mean + scale * (predict_base(given) - centre)

    return fit


def with_residual(base: Form) -> Form:
    """The base, and what a map of first, last and mean adds: ridge, rank and share chosen by cross-validation."""

    def fit(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
        errors = dict.fromkeys([(p, r, s) for p in PENALTIES for r in RANKS for s in SHARES], 0.0)
        for inner, outer in _folds(len(pieces)):
            part, rest = select(pieces, inner), select(pieces, outer)
            predict = base(part, rows, truth[inner], trust[inner], side)
            made, missing = predict(rest), truth[inner] - predict(part)
            for penalty in PENALTIES:
                factors = ridge(_ends(part, rows), missing, trust[inner], penalty)
                for rank in RANKS:
                    added = _apply(factors, _ends(rest, rows), rank)
                    for share in SHARES:
                        error = squared_error(made + share * added, truth[outer], trust[outer])
                        errors[penalty, rank, share] += error
        penalty, rank, share = min(errors, key=errors.__getitem__)
        predict_base = base(pieces, rows, truth, trust, side)
        factors = ridge(_ends(pieces, rows), truth - predict_base(pieces), trust, penalty)
        return lambda given: predict_base(given) + share * _apply(factors, _ends(given, rows), rank)

    return fit


def at_full_spread(base: Form) -> Form:
    """The base stretched about its mean until it varies as much as true rows do: least squares shrinks."""

    def fit(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
        predict_base = base(pieces, rows, truth, trust, side)
        made = predict_base(pieces)
        centre, mean = _average(made, trust), _average(truth, trust)
        wanted = squared_error(truth, np.broadcast_to(mean, truth.shape), trust)
        stretch = np.sqrt(wanted / max(squared_error(made, np.broadcast_to(centre, made.shape), trust), 1e-12))
        return lambda given: mean + stretch * (predict_base(given) - centre)

    return fit


def nothing(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
    """The mean of the true rows, whatever the pieces."""
    mean = _average(truth, trust)
    return lambda given: np.tile(mean, (len(given), 1))


def plain_ridge(pieces: Pieces, rows: np.ndarray, truth: np.ndarray, trust: np.ndarray, side: Side) -> Predict:
    """Ridge on first, middle and last piece, with so little a penalty that only what is singular is shrunk."""

    def ends(given: Pieces) -> np.ndarray:
        from_first, from_last = given.places()
        middle = ((from_first > 0) & (from_last > 0)).astype(float)
        parts = ((from_first == 0).astype(float), _shares(given, middle), (from_last == 0).astype(float))
        return np.concatenate([gather(given, part, rows) for part in parts], axis=1)

    factors = ridge(ends(pieces), truth, trust, 0.01)
    return lambda given: _apply(factors, ends(given), RANKS[-1])


def ridge(inputs: np.ndarray, truth: np.ndarray, trust: np.ndarray, penalty: float) -> tuple[np.ndarray, ...]:
    """Weighted ridge with a free constant: input mean, truth mean, map, and the directions of what it gives.

    The penalty is in tokens: so many imagined ones of average inputs whose truth is the mean.
    """
    centre, mean = _average(inputs, trust), _average(truth, trust)
    root = np.sqrt(trust)[:, None]
    left, right = root * (inputs - centre), root * (truth - mean)
    gram = left.T @ left
    scale = np.trace(gram) / len(gram) / max(trust.sum(), 1e-9)
    mapping = np.linalg.solve(gram + (penalty * scale + 1e-9) * np.eye(len(gram)), left.T @ right)
    given = left @ mapping
    directions = np.linalg.eigh(given.T @ given)[1][:, ::-1]
    return centre, mean, mapping, directions


def squared_error(made: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Weighted sum of squares."""
    return float((weights * ((made - truth) ** 2).sum(1)).sum())


def _apply(factors: Sequence[np.ndarray], inputs: np.ndarray, rank: int) -> np.ndarray:
    centre, mean, mapping, directions = factors
    kept = directions[:, :rank]
    return mean + (inputs - centre) @ (mapping @ kept) @ kept.T


def _ends(pieces: Pieces, rows: np.ndarray) -> np.ndarray:
    """(N, 3H): first piece, last piece, mean."""
    from_first, from_last = pieces.places()
    evenly = _shares(pieces, np.ones(len(from_last)))
    weights = ((from_first == 0).astype(float), (from_last == 0).astype(float), evenly)
    return np.concatenate([gather(pieces, part, rows) for part in weights], axis=1)


def _shares(pieces: Pieces, weights: np.ndarray) -> np.ndarray:
    """The weights so that each token's sum is 1, or 0 where all are."""
    owners = np.repeat(np.arange(len(pieces)), pieces.lengths)
    totals = np.bincount(owners, weights, minlength=len(pieces))[owners]
    return np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)


def _average(values: np.ndarray, trust: np.ndarray) -> np.ndarray:
    return (trust[:, None] * values).sum(0) / max(trust.sum(), 1e-9)


def _folds(size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    fold = np.random.default_rng(0).permutation(size) % FOLDS
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(FOLDS)]


_LINEAR = learned_weights(from_both)
FORMS: dict[str, Form] = {
    "no composition": nothing,
    "mean": fixed("fvt"),
    "last": fixed("last"),
    "first": fixed("first"),
    "decay 0.5": fixed("decay"),
    "decay 0.15": fixed("steep"),
    "decay, learned": learned_decay,
    "weights from the end": learned_weights(from_end),
    "weights from the start": learned_weights(from_start),
    "weights from both": _LINEAR,
    "weights × diagonal": with_diagonal(_LINEAR),
    "+ residual": with_residual(with_diagonal(_LINEAR)),
    "weights, full spread": at_full_spread(_LINEAR),
    "+ residual, full spread": at_full_spread(with_residual(with_diagonal(_LINEAR))),
    "auto + residual": with_residual(as_auto),
    "plain ridge": plain_ridge,
}
