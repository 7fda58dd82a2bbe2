"""What a cache keeps of a teacher at each row, by kind; and the files that it is written to, shard after shard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.losses.targets import capture_samples, capture_top
from vocabalign.stages import DistillCacheConfig
from vocabalign.train.cache_format import EXACT_TOKENS, KEY_BYTES, bits_for, count_draws, fit_curve, pack_bits

DESCRIPTION = "cache.json"
FORMAT = 1
Fields = dict[str, np.ndarray]


def key_of(text: str) -> bytes:
    """What a document is found by: a hash of its text."""
    return hashlib.sha256(text.encode()).digest()[:KEY_BYTES]


@dataclass(frozen=True)
class Rows:
    """What is captured at once: R rows of the teacher.

    Attributes:
        hidden: (R, H) its hidden states.
        head: its head, cut to its vocabulary.
        labels: (R,) int64 the tokens that follow.
        word_starts: (V,) bool.
        generator: of draws.
    """

    hidden: Tensor
    head: Head
    labels: Tensor
    word_starts: Tensor
    generator: torch.Generator


def _log_probs(rows: Rows, config: DistillCacheConfig) -> Fields:
    found = observed_log_probs(rows.hidden, rows.head, rows.labels, rows.word_starts)
    assert found.word_starts is not None
    return {"log_probs": _half(found.tokens), "word_starts": _half(found.word_starts)}


def _top(rows: Rows, config: DistillCacheConfig) -> Fields:
    k = min(config.top_k, rows.head.num_rows)
    found = capture_top(rows.hidden, rows.head, k, temperature=config.temperature)
    assert found.log_tail is not None
    fields = {"ids": pack_bits(found.ids.cpu().numpy(), bits_for(rows.head.num_rows)), "tails": _half(found.log_tail)}
    log_probs = found.log_probs.float().cpu().numpy()
    if config.exact or k <= EXACT_TOKENS + 1:
        return {**fields, "log_probs": np.maximum(log_probs, -6e4).astype(np.float16)}
    exact, curve = fit_curve(log_probs)
    return {**fields, "log_probs": exact, "curve": curve}


def _sampled(rows: Rows, config: DistillCacheConfig) -> Fields:
    found = capture_samples(
        rows.hidden, rows.head, config.draws, temperature=config.temperature, generator=rows.generator
    )
    sizes, ids, counts = count_draws(found.ids.cpu().numpy())
    width = -(-bits_for(rows.head.num_rows) // 8)
    packed = ids.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :width]
    return {"sizes": sizes, "drawn": packed, "counts": counts}


def _hidden(rows: Rows, config: DistillCacheConfig) -> Fields:
    states = rows.hidden
    if states.dtype == torch.bfloat16:
        return {"states": states.cpu().contiguous().view(torch.uint16).numpy()}
    half = states.to(torch.float16)
    if not bool(half.isfinite().all()):  # a few models have states beyond 65,504
        return {"states": states.float().cpu().numpy()}
    return {"states": half.cpu().numpy()}


CAPTURES: dict[str, Callable[[Rows, DistillCacheConfig], Fields]] = {
    "log-probs": _log_probs,
    "top-k": _top,
    "sampled": _sampled,
    "hidden": _hidden,
}


def _half(values: Tensor) -> np.ndarray:
    return values.float().clamp(min=-6e4).cpu().numpy().astype(np.float16)


class ShardWriter:
    """Documents one after another into numbered shards; a shard counts once its description, written last, is there.

    Args:
        folder: of the work in progress; whole shards of an interrupted run are gone on from.
        shard_bytes: about the size of a shard.
    """

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.shards: list[dict[str, Any]] = []
        self.keys: set[bytes] = set()
        self.waiting: list[tuple[bytes, int, np.ndarray, Fields]] = []
        self.size = 0
        while (path := folder / f"{len(self.shards):05d}.json").is_file():
            self.shards.append(json.loads(path.read_text()))
            stored = np.load(folder / f"{len(self.shards) - 1:05d}.keys.npy")
            self.keys |= {bytes(key) for key in stored}

    def __contains__(self, key: bytes) -> bool:
        return key in self.keys

    def add(self, key: bytes, first_bytes: int, widths: np.ndarray, fields: Fields) -> None:
        """One document.

        Args:
            key: from ``key_of``.
            first_bytes: bytes of its first token, which nothing predicts.
            widths: (R,) bytes of the tokens that its rows predict.
            fields: of its rows.
        """
        self.keys.add(key)
        self.waiting.append((key, first_bytes, widths, fields))
        self.size += sum(array.nbytes for array in fields.values()) + len(widths)
        if self.size >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a shard."""
        if not self.waiting:
            return
        name = f"{len(self.shards):05d}"
        keys, firsts, widths, fields = zip(*self.waiting)
        total = np.concatenate([np.zeros(0, np.int64), *widths])
        arrays: Fields = {
            "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
            "rows": np.cumsum([0, *(len(array) for array in widths)]).astype(np.int64),
            "firsts": np.array(firsts, dtype=np.uint16),
            "widths": total.astype(np.uint8 if total.max(initial=0) < 256 else np.uint16),
        }
        kinds = sorted({kind for row in fields for kind in row})
        arrays |= {kind: _joined([row[kind] for row in fields if kind in row]) for kind in kinds}
        for kind, array in arrays.items():
            np.save(self.folder / f"{name}.{kind}.npy", array)
        about = {
            "documents": len(keys),
            "rows": len(total),
            "fields": sorted(arrays),
            "bytes": sum(array.nbytes for array in arrays.values()),
        }
        new = self.folder / f"{name}.json.new"
        new.write_text(json.dumps(about))
        new.replace(self.folder / f"{name}.json")
        self.shards.append(about)
        self.waiting, self.size = [], 0

    def finish(self, out: Path, description: dict[str, Any]) -> dict[str, Any]:
        """Move the shards to ``out`` and write the cache's description there; it."""
        self.flush()
        for number, shard in enumerate(self.shards):
            for kind in shard["fields"]:
                name = f"{number:05d}.{kind}.npy"
                (self.folder / name).replace(out / name)
        shown = {"format": FORMAT, **description, "shards": self.shards}
        (out / DESCRIPTION).write_text(json.dumps(shown, indent=2) + "\n")
        return shown


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One array; where one part had to be wider, all are."""
    return (
        np.concatenate(parts)
        if len({part.dtype for part in parts}) == 1
        else np.concatenate([part.astype(np.result_type(*parts)) for part in parts])
    )
