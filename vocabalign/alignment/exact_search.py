"""The exact ranking of what a search in low precision finds, block by block, on all threads."""

from __future__ import annotations

import copy
import queue
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from vocabalign.alignment.search import ROUNDING, SEARCHES, SearchOptions
from vocabalign.alignment.threads import one_thread_each

# Candidates beyond k that are ranked again in float64: the libraries round sums differently, so the
# order of near ties at the boundary is only settled with a few in reserve. bfloat16 needs more of them.
RESERVE = {"float32": 8, "bfloat16": 64, "int8": 4}
# The exact ranking gathers candidates in portions that stay in a processor's cache.
RANKED_BYTES = 1 << 20
Result = TypeVar("Result")


class ExactSearch:
    """A candidate search over keys, and the exact ranking of what it finds."""

    def __init__(self, keys: np.ndarray, offsets: np.ndarray | None, k: int, options: SearchOptions) -> None:
        device = torch.device(options.device)
        self.options = options = options.settled(len(keys))
        self.keys, self.queries = on_device(keys, device), torch.empty(0, 0)
        self.offsets = None if offsets is None else torch.from_numpy(np.asarray(offsets, dtype=np.float64)).to(device)
        self.longest = float(self.keys.norm(dim=1).max()) if len(keys) else 0.0
        self.precision = options.precision
        self.reserve = RESERVE[self.precision]
        num_candidates = min(k + self.reserve, len(keys))
        # FAISS has threads of its own, and a GPU is one worker.
        self.workers = torch.get_num_threads() if device.type == "cpu" and options.backend != "faiss" else 1
        options = replace(options, block_mebibytes=max(1, options.block_mebibytes // self.workers))
        self.search = SEARCHES[options.backend](self.keys, self.offsets, max(1, num_candidates), options)

    def each_block(self, queries: np.ndarray, work: Callable[[ExactSearch], Result]) -> list[Result]:
        """What ``work`` finds for each block of the queries; ``nearest`` of what it is given is about that block.

        On a CPU every thread has blocks of its own: threads that share the many short steps of one block
        wait for each other at the end of each.
        """
        assert queries.ndim == 2 and queries.shape[1] == self.keys.shape[1], (queries.shape, self.keys.shape)
        if not len(self.keys):
            return []
        step = max(1, min(self.search.block_rows, -(-len(queries) // self.workers)))
        parts = [slice(start, start + step) for start in range(0, len(queries), step)]
        idle: queue.SimpleQueue[ExactSearch] = queue.SimpleQueue()
        for _ in range(self.workers):
            idle.put(self._with_buffers_of_its_own())

        def run(part: slice) -> Result:
            worker = idle.get()
            worker.queries = on_device(queries[part], self.keys.device)
            worker.search.look(worker.queries)
            result = work(worker)
            idle.put(worker)
            return result

        if self.workers == 1:
            return [run(part) for part in parts]
        with one_thread_each(self.workers) as pool:
            return list(pool.map(run, parts))

    def _with_buffers_of_its_own(self) -> ExactSearch:
        worker = copy.copy(self)
        worker.search = copy.copy(self.search)
        return worker

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
        if self.precision == "bfloat16":
            return self.nearest(k, with_offsets=False)[0].mean(axis=1)
        candidates, others = self.search.candidates(min(k, len(self.keys)), with_offsets=False)
        scores = exact_products(self.queries, self.keys, candidates, self.options.block_mebibytes)
        means = scores.mean(dim=1).float().cpu().numpy()
        crowded = torch.nonzero(others == torch.inf).squeeze(1)
        if len(crowded):
            means[crowded.cpu().numpy()] = self._again(self.queries[crowded], None, k)[0].mean(axis=1)
        return means

    def _ranked(self, candidates: torch.Tensor, offsets: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """All candidates with their scores in float64, by descending score and then by id."""
        ids = candidates.sort(dim=1).values
        scores = exact_products(self.queries, self.keys, ids, self.options.block_mebibytes)
        return _by_score(scores if offsets is None else scores + offsets[ids], ids)

    def _again(self, queries: torch.Tensor, offsets: torch.Tensor | None, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows whose candidates may be too few: in float32 after less, else every key in float64."""
        if self.precision != "float32":
            options = replace(self.options, precision="float32")
            given = None if offsets is None else offsets.cpu().numpy()
            again = ExactSearch(self.keys.cpu().numpy(), given, k, options)
            rows = queries.cpu().numpy()
            found = again.each_block(rows, lambda block: block.nearest(k, with_offsets=offsets is not None))
            return joined(found, k, len(self.keys))
        step = max(1, (self.options.block_mebibytes << 20) // (32 * len(self.keys)))
        parts = []
        for start in range(0, len(queries), step):
            exact = queries[start : start + step].double() @ self.keys.double().T
            scores, ids = torch.sort(
                (exact if offsets is None else exact + offsets).float(), dim=1, descending=True, stable=True
            )
            parts.append((scores[:, :k].cpu().numpy(), ids[:, :k].cpu().numpy()))
        return joined(parts, k, len(self.keys))


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


def joined(parts: list[tuple[np.ndarray, np.ndarray]], k: int, num_keys: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks put together; at most num_keys neighbours are found."""
    k = min(k, num_keys)
    empty = (np.zeros((0, k), dtype=np.float32), np.zeros((0, k), dtype=np.int64))
    scores, ids = zip(*parts, strict=True) if parts else ([empty[0]], [empty[1]])
    return np.concatenate(scores), np.concatenate(ids)


def on_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array as a float32 tensor, without a copy where it is one already."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)
