"""Mixtures of kinds of evidence whose weights are learned from events that none of them has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A cell is pulled towards the weights given beforehand as by so many target tokens, a script of a cell towards its
# cell's weights as by so many.
CELL_STRENGTH, SCRIPT_STRENGTH = 2.0, 10.0
PASSES, TOLERANCE = 100, 1e-4


@dataclass(frozen=True, eq=False)
class Events:
    """What was observed in held-out text: E times a source token that covers a target token.

    Attributes:
        probabilities: (E, L + 1) float64, what each of L layers says of the source token, and last the background,
            which is never 0. A layer that says nothing of the target token has 0.
        tokens: (E,) float64, running target tokens that the event stands for.
        targets: (E,) int64 target ids.
        cells: (E,) int64, which target tokens share their weights.
        scripts: (E,) int64.
    """

    probabilities: np.ndarray
    tokens: np.ndarray
    targets: np.ndarray
    cells: np.ndarray
    scripts: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def of(self, chosen: np.ndarray) -> Events:
        """The events at (N,) places, or where a (E,) mask is true."""
        columns = (self.probabilities, self.tokens, self.targets, self.cells, self.scripts)
        return Events(*(column[chosen] for column in columns))

    def without(self, layer: int) -> Events:
        """The same events with one layer silent."""
        probabilities = self.probabilities.copy()
        probabilities[:, layer] = 0
        return Events(probabilities, self.tokens, self.targets, self.cells, self.scripts)


@dataclass(frozen=True, eq=False)
class MixtureWeights:
    """Weights of L layers and the background, by cell and, within a cell, by script.

    Attributes:
        prior: (C, L + 1) weights of a cell of which nothing was observed; rows sum to 1.
        cells: (C, L + 1) learned weights of each cell.
        scripts: weights (L + 1,) of each (cell, script) that was observed.
    """

    prior: np.ndarray
    cells: np.ndarray
    scripts: dict[tuple[int, int], np.ndarray]

    def of(self, cells: np.ndarray, scripts: np.ndarray) -> np.ndarray:
        """(N, L + 1) weights of target tokens in (N,) cells and (N,) scripts."""
        keys, places = np.unique(np.stack([cells, scripts], axis=1), axis=0, return_inverse=True)
        table = [self.scripts.get((int(cell), int(script)), self.cells[cell]) for cell, script in keys]
        return np.stack(table)[places.ravel()] if len(keys) else np.zeros((0, self.cells.shape[1]))


def learn_weights(events: Events, prior: np.ndarray) -> MixtureWeights:
    """The weights under which the events are most likely, shrunk where few target tokens speak.

    For one cell or script the likelihood is concave in the weights, so expectation maximisation ends at its one
    maximum; the weights given beforehand are the mode of a Dirichlet prior. Against it a target token that was seen n
    times counts as the root of n: what it does is one token's habit.

    Args:
        events: held-out events.
        prior: (C, L + 1) weights beforehand, 0 for layers that say nothing in a cell; rows sum to 1.

    Reference:
        Jelinek and Mercer (1980) for interpolation weights learned on held-out text.
    """
    used, index = np.unique(events.cells, return_inverse=True)
    cells = prior.copy()
    cells[used] = _maximise(events, index, prior[used], CELL_STRENGTH)
    pairs, index = np.unique(np.stack([events.cells, events.scripts], axis=1), axis=0, return_inverse=True)
    by_script = _maximise(events, index.ravel(), cells[pairs[:, 0]], SCRIPT_STRENGTH)
    return MixtureWeights(prior, cells, {(int(c), int(s)): row for (c, s), row in zip(pairs, by_script, strict=True)})


def _maximise(events: Events, groups: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """(G, L + 1) weights of each group of events (E,), from (G, L + 1) prior weights."""
    num_groups, width = prior.shape
    if not len(events):
        return prior
    tokens = np.bincount(groups, events.tokens, num_groups)
    pairs, of_pair = np.unique(np.stack([groups, events.targets], axis=1), axis=0, return_inverse=True)
    roots = np.sqrt(np.bincount(of_pair.ravel(), events.tokens))
    worth = np.bincount(pairs[:, 0], roots, num_groups)
    values = events.tokens * (worth / np.maximum(tokens, 1e-300))[groups]
    weights: np.ndarray = prior
    for _ in range(PASSES):
        shares = weights[groups] * events.probabilities
        shares *= (values / shares.sum(axis=1))[:, None]
        counts: np.ndarray = np.stack(
            [np.bincount(groups, shares[:, layer], num_groups) for layer in range(width)], axis=1
        )
        counts = counts + strength * prior
        previous, weights = weights, counts / counts.sum(axis=1, keepdims=True)
        if np.abs(weights - previous).max() < TOLERANCE:
            break
    return weights


def bits(events: Events, weights: np.ndarray) -> np.ndarray:
    """(E,) bits that each event costs under (E, L + 1) weights, times the running tokens it stands for."""
    return -np.log2((weights * events.probabilities).sum(axis=1)) * events.tokens
