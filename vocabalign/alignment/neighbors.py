"""Exact nearest neighbours by blocks: one ``top_k`` behind which FAISS and torch find the same, and CSLS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from vocabalign.alignment.search import ROUNDING, SEARCHES, SearchOptions

# Candidates beyond k that are ranked again in float64: the libraries round sums differently, so the
# order of near ties at the boundary is only settled with a few in reserve. bfloat16 needs more of them.
RESERVE = {"float32": 8, "bfloat16": 64}
# The exact ranking gathers candidates in portions that stay in a processor's cache.
RANKED_BYTES = 1 << 20


def top_k(
    queries: np.ndarray,
    keys: np.ndarray,
    k: int,
    search: SearchOptions | None = None,
    *,
    key_offsets: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k keys with the largest inner product for each query, plus an offset of the key's own.

    Candidates are found in float32 or bfloat16 and ranked in float64, so the result depends neither on the
    library nor on the precision nor on the size of the blocks.

    Args:
        queries: (Q, D) float32.
        keys: (N, D) float32.
        k: at most N are returned.
        search: device, memory, library, precision.
        key_offsets: (N,) added to the score of each key.

    Returns:
        (Q, k) float32 scores, descending, and (Q, k) int64 ids; of equal scores the lower id comes first.
    """
    engine = _Engine(keys, key_offsets, k, search or SearchOptions())
    parts = [engine.nearest(k, with_offsets=engine.offsets is not None) for _ in engine.blocks(queries)]
    return _joined(parts, min(k, len(keys)))


class _Engine:
    """A candidate search over keys, and the exact ranking of what it finds."""

    def __init__(self, keys: np.ndarray, offsets: np.ndarray | None, k: int, options: SearchOptions) -> None:
        device = torch.device(options.device)
        self.options = options
        self.keys = _tensor(keys, device)
        self.offsets = None if offsets is None else torch.from_numpy(np.asarray(offsets, dtype=np.float64)).to(device)
        self.longest = float(self.keys.norm(dim=1).max()) if len(keys) else 0.0
        # FAISS finds candidates in float32 whatever the torch search does.
        self.precision = "float32" if options.backend == "faiss" else options.precision
        self.reserve = RESERVE[self.precision]
        num_candidates = min(k + self.reserve, len(keys))
        self.search = SEARCHES[options.backend](self.keys, self.offsets, max(1, num_candidates), options)

    def blocks(self, queries: np.ndarray) -> Iterator[slice]:
        """Take the queries block by block; ``nearest`` is about the present one."""
        assert queries.ndim == 2 and queries.shape[1] == self.keys.shape[1], (queries.shape, self.keys.shape)
        if not len(self.keys):
            return
        for start in range(0, len(queries), self.search.block_rows):
            part = slice(start, min(len(queries), start + self.search.block_rows))
            self.queries = _tensor(queries[part], self.keys.device)
            self.search.look(self.queries)
            yield part

    def nearest(self, k: int, *, with_offsets: bool) -> tuple[np.ndarray, np.ndarray]:
        """(R, k) float32 scores and (R, k) int64 ids for the present block."""
        k = min(k, len(self.keys))
        offsets = self.offsets if with_offsets else None
        num_candidates = min(k + self.reserve, len(self.keys))
        candidates, others = self.search.candidates(num_candidates, with_offsets=with_offsets)
        scores, ids = self._ranked(candidates, offsets)
        slack = ROUNDING[self.precision] * self.queries.norm(dim=1) * self.longest + 1e-6 * scores[:, 0].abs()
        doubtful = torch.nonzero(scores[:, k - 1] - others <= slack).squeeze(1)
        best, best_ids = scores[:, :k].cpu().numpy(), ids[:, :k].cpu().numpy()
        if len(doubtful) and num_candidates < len(self.keys):
            rows = doubtful.cpu().numpy()
            best[rows], best_ids[rows] = self._again(self.queries[doubtful], offsets, k)
        return best, best_ids

    def mean_of_nearest(self, k: int) -> np.ndarray:
        """(R,) float32 mean similarity of the k nearest of the present block, without offsets.

        Which of two keys is taken that differ by rounding changes a mean by less than its last bit.
        """
        if self.precision != "float32":
            return self.nearest(k, with_offsets=False)[0].mean(axis=1)
        candidates, _ = self.search.candidates(min(k, len(self.keys)), with_offsets=False)
        return (
            exact_products(self.queries, self.keys, candidates, self.options.block_mebibytes)
            .mean(dim=1)
            .float()
            .cpu()
            .numpy()
        )

    def _ranked(self, candidates: torch.Tensor, offsets: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """All candidates with their scores in float64, by descending score and then by id."""
        ids = candidates.sort(dim=1).values
        scores = exact_products(self.queries, self.keys, ids, self.options.block_mebibytes)
        return _by_score(scores if offsets is None else scores + offsets[ids], ids)

    def _again(self, queries: torch.Tensor, offsets: torch.Tensor | None, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows whose candidates may be too few: in float32 after bfloat16, else every key in float64."""
        if self.precision != "float32":
            options = replace(self.options, precision="float32")
            given = None if offsets is None else offsets.cpu().numpy()
            return top_k(queries.cpu().numpy(), self.keys.cpu().numpy(), k, options, key_offsets=given)
        step = max(1, (self.options.block_mebibytes << 20) // (32 * len(self.keys)))
        parts = []
        for start in range(0, len(queries), step):
            exact = queries[start : start + step].double() @ self.keys.double().T
            scores, ids = torch.sort(
                (exact if offsets is None else exact + offsets).float(), dim=1, descending=True, stable=True
            )
            parts.append((scores[:, :k].cpu().numpy(), ids[:, :k].cpu().numpy()))
        return _joined(parts, k)


def exact_products(queries: torch.Tensor, keys: torch.Tensor, ids: torch.Tensor, block_mebibytes: int) -> torch.Tensor:
    """(R, C) float64 products of each of (R, D) float32 queries with its own keys, given by (R, C) ids."""
    if keys.is_cuda:
        size = max(1, (block_mebibytes << 20) // (20 * ids.shape[1] * keys.shape[1]))
        blocks = zip(queries.split(size), ids.split(size), strict=True)
        return torch.cat([torch.einsum("qd,qcd->qc", some.double(), keys[chosen].double()) for some, chosen in blocks])
    # numpy sums in float64 without a float64 copy.
    asked, held, chosen_ids = queries.numpy(), keys.numpy(), ids.numpy()
    step = max(1, RANKED_BYTES // (4 * ids.shape[1] * keys.shape[1]))
    scores = np.empty(chosen_ids.shape)
    for start in range(0, len(chosen_ids), step):
        part = slice(start, start + step)
        np.einsum("qd,qcd->qc", asked[part], held[chosen_ids[part]], dtype=np.float64, out=scores[part])
    return torch.from_numpy(scores)


def _by_score(scores: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # Rounded first: equal vectors give float64 sums that differ in the last bit. The ids ascend before the sort.
    scores, order = torch.sort(scores.float(), dim=1, descending=True, stable=True)
    return scores, ids.gather(1, order)


def _joined(parts: list[tuple[np.ndarray, np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray]:
    empty = (np.zeros((0, k), dtype=np.float32), np.zeros((0, k), dtype=np.int64))
    scores, ids = zip(*parts, strict=True) if parts else ([empty[0]], [empty[1]])
    return np.concatenate(scores), np.concatenate(ids)


def _tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)


def mean_similarity(queries: np.ndarray, keys: np.ndarray, k: int, search: SearchOptions | None = None) -> np.ndarray:
    """(Q,) float32: mean cosine of each query to its k nearest keys (``r`` of CSLS); rows of length 1."""
    engine = _Engine(keys, None, k, search or SearchOptions())
    parts = [engine.mean_of_nearest(k) for _ in engine.blocks(queries)]
    return np.concatenate(parts) if parts else np.zeros(len(queries), dtype=np.float32)


def csls_top_k(
    source: np.ndarray,
    target: np.ndarray,
    k: int,
    csls_neighbors: int = 10,
    search: SearchOptions | None = None,
    *,
    queries: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """For each target row the k source rows nearest by cross-domain similarity local scaling.

    ``CSLS(s, t) = 2 cos(s, t) - r_T(s) - r_S(t)``: what is near to everything is moved away, which
    keeps hubs from being everyone's neighbour. Two products of the spaces are enough: the second gives
    ``r_S`` and the neighbours of a block of targets at once.

    Args:
        source: (S, D) rows of length 1 in the common space.
        target: (T, D) rows of length 1.
        k: neighbours to return.
        csls_neighbors: neighbours over which ``r`` is the mean cosine.
        search: device, memory, library, precision.
        queries: (Q,) target rows to ask for; by default all T. ``r_T`` is over all of them anyway.

    Returns:
        (Q, k) float32 scores, descending, and (Q, k) int64 source rows.

    Reference:
        Conneau et al. (2018), section 2.3; TokAlign++ (2605.13429) section 4.2.
    """
    search = search or SearchOptions()
    of_source = mean_similarity(source, target, csls_neighbors, search)
    asked = target if queries is None else target[queries]
    # Halved, so that the cosines themselves are the similarities that both rankings share.
    engine = _Engine(source, -of_source.astype(np.float64) / 2, max(k, csls_neighbors), search)
    parts = []
    for _ in engine.blocks(asked):
        of_target = engine.mean_of_nearest(csls_neighbors)
        halves, ids = engine.nearest(k, with_offsets=True)
        parts.append((2 * halves - of_target[:, None], ids))
    return _joined(parts, min(k, len(source)))


def mutual_nearest(
    source: np.ndarray,
    target: np.ndarray,
    csls_neighbors: int = 10,
    search: SearchOptions | None = None,
    *,
    keep_probability: float = 1.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are each other's nearest by CSLS, and their cosines.

    Args:
        source: (S, D) rows of length 1.
        target: (T, D) rows of length 1.
        csls_neighbors: as in ``csls_top_k``; 0 compares cosines alone.
        search: device and memory.
        keep_probability: each pair may be chosen with this probability, drawn anew for each pair (stochastic
            dictionary induction, Artetxe et al. (ACL 2018), section 3.3).
        seed: of the draws.

    Returns:
        (P, 2) int64 pairs (source row, target row) and (P,) float32 cosines.
    """
    search = search or SearchOptions()
    device = torch.device(search.device)
    keys, queries = _tensor(source, device), _tensor(target, device)
    halves = [torch.zeros(len(side), device=device) for side in (source, target)]
    if csls_neighbors:
        for half, (one, other) in zip(halves, ((source, target), (target, source)), strict=True):
            half += torch.from_numpy(mean_similarity(one, other, csls_neighbors, search)).to(device) / 2
    generator = torch.Generator(device).manual_seed(seed)
    best_target = torch.zeros(len(source), dtype=torch.int64, device=device)
    alive = torch.zeros(len(source), dtype=torch.bool, device=device)
    best_source = torch.full((len(target),), -torch.inf, device=device)
    best_source_row = torch.zeros(len(target), dtype=torch.int64, device=device)
    rows = max(1, (search.block_mebibytes << 20) // (8 * len(target)))
    for start in range(0, len(source), rows):
        part = slice(start, start + rows)
        scores = torch.addmm(-halves[1], keys[part], queries.T)
        if keep_probability < 1:
            draws = torch.rand(scores.shape, generator=generator, device=device)
            scores.masked_fill_(draws >= keep_probability, -torch.inf)
        values, best_target[part] = scores.max(dim=1)
        alive[part] = values > -torch.inf
        values, indices = scores.sub_(halves[0][part, None]).max(dim=0)
        better = values > best_source
        best_source = torch.where(better, values, best_source)
        best_source_row = torch.where(better, indices + start, best_source_row)
    mutual = alive & (best_source_row[best_target] == torch.arange(len(source), device=device))
    sources = torch.nonzero(mutual).squeeze(1)
    pairs = torch.stack([sources, best_target[sources]], dim=1).cpu().numpy()
    return pairs, np.einsum("pd,pd->p", source[pairs[:, 0]], target[pairs[:, 1]])
