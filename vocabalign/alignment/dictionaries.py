"""Dictionaries that a map is learned from: the anchors, and what the map itself finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vocabalign.alignment.mapping_options import MappingOptions
from vocabalign.alignment.neighbors import mutual_nearest
from vocabalign.alignment.procrustes import solve_procrustes
from vocabalign.alignment.search import SearchOptions


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Pairs that a map is fitted to.

    Attributes:
        pairs: (P, 2) int64 source row and target row.
        weights: (P,) float64, how much each counts.
    """

    pairs: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, pairs: np.ndarray) -> Dictionary:
        """All pairs alike."""
        return cls(pairs, np.ones(len(pairs)))

    def rows(self, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(P, D) rows of both sides, scaled so that products of them carry the weights."""
        root = np.sqrt(self.weights)[:, None].astype(np.float32)
        return source[self.pairs[:, 0]] * root, target[self.pairs[:, 1]] * root

    def with_found(self, found: np.ndarray) -> Dictionary:
        """These pairs and those found that contradict none of them."""
        free = ~(np.isin(found[:, 0], self.pairs[:, 0]) | np.isin(found[:, 1], self.pairs[:, 1]))
        more = np.full(int(free.sum()), self.weights.mean())
        return Dictionary(np.concatenate([self.pairs, found[free]]), np.concatenate([self.weights, more]))


@dataclass(frozen=True, eq=False)
class Spaces:
    """Normalised vectors of both sides, with the rows that may join a dictionary.

    Attributes:
        source: (S, D) float32 rows of length 1 or 0.
        target: (T, D).
        frequent_source: (F,) int64 rows of the commonest source tokens.
        frequent_target: (G,) int64.
    """

    source: np.ndarray
    target: np.ndarray
    frequent_source: np.ndarray
    frequent_target: np.ndarray


@dataclass(frozen=True)
class Progress:
    """How learning went.

    Attributes:
        objectives: of each iteration.
        pairs: size of the dictionary in each iteration; the first is the number of seeds.
    """

    objectives: tuple[float, ...]
    pairs: tuple[int, ...]


def most_frequent(vectors: np.ndarray, counts: np.ndarray | None, cutoff: int) -> np.ndarray:
    """(F,) int64 rows with a vector, the ``cutoff`` commonest of them, ascending; without counts the first ones."""
    covered = np.flatnonzero(vectors.any(axis=1))
    if counts is None:
        return covered[:cutoff]
    return np.sort(covered[np.argsort(-counts[covered], kind="stable")[:cutoff]])


def anchors_alone(
    spaces: Spaces, seeds: Dictionary, options: MappingOptions, search: SearchOptions
) -> tuple[Dictionary, Progress]:
    """The seeds themselves; the objective is their mean cosine after the rotation."""
    rotated = spaces.source @ solve_procrustes(*seeds.rows(spaces.source, spaces.target))
    cosines = np.einsum("pd,pd->p", rotated[seeds.pairs[:, 0]], spaces.target[seeds.pairs[:, 1]])
    return seeds, Progress((float(cosines.mean()),), (len(seeds.pairs),))


def self_learning(
    spaces: Spaces, seeds: Dictionary, options: MappingOptions, search: SearchOptions
) -> tuple[Dictionary, Progress]:
    """Map, take the mutual nearest neighbours as the dictionary, map again; the best iteration wins, not the last.

    Inside the loop the map is a rotation. The objective is the sum of the dictionary's cosines over the number of
    common source tokens. Whenever it stands still, more pairs are kept, and with all kept it is done.

    Reference:
        Artetxe et al. (ACL 2018), sections 3.3 and 3.4.
    """
    dictionary, best, best_objective = seeds, seeds, -np.inf
    keep_probability, waited = options.keep_probability, 0
    objectives: list[float] = []
    pairs: list[int] = []
    for iteration in range(options.max_iterations):
        rotation = solve_procrustes(*dictionary.rows(spaces.source, spaces.target))
        pairs.append(len(dictionary.pairs))
        found, cosines = _found(spaces, rotation, options, search, keep_probability, options.seed + iteration)
        objectives.append(float(cosines.sum() / len(spaces.frequent_source)))
        if objectives[-1] > best_objective + options.threshold:
            best, best_objective, waited = dictionary, objectives[-1], 0
        else:
            waited += 1
        if waited >= options.patience:
            if keep_probability >= 1:
                break
            # Other draws give other objectives: what was best so far is no measure any more.
            keep_probability, best_objective = min(1.0, options.keep_multiplier * keep_probability), -np.inf
            waited = 0
        if len(found):
            dictionary = seeds.with_found(found) if options.keep_seeds else Dictionary.of(found)
    return best, Progress(tuple(objectives), tuple(pairs))


def refinement(
    spaces: Spaces, seeds: Dictionary, options: MappingOptions, search: SearchOptions
) -> tuple[Dictionary, Progress]:
    """Procrustes on the mutual nearest neighbours of the commonest tokens, a fixed number of times.

    The iteration whose pairs are most alike wins (mean cosine of the mutual nearest pairs over the number of common
    source tokens): a criterion that needs no known pairs.

    Reference:
        Conneau et al. (2018), sections 2.2 to 2.4.
    """
    dictionary = best = seeds
    objectives: list[float] = []
    pairs: list[int] = []
    for iteration in range(options.max_iterations + 1):
        rotation = solve_procrustes(*dictionary.rows(spaces.source, spaces.target))
        pairs.append(len(dictionary.pairs))
        found, cosines = _found(spaces, rotation, options, search, 1.0, options.seed + iteration)
        objective = float(cosines.sum() / len(spaces.frequent_source))
        if not objectives or objective > max(objectives):
            best = dictionary
        objectives.append(objective)
        if not len(found):
            break
        dictionary = seeds.with_found(found) if options.keep_seeds else Dictionary.of(found)
    return best, Progress(tuple(objectives), tuple(pairs))


def _found(
    spaces: Spaces,
    rotation: np.ndarray,
    options: MappingOptions,
    search: SearchOptions,
    keep_probability: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) mutual nearest pairs among common tokens, and their cosines."""
    source, target = spaces.frequent_source, spaces.frequent_target
    found, cosines = mutual_nearest(
        spaces.source[source] @ rotation,
        spaces.target[target],
        options.csls_neighbors,
        search,
        keep_probability=keep_probability,
        seed=seed,
    )
    return np.stack([source[found[:, 0]], target[found[:, 1]]], axis=1), cosines
