"""Exact nearest neighbours by blocks: one ``top_k`` behind which FAISS and torch find the same."""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch

Backend = Literal["auto", "faiss", "torch"]
# Candidates beyond k that are ranked again in float64: the libraries round sums differently, so the
# order of near ties at the boundary is only settled with a few in reserve.
RESERVE = 8
# Differences of float32 sums of products of unit vectors are well below this.
ROUNDING = 1e-5


def top_k(
    queries: np.ndarray,
    keys: np.ndarray,
    k: int,
    *,
    device: str = "cpu",
    block_mebibytes: int = 256,
    key_offsets: np.ndarray | None = None,
    backend: Backend = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """The k keys with the largest inner product for each query, plus an offset of the key's own.

    Candidates are found in float32 and ranked in float64, so the result depends neither on the library
    nor on the size of the blocks.

    Args:
        queries: (Q, D) float32.
        keys: (N, D) float32.
        k: at most N are returned.
        device: ``cpu`` or ``cuda``.
        block_mebibytes: memory for one block of similarities.
        key_offsets: (N,) added to the score of each key.
        backend: ``auto`` is FAISS on the CPU (on GPUs where FAISS has them), torch elsewhere.

    Returns:
        (Q, k) float32 scores, descending, and (Q, k) int64 ids; of equal scores the lower id comes first.
    """
    assert queries.ndim == keys.ndim == 2 and queries.shape[1] == keys.shape[1], (queries.shape, keys.shape)
    k = min(k, len(keys))
    if not len(queries) or not k:
        return np.zeros((len(queries), k), dtype=np.float32), np.zeros((len(queries), k), dtype=np.int64)
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    keys = np.ascontiguousarray(keys, dtype=np.float32)
    offsets = np.zeros(len(keys)) if key_offsets is None else np.asarray(key_offsets, dtype=np.float64)
    faiss = _import_faiss() if backend != "torch" else None
    assert backend != "faiss" or faiss is not None, "FAISS is not installed"
    if faiss is not None and backend == "auto" and device != "cpu" and not faiss.get_num_gpus():
        faiss = None
    num_candidates = min(k + RESERVE, len(keys))
    scores = np.empty((len(queries), k), dtype=np.float32)
    ids = np.empty((len(queries), k), dtype=np.int64)
    search = _TorchSearch(keys, offsets, device) if faiss is None else _FaissSearch(faiss, keys, offsets, device)
    # One block holds similarities (torch) or the gathered candidates (ranking): bound both.
    row_bytes = max(4 * len(keys) * (faiss is None), 16 * num_candidates * keys.shape[1])
    rows = max(1, (block_mebibytes << 20) // row_bytes)
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        candidates = search(block, num_candidates)
        part = slice(start, start + len(block))
        scores[part], ids[part] = _rank(block, keys, offsets, candidates, k)
    return scores, ids


class _TorchSearch:
    def __init__(self, keys: np.ndarray, offsets: np.ndarray, device: str) -> None:
        self.device = torch.device(device)
        self.keys = torch.from_numpy(keys).to(self.device).T
        self.offsets = torch.from_numpy(offsets.astype(np.float32)).to(self.device)

    def __call__(self, queries: np.ndarray, k: int) -> np.ndarray:
        block = torch.from_numpy(queries).to(self.device)
        similarities = torch.addmm(self.offsets, block, self.keys)
        return similarities.topk(k, dim=1).indices.cpu().numpy()


class _FaissSearch:
    def __init__(self, faiss: ModuleType, keys: np.ndarray, offsets: np.ndarray, device: str) -> None:
        # An offset is one more dimension, in which every query is 1.
        self.augmented = bool(offsets.any())
        if self.augmented:
            keys = np.hstack([keys, offsets[:, None].astype(np.float32)])
        self.index = faiss.IndexFlatIP(keys.shape[1])
        if device != "cpu" and faiss.get_num_gpus() > 0:
            self.index = faiss.index_cpu_to_all_gpus(self.index)
        self.index.add(keys)

    def __call__(self, queries: np.ndarray, k: int) -> np.ndarray:
        if self.augmented:
            queries = np.hstack([queries, np.ones((len(queries), 1), dtype=np.float32)])
        return self.index.search(np.ascontiguousarray(queries), k)[1]


def _import_faiss() -> ModuleType | None:
    # faiss-gpu without its CUDA libraries raises RuntimeError.
    with contextlib.suppress(ImportError, RuntimeError):
        import faiss

        return faiss
    return None


def _rank(
    queries: np.ndarray, keys: np.ndarray, offsets: np.ndarray, candidates: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best k of the candidates in float64, by descending score and then by id."""
    scores = np.einsum("qd,qcd->qc", queries, keys[candidates], dtype=np.float64, optimize=False) + offsets[candidates]
    scores, ids = _sort(scores, candidates)
    if candidates.shape[1] < len(keys):
        # Where even the last in reserve is as good as the k-th, an equal key may have been left out.
        scale = 1 + np.abs(scores[:, 0])
        for row in np.flatnonzero(scores[:, k - 1] - scores[:, -1] <= ROUNDING * scale):
            every = np.einsum("d,nd->n", queries[row], keys, dtype=np.float64, optimize=False) + offsets
            every = every.astype(np.float32)
            best = np.lexsort((np.arange(len(keys)), -every))[: scores.shape[1]]
            scores[row], ids[row] = every[best], best
    return scores[:, :k].astype(np.float32), ids[:, :k]


def _sort(scores: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Rounded first: equal vectors give float64 sums that differ in the last bit.
    scores = scores.astype(np.float32)
    order = np.lexsort((ids, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def mean_similarity(
    queries: np.ndarray, keys: np.ndarray, k: int, *, device: str = "cpu", block_mebibytes: int = 256
) -> np.ndarray:
    """(Q,) float32: mean cosine of each query to its k nearest keys (``r`` of CSLS); rows of length 1."""
    scores, _ = top_k(queries, keys, k, device=device, block_mebibytes=block_mebibytes)
    return scores.mean(axis=1)


def csls_top_k(
    source: np.ndarray,
    target: np.ndarray,
    k: int,
    csls_neighbors: int = 10,
    *,
    queries: np.ndarray | None = None,
    device: str = "cpu",
    block_mebibytes: int = 256,
) -> tuple[np.ndarray, np.ndarray]:
    """For each target row the k source rows nearest by cross-domain similarity local scaling.

    ``CSLS(s, t) = 2 cos(s, t) - r_T(s) - r_S(t)``: what is near to everything is moved away, which
    keeps hubs from being everyone's neighbour.

    Args:
        source: (S, D) rows in the common space; none may be zero.
        target: (T, D) rows in the common space; none may be zero.
        k: neighbours to return.
        csls_neighbors: neighbours over which ``r`` is the mean cosine.
        queries: (Q,) target rows to ask for; by default all T. ``r`` is over all of them anyway.
        device: ``cpu`` or ``cuda``.
        block_mebibytes: memory for one block of similarities.

    Returns:
        (Q, k) float32 scores, descending, and (Q, k) int64 source rows.

    Reference:
        Conneau et al. (2018), section 2.3; TokAlign++ (2605.13429) section 4.2.
    """
    source, target = unit_rows(source), unit_rows(target)
    options: dict[str, Any] = {"device": device, "block_mebibytes": block_mebibytes}
    of_source = mean_similarity(source, target, csls_neighbors, **options)
    target = target if queries is None else target[queries]
    of_target = mean_similarity(target, source, csls_neighbors, **options)
    scores, ids = top_k(2 * target, source, k, key_offsets=-of_source, **options)
    return scores - of_target[:, None], ids


def mutual_nearest(
    source: np.ndarray,
    target: np.ndarray,
    csls_neighbors: int = 10,
    *,
    keep: np.ndarray | None = None,
    device: str = "cpu",
    block_mebibytes: int = 256,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are each other's nearest by CSLS, and their cosines.

    Args:
        source: (S, D) rows of length 1.
        target: (T, D) rows of length 1.
        csls_neighbors: as in ``csls_top_k``.
        keep: (S,) bool; source rows that may pair (stochastic dropping leaves some out).
        device: ``cpu`` or ``cuda``.
        block_mebibytes: memory for one block of similarities.

    Returns:
        (P, 2) int64 pairs (source row, target row) and (P,) float32 cosines.
    """
    options: dict[str, Any] = {"device": device, "block_mebibytes": block_mebibytes}
    of_source = torch.from_numpy(mean_similarity(source, target, csls_neighbors, **options)).to(device)
    of_target = torch.from_numpy(mean_similarity(target, source, csls_neighbors, **options)).to(device)
    if keep is not None:
        of_source[torch.from_numpy(~keep).to(device)] = torch.inf
    keys, queries = torch.from_numpy(source).to(device), torch.from_numpy(target).to(device)
    best_target = torch.zeros(len(source), dtype=torch.int64, device=device)
    best_source = torch.full((len(target),), -torch.inf, device=device)
    best_source_row = torch.zeros(len(target), dtype=torch.int64, device=device)
    rows = max(1, (block_mebibytes << 20) // (4 * len(target)))
    for start in range(0, len(source), rows):
        part = slice(start, start + rows)
        scores = 2 * (keys[part] @ queries.T) - of_target - of_source[part, None]
        best_target[part] = scores.argmax(dim=1)
        values, indices = scores.max(dim=0)
        better = values > best_source
        best_source = torch.where(better, values, best_source)
        best_source_row = torch.where(better, indices + start, best_source_row)
    mutual = best_source_row[best_target] == torch.arange(len(source), device=device)
    sources = torch.nonzero(mutual & torch.isfinite(of_source)).squeeze(1)
    pairs = torch.stack([sources, best_target[sources]], dim=1).cpu().numpy()
    return pairs, np.einsum("pd,pd->p", source[pairs[:, 0]], target[pairs[:, 1]])
