"""GloVe: vectors whose products are the logarithms of co-occurrences, learned tile by tile.

The published trainer goes through the co-occurrences one by one and touches two rows and their AdaGrad sums for each.
Here rows and columns are permuted and cut into P parts each, and a tile (part of rows, part of columns) is one step
of stochastic gradient descent: two sparse products on rows that fit the processor's cache, and one AdaGrad update of
each row instead of one for each co-occurrence. In one epoch a row still takes P steps.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

# A row meets about this many co-occurrences in a tile: fewer cost time, more make the steps fewer.
PAIRS_PER_STEP = 16
FEWEST_PARTS, MOST_PARTS = 8, 128
# The biases are learned without the small rate, as in the authors' program: they must span ln(max X).
BIAS_RATE = 1.0
_TINY = 1e-8


@dataclass(frozen=True, kw_only=True)
class GloveOptions:
    """Choices of the training; the defaults are the paper's, section 4.2.

    Attributes:
        dimensions: D.
        epochs: passes over the co-occurrences; the authors take 15 to 100.
        x_max: a pair that co-occurs so often, or more often, has the full weight 1.
        alpha: exponent of the weight below that.
        learning_rate: of AdaGrad.
    """

    dimensions: int
    epochs: int = 15
    x_max: float = 100.0
    alpha: float = 0.75
    learning_rate: float = 0.05


@dataclass(frozen=True, eq=False)
class Glove:
    """What was learned; V tokens, D dimensions.

    Attributes:
        words: (V, D) float32 w; zero where a token co-occurs with nothing.
        contexts: (V, D) float32 w~.
        word_biases: (V,) float32 b.
        context_biases: (V,) float32 b~.
        objectives: for each epoch the mean weighted squared error over the pairs as they came, halved.
    """

    words: np.ndarray
    contexts: np.ndarray
    word_biases: np.ndarray
    context_biases: np.ndarray
    objectives: tuple[float, ...]

    @property
    def vectors(self) -> np.ndarray:
        """(V, D) float32: w + w~, which the paper uses (section 4.2)."""
        return self.words + self.contexts


@dataclass(frozen=True, eq=False)
class _Tile:
    """The n co-occurrences of R rows with C columns, by rows and by columns.

    Attributes:
        rows: (n,) int32, of each pair, ascending.
        columns: (n,) int32.
        row_ends: (R + 1,) int32, where the pairs of each row begin and end.
        by_column: (n,) int64, the pairs in the order of columns.
        column_rows: (n,) int32, rows in that order.
        column_ends: (C + 1,) int32.
        logarithms: (n,) float32, ln X.
        weights: (n,) float32, f(X).
    """

    rows: torch.Tensor
    columns: torch.Tensor
    row_ends: torch.Tensor
    by_column: torch.Tensor
    column_rows: torch.Tensor
    column_ends: torch.Tensor
    logarithms: torch.Tensor
    weights: torch.Tensor


class _Side:
    """Vectors and biases of one side with their AdaGrad sums, in the permuted order."""

    def __init__(self, size: int, dimensions: int, generator: torch.Generator) -> None:
        self.vectors = (torch.rand(size, dimensions, generator=generator) - 0.5) / dimensions
        self.biases = (torch.rand(size, generator=generator) - 0.5) / dimensions
        self.vector_sums = torch.full_like(self.vectors, _TINY)
        self.bias_sums = torch.full_like(self.biases, _TINY)

    def part(self, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors and biases of some rows."""
        return self.vectors[part], self.biases[part]

    def step(self, part: slice, gradients: tuple[torch.Tensor, torch.Tensor], rate: float) -> None:
        """AdaGrad (Duchi et al. 2011) on some rows."""
        state = ((self.vectors, self.vector_sums, rate), (self.biases, self.bias_sums, BIAS_RATE))
        for (values, sums, scale), gradient in zip(state, gradients, strict=True):
            sums[part].addcmul_(gradient, gradient)
            values[part].addcdiv_(gradient, sums[part].sqrt(), value=-scale)


def train_glove(cooccurrence: sparse.csr_matrix, options: GloveOptions, seed: int, threads: int = 1) -> Glove:
    """Minimise ``sum of f(X_ij) (w_i w~_j + b_i + b~_j - ln X_ij)^2`` with ``f(X) = min(1, (X / x_max)^alpha)``.

    The result follows from the seed alone: threads work on tiles that share no row and change nothing.

    Args:
        cooccurrence: (V, V) X, not negative; zeros take no part.
        options: see ``GloveOptions``.
        seed: of the start, of the permutations and of the order of tiles.
        threads: processor threads.

    Returns:
        Vectors and biases; ``objectives`` that are not finite tell that it diverged.

    Reference:
        Pennington, Socher, Manning (2014), equations 8 and 9. Tiles in strata that share no row: Gemulla et al. (2011).
    """
    size = cooccurrence.shape[0]
    used = np.flatnonzero(np.diff(cooccurrence.indptr) + np.bincount(cooccurrence.indices, minlength=size))
    rng = np.random.default_rng(seed)
    row_order, column_order = rng.permutation(used), rng.permutation(used)
    parts = _num_parts(cooccurrence.nnz, len(used))
    bounds = np.linspace(0, len(used), parts + 1).astype(int)
    slices = [slice(int(a), int(b)) for a, b in zip(bounds, bounds[1:])]
    tiles = _cut(sparse.csr_matrix(cooccurrence[row_order][:, column_order]), slices, options)
    generator = torch.Generator().manual_seed(seed)
    words, contexts = (_Side(len(used), options.dimensions, generator) for _ in range(2))

    def learn(place: tuple[int, int]) -> float:
        tile, rows, columns = tiles[place[0]][place[1]], slices[place[0]], slices[place[1]]
        if tile is None:
            return 0.0
        error, for_words, for_contexts = tile_gradients(tile, words.part(rows), contexts.part(columns))
        words.step(rows, for_words, options.learning_rate)
        contexts.step(columns, for_contexts, options.learning_rate)
        return error

    objectives = []
    with _workers(threads) as run:
        for _ in range(options.epochs):
            total = sum(sum(run(learn, stratum)) for stratum in _strata(parts, rng))
            objectives.append(total / max(1, cooccurrence.nnz))
    sides = [(words, row_order), (contexts, column_order)]
    vectors = [_unpermuted(side.vectors.numpy(), order, size) for side, order in sides]
    biases = [_unpermuted(side.biases.numpy(), order, size) for side, order in sides]
    return Glove(vectors[0], vectors[1], biases[0], biases[1], tuple(objectives))


def tile_gradients(
    tile: _Tile, words: tuple[torch.Tensor, torch.Tensor], contexts: tuple[torch.Tensor, torch.Tensor]
) -> tuple[float, tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Half the weighted squared error of a tile, and its gradients.

    Args:
        tile: R rows, C columns.
        words: (R, D) vectors and (R,) biases.
        contexts: (C, D) and (C,).

    Returns:
        The error, gradients of the words' vectors and biases, and of the contexts'.
    """
    shape = (len(words[0]), len(contexts[0]))
    pattern = torch.sparse_csr_tensor(tile.row_ends, tile.columns, tile.logarithms, shape)
    difference = torch.sparse.sampled_addmm(pattern, words[0], contexts[0].T, beta=-1.0).values()
    difference += words[1][tile.rows]
    difference += contexts[1][tile.columns]
    weighted = tile.weights * difference
    by_row = torch.sparse_csr_tensor(tile.row_ends, tile.columns, weighted, shape)
    by_column = torch.sparse_csr_tensor(tile.column_ends, tile.column_rows, weighted[tile.by_column], shape[::-1])
    row_sums = torch.zeros(shape[0]).index_add_(0, tile.rows, weighted)
    column_sums = torch.zeros(shape[1]).index_add_(0, tile.columns, weighted)
    error = 0.5 * float(torch.dot(weighted, difference))
    return error, (by_row @ contexts[0], row_sums), (by_column @ words[0], column_sums)


def pair_weights(values: np.ndarray, x_max: float, alpha: float) -> np.ndarray:
    """f(X), float32: how much a pair that co-occurs so often counts (equation 9)."""
    return np.minimum(1.0, (values / x_max) ** alpha).astype(np.float32)


def _num_parts(num_pairs: int, num_tokens: int) -> int:
    wanted = num_pairs // max(1, num_tokens * PAIRS_PER_STEP)
    return max(1, min(max(FEWEST_PARTS, wanted), MOST_PARTS, num_tokens))


def _strata(parts: int, rng: np.random.Generator) -> Iterator[list[tuple[int, int]]]:
    """All tiles once, in rounds in which each part of rows meets another part of columns: no two touch one row."""
    for shift in rng.permutation(parts).tolist():
        yield [(row, (row + shift) % parts) for row in range(parts)]


def _cut(table: sparse.csr_matrix, slices: list[slice], options: GloveOptions) -> list[list[_Tile | None]]:
    """The table's tiles, part of rows by part of columns; None where there is nothing."""
    stripes = (table[part].tocsc() for part in slices)
    return [[_make_tile(stripe[:, part], options) for part in slices] for stripe in stripes]


def _make_tile(block: sparse.csc_matrix, options: GloveOptions) -> _Tile | None:
    if not block.nnz:
        return None
    block = sparse.csr_matrix(block)
    block.sort_indices()
    places = np.arange(block.nnz, dtype=np.int64)
    by_column = sparse.csr_matrix((places, block.indices, block.indptr), shape=block.shape).tocsc()
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    return _Tile(
        _int32(rows),
        _int32(block.indices),
        _int32(block.indptr),
        torch.from_numpy(by_column.data),
        _int32(by_column.indices),
        _int32(by_column.indptr),
        torch.from_numpy(np.log(block.data).astype(np.float32)),
        torch.from_numpy(pair_weights(block.data, options.x_max, options.alpha)),
    )


def _int32(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.int32))


def _unpermuted(values: np.ndarray, order: np.ndarray, size: int) -> np.ndarray:
    result = np.zeros((size, *values.shape[1:]), dtype=np.float32)
    result[order] = values
    return result


@contextlib.contextmanager
def _workers(number: int) -> Iterator[Callable[..., Iterable[float]]]:
    """A ``map`` over so many threads. Torch's own would wait for each other at every small product."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # Torch says that its sparse tensors are new and unchecked.
        with warnings.catch_warnings(), ThreadPoolExecutor(number) as pool:
            warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
            yield map if number == 1 else pool.map
    finally:
        torch.set_num_threads(before)
