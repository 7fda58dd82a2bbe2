"""Exact nearest neighbours by blocks: one ``top_k`` behind which FAISS and torch find the same, and CSLS."""

from __future__ import annotations

import numpy as np
import torch

from vocabalign.alignment.exact_search import ExactSearch, joined, on_device
from vocabalign.alignment.search import SearchOptions


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
    engine = ExactSearch(keys, key_offsets, k, search or SearchOptions())
    with_offsets = key_offsets is not None
    return joined(engine.each_block(queries, lambda block: block.nearest(k, with_offsets=with_offsets)), k, len(keys))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)


def mean_similarity(queries: np.ndarray, keys: np.ndarray, k: int, search: SearchOptions | None = None) -> np.ndarray:
    """(Q,) float32: mean cosine of each query to its k nearest keys (``r`` of CSLS); rows of length 1."""
    engine = ExactSearch(keys, None, k, search or SearchOptions())
    parts = engine.each_block(queries, lambda block: block.mean_of_nearest(k))
    return np.concatenate(parts) if parts else np.zeros(len(queries), dtype=np.float32)


def csls_top_k(
    source: np.ndarray,
    target: np.ndarray,
    k: int,
    csls_neighbors: int = 10,
    search: SearchOptions | None = None,
    *,
    queries: np.ndarray | None = None,
    own_mean: bool = True,
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
        own_mean: take off ``r_S(t)`` too. It moves all scores of a target alike, so without it the neighbours are the
            same, and a search is spared.

    Returns:
        (Q, k) float32 scores, descending, and (Q, k) int64 source rows.

    Reference:
        Conneau et al. (2018), section 2.3; TokAlign++ (2605.13429) section 4.2.
    """
    search = search or SearchOptions()
    of_source = mean_similarity(source, target, csls_neighbors, search)
    asked = target if queries is None else target[queries]
    # Halved, so that the cosines themselves are the similarities that both rankings share.
    most = max(k, csls_neighbors) if own_mean else k
    engine = ExactSearch(source, -of_source.astype(np.float64) / 2, most, search)

    def work(block: ExactSearch) -> tuple[np.ndarray, np.ndarray]:
        halves, ids = block.nearest(k, with_offsets=True)
        return 2 * halves - (block.mean_of_nearest(csls_neighbors)[:, None] if own_mean else 0), ids

    return joined(engine.each_block(asked, work), k, len(source))


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
    keys, queries = on_device(source, device), on_device(target, device)
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
