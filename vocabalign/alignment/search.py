"""Candidates for nearest neighbours, found in low precision by blocks: torch on any device, or FAISS.

A search tells for every query, besides its candidates, what no key that it left out can exceed. The exact ranking
in ``neighbors`` needs that to know where the candidates are not enough.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Literal, Protocol

import numpy as np
import torch

from vocabalign.alignment.quantised import QuantisedSearch, multiplies_integers_fast

Backend = Literal["auto", "faiss", "torch"]
Precision = Literal["auto", "float32", "bfloat16", "int8"]
# Groups of keys looked into beyond the number of candidates, so that bounds of groups seldom decide.
EXTRA_GROUPS = 4
# What rounding may change in an inner product, as a share of the product of the lengths: for float32 well above
# what sums of a few hundred products show; for bfloat16 three roundings to 8 bits (both vectors and the result).
# The search in integers bounds its own rounding, and hands over the best by products in float32.
ROUNDING = {"float32": 1e-5, "bfloat16": 3.02 * 2.0**-9, "int8": 1e-5}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# With fewer keys than this, laying them out as integers costs more than it saves.
FEWEST_INTEGER_KEYS = 16_384


@dataclass(frozen=True)
class SearchOptions:
    """Where and how neighbours are looked for.

    Attributes:
        device: ``cpu`` or ``cuda``.
        block_mebibytes: memory for one block of similarities.
        backend: ``torch``; ``faiss`` on the CPU and on as many GPUs as FAISS sees; ``auto`` is torch where it is
            faster, which is on GPUs and, with CSLS, on the CPU.
        precision: in which candidates are found (torch only); ``int8`` is for CPUs, ``auto`` is that where it is
            fast and float32 elsewhere. They are ranked in float64 in any case, and a row in which rounding could
            have hidden a neighbour is searched again: the result is the same.
    """

    device: str = "cpu"
    block_mebibytes: int = 256
    backend: Backend = "auto"
    precision: Precision = "auto"

    def settled(self, num_keys: int) -> SearchOptions:
        """The same with a precision that ``auto`` stands for here."""
        if self.backend == "faiss":  # finds candidates in float32 whatever the torch search does
            return replace(self, precision="float32")
        if self.precision != "auto":
            return self
        integers = self.device == "cpu" and num_keys >= FEWEST_INTEGER_KEYS and multiplies_integers_fast()
        return replace(self, precision="int8" if integers else "float32")


class CandidateSearch(Protocol):
    """Finds candidates for a block of queries.

    Attributes:
        block_rows: queries of a block, as many as memory allows.
    """

    block_rows: int

    def look(self, queries: torch.Tensor) -> None:
        """Take (R, D) float32 queries as the block that ``candidates`` is about."""

    def candidates(self, k: int, *, with_offsets: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """(R, k) int64 ids in no order, and (R,) float32: no other key has a larger score, but for rounding."""


class TorchSearch:
    """All similarities of a block at once, then the best of them by the best of groups.

    Keys stand in groups; a group whose largest similarity is not among the k largest of all groups holds none of
    the k nearest keys. So the block is read once, and only k groups are sorted. With offsets, keys of like offset
    stand together, and a group's largest score is bounded by its largest similarity plus its largest offset.
    """

    def __init__(self, keys: torch.Tensor, offsets: torch.Tensor | None, k: int, options: SearchOptions) -> None:
        num_keys, device = len(keys), torch.device(options.device)
        self.num_keys = num_keys
        self.members = max(1, int((num_keys / k) ** 0.5))
        self.groups = -(-num_keys // self.members)
        self.dtype = DTYPES[options.precision]
        self.ids = torch.arange(num_keys, device=device) if offsets is None else self._by_offset(offsets)
        laid_out = keys if offsets is None else keys[self.ids]
        self.keys = laid_out.to(self.dtype).T
        self.offsets: torch.Tensor | None = None
        if offsets is not None:
            width = self.members * self.groups
            self.offsets = torch.full((width,), -torch.inf, device=device)
            self.offsets[:num_keys] = offsets[self.ids].float()
            self.group_offsets = self.offsets.view(self.members, self.groups).amax(0)
        row_bytes = self.dtype.itemsize * self.members * self.groups + 24 * (k + EXTRA_GROUPS) * self.members
        self.block_rows = max(1, (options.block_mebibytes << 20) // row_bytes)
        self._buffer = torch.empty(0, 0)

    def _by_offset(self, offsets: torch.Tensor) -> torch.Tensor:
        """The key at each place: place p is member p // groups of group p % groups; like offsets share a group."""
        order = offsets.argsort(stable=True)
        padding = self.members * self.groups - self.num_keys
        group = torch.arange(self.groups, device=order.device)
        sizes = self.members - (group >= self.groups - padding).long()
        starts = sizes.cumsum(0) - sizes
        member = torch.arange(self.members, device=order.device)
        return order[(starts[None, :] + member[:, None]).flatten()[: self.num_keys]]

    def look(self, queries: torch.Tensor) -> None:
        """See ``CandidateSearch``."""
        width = self.members * self.groups
        if len(self._buffer) < len(queries):
            self._buffer = torch.empty(len(queries), width, dtype=self.dtype, device=self.keys.device)
            self._buffer[:, self.num_keys :] = -torch.inf
        self.similarities = self._buffer[: len(queries)]
        torch.mm(queries.to(self.dtype), self.keys, out=self.similarities[:, : self.num_keys])
        self.maxima = self.similarities.view(len(queries), self.members, self.groups).amax(1).float()

    def candidates(self, k: int, *, with_offsets: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``CandidateSearch``."""
        offsets = self.offsets if with_offsets else None
        bounds = self.maxima if offsets is None else self.maxima + self.group_offsets
        num_groups = min(k + EXTRA_GROUPS, self.groups)
        best = bounds.topk(min(num_groups + 1, self.groups))
        members = torch.arange(self.members, device=bounds.device)[None, :, None] * self.groups
        places = (best.indices[:, None, :num_groups] + members).flatten(1)
        scores = self.similarities.gather(1, places).float()
        if offsets is not None:
            scores += offsets[places]
        found = scores.topk(k)
        others = found.values[:, -1] if k < self.num_keys else torch.full_like(found.values[:, -1], -torch.inf)
        if num_groups < self.groups:
            others = torch.maximum(others, best.values[:, num_groups])
        return self.ids[places.gather(1, found.indices)], others


class FaissSearch:
    """FAISS's exact search; several GPUs share the keys."""

    def __init__(self, keys: torch.Tensor, offsets: torch.Tensor | None, k: int, options: SearchOptions) -> None:
        self.faiss = import_faiss()
        assert self.faiss is not None, "FAISS is not installed"
        self.num_keys = len(keys)
        plain = keys.cpu().numpy()
        num_gpus = self.faiss.get_num_gpus() if options.device != "cpu" else 0
        # An offset is one more dimension, in which every query is 1 (or 0, to be without).
        self.augmented = offsets is not None
        if offsets is not None:
            plain = np.hstack([plain, offsets.cpu().numpy()[:, None].astype(np.float32)])
        self.search = _faiss_way(self.faiss, np.ascontiguousarray(plain), num_gpus)
        self.device = keys.device
        # Scores never lie in memory all at once; what is gathered for the exact ranking does.
        self.block_rows = max(1, (options.block_mebibytes << 20) // (24 * k * keys.shape[1]))

    def look(self, queries: torch.Tensor) -> None:
        """See ``CandidateSearch``."""
        self.queries = queries.cpu().numpy()

    def candidates(self, k: int, *, with_offsets: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``CandidateSearch``."""
        queries = self.queries
        if self.augmented:
            queries = np.hstack([queries, np.full((len(queries), 1), float(with_offsets), dtype=np.float32)])
        scores, ids = self.search(np.ascontiguousarray(queries), k)
        others = scores[:, -1] if k < self.num_keys else np.full(len(scores), -np.inf, dtype=np.float32)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(np.ascontiguousarray(others)).to(self.device)


def _faiss_way(
    faiss: ModuleType, keys: np.ndarray, num_gpus: int
) -> Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]:
    """Brute force on one GPU needs no index; several GPUs take a shard of the index each."""
    if num_gpus == 1:
        resources = faiss.StandardGpuResources()
        return lambda queries, k: faiss.knn_gpu(resources, queries, keys, k, metric=faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexFlatIP(keys.shape[1])
    if num_gpus > 1:
        cloner = faiss.GpuMultipleClonerOptions()
        cloner.shard = True
        index = faiss.index_cpu_to_all_gpus(index, co=cloner)
    index.add(keys)
    return index.search


def import_faiss() -> ModuleType | None:
    """The library, or None where it is missing or broken."""
    # faiss-gpu without its CUDA libraries raises RuntimeError.
    with contextlib.suppress(ImportError, RuntimeError):
        import faiss

        return faiss
    return None


def _torch_way(keys: torch.Tensor, offsets: torch.Tensor | None, k: int, options: SearchOptions) -> CandidateSearch:
    if options.precision == "int8":
        return QuantisedSearch(keys, offsets, options.block_mebibytes)
    return TorchSearch(keys, offsets, k, options)


SEARCHES: dict[str, Callable[[torch.Tensor, torch.Tensor | None, int, SearchOptions], CandidateSearch]] = {
    "auto": _torch_way,
    "torch": _torch_way,
    "faiss": FaissSearch,
}
