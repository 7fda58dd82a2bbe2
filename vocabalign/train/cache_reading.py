"""A cache of a teacher's targets, as a run of distillation reads it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.fingerprints import file_digests, fingerprint_file, fingerprint_folder
from vocabalign.losses.aligned import ChunkRows
from vocabalign.losses.likelihood import Observed
from vocabalign.losses.logits import Head
from vocabalign.losses.targets import SampledTargets, TopTargets
from vocabalign.manifests import read_manifest
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.cache_format import bits_for, read_curve, unpack_bits
from vocabalign.train.cache_writing import DESCRIPTION, FORMAT, key_of

logger = logging.getLogger("vocabalign")
TOKENIZER, HEAD = "tokenizer", "head.safetensors"


def weights_fingerprint(folder: Path) -> str:
    """What a teacher's weights and tokenizer are, whatever else lies in its folder."""
    from vocabalign.fingerprints import digest_of

    files = [
        (name, digest)
        for name, digest in file_digests(folder)
        if name.endswith(".safetensors") or name in ("config.json", "tokenizer.json", "tokenizer.model")
    ]
    return digest_of(f"{name}\0{digest}" for name, digest in files) if files else fingerprint_folder(folder)


class TargetCache:
    """Targets of one teacher, found by document and by the byte at which its tokens end.

    Args:
        folder: from ``distill cache``.

    Raises:
        ArtifactError: it is no cache, not whole, or a file was changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = read_manifest(folder)
        try:
            self.about: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{folder} is no cache of a teacher: make one with 'vocabalign distill cache'."
            ) from error
        if self.about.get("format") != FORMAT:
            raise ArtifactError(f"{folder} was written by another version of vocabalign: make the cache again.")
        for name, digest in manifest.get("files", {}).items():
            path = folder / name
            if not path.is_file() or fingerprint_file(path) != digest:
                what = "was changed or cut off" if path.is_file() else "is missing"
                raise ArtifactError(
                    f"{path} {what}: the cache is broken, make it again with 'vocabalign distill cache'."
                )
        self.kind: str = self.about["kind"]
        self.temperature: float = self.about["temperature"]
        self.shards = [
            {kind: np.load(folder / f"{number:05d}.{kind}.npy", mmap_mode="r") for kind in shard["fields"]}
            for number, shard in enumerate(self.about["shards"])
        ]
        self.first_rows = np.cumsum([0, *(shard["rows"] for shard in self.about["shards"])])
        self.places: dict[bytes, tuple[int, int]] = {
            bytes(key): (number, index)
            for number, shard in enumerate(self.shards)
            for index, key in enumerate(np.asarray(shard["keys"]))
        }

    @property
    def from_server(self) -> bool:
        """Whether the teacher's tokenizer is unknown, so that only its byte offsets are there."""
        return not (self.folder / TOKENIZER).is_dir()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The teacher's.

        Raises:
            ArtifactError: it is not known, or not the one that the targets are of.
        """
        vocabulary = load_vocabulary(self.folder / TOKENIZER)
        if vocabulary.fingerprint != self.about["tokenizer_fingerprint"]:
            raise ArtifactError(
                f"The tokenizer in {self.folder} is not the one that its targets were made with: make the cache again."
            )
        return vocabulary

    def check_teacher(self, folder: Path) -> None:
        """Refuse a teacher that the targets are not of.

        Raises:
            ArtifactError: another tokenizer, or other weights.
        """
        if self.from_server:
            raise ArtifactError(
                f"{self.folder} holds the targets of {self.about['teacher']}, a server, not of {folder}: leave "
                "--teacher out."
            )
        if load_vocabulary(folder).fingerprint != self.about["tokenizer_fingerprint"]:
            raise ArtifactError(
                f"{self.folder} holds the targets of a teacher with another tokenizer than {folder}: make a cache with "
                f"this one, or leave --teacher out to use {self.about['teacher']}'s."
            )
        if weights_fingerprint(folder) != self.about["teacher_fingerprint"]:
            raise ArtifactError(
                f"{self.folder} holds the targets of {self.about['teacher']} with other weights than {folder} has: "
                "make the cache again, or leave --teacher out."
            )

    def say_calibration(self) -> None:
        """Tell in the log that the teacher's expectations were not corrected to a text."""
        if not self.about.get("calibrated"):
            why = "a server's cannot be" if self.from_server else "'vocabalign distill cache' can (calibrate_teacher)"
            logger.info("The teacher's expectations in %s are not corrected to the text: %s.", self.folder, why)

    def check_temperature(self, temperature: float) -> None:
        """Refuse a temperature that the targets were not made at.

        Raises:
            ConfigError: it differs and cannot be changed afterwards.
        """
        if self.kind in ("top-k", "sampled") and temperature != self.temperature:
            raise ConfigError(
                f"{self.folder} was made at temperature {self.temperature:g}, and a distribution of a few tokens "
                f"cannot be softened to {temperature:g} afterwards: give temperature={self.temperature:g}, or make "
                "a cache at yours."
            )

    def rows_of(self, texts: Iterable[str]) -> np.ndarray:
        """(N,) int64, the row of the first token of each document; -1 for one whose tokens are not its text.

        Raises:
            ArtifactError: documents that the cache does not have.
        """
        rows, missing = [], 0
        for text in texts:
            place = self.places.get(key_of(text))
            missing += place is None
            rows.append(-1 if place is None else self._row(*place))
        if missing:
            have = "none" if missing == len(rows) else f"only {len(rows) - missing:,}"
            raise ArtifactError(
                f"{self.folder} has {have} of the {len(rows):,} documents to train on: it was made for another text. "
                "Make it with 'vocabalign distill cache' and the same --corpus."
            )
        return np.array(rows, dtype=np.int64)

    def _row(self, shard: int, index: int) -> int:
        first, last = self.shards[shard]["rows"][index : index + 2]
        return int(self.first_rows[shard] + first) if last > first else -1

    def ends_of(self, text: str) -> np.ndarray:
        """(L,) int64 bytes at which the teacher's tokens end; empty for a document that it could not read."""
        shard, index = self.places[key_of(text)]
        fields = self.shards[shard]
        low, high = fields["rows"][index : index + 2]
        widths = np.asarray(fields["widths"][low:high]).astype(np.int64)
        return np.cumsum(np.concatenate([[int(fields["firsts"][index])], widths])) if len(widths) else widths

    def gather(self, field: str, rows: np.ndarray) -> np.ndarray:
        """Values of a field at global rows, in their order."""
        number = np.searchsorted(self.first_rows, rows, side="right") - 1
        first = self.shards[0][field]
        result = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        for shard in np.unique(number).tolist():
            chosen = number == shard
            result[chosen] = self.shards[shard][field][rows[chosen] - self.first_rows[shard]]
        return result

    @cached_property
    def draw_starts(self) -> list[np.ndarray]:
        """For each shard where the draws of each row begin."""
        return [np.concatenate([[0], np.cumsum(shard["sizes"], dtype=np.int64)]) for shard in self.shards]


class CachedRows:
    """What a cache knows of a batch.

    Args:
        cache: it.
        device: where the losses run.
    """

    def __init__(self, cache: TargetCache, device: torch.device) -> None:
        self.cache, self.device, self.kind = cache, device, cache.kind

    def hidden(self, rows: Tensor) -> Tensor:
        """(N, H) hidden states."""
        states = self.cache.gather("states", rows.cpu().numpy())
        tensor = torch.from_numpy(states)
        return (tensor.view(torch.bfloat16) if states.dtype == np.uint16 else tensor).to(self.device).float()

    def head(self) -> Head:
        """Not here: a cache of hidden states is read by ``RunRows``."""
        raise NotImplementedError

    def observed(self, rows: ChunkRows) -> Observed:
        """Log-probabilities of what is there, and of a word's start where the teacher told them."""
        at = rows.positions.cpu().numpy()
        fields = self.cache.shards[0]
        labels = rows.labels.to(self.device)
        tokens = torch.from_numpy(self.cache.gather("log_probs", at).astype(np.float32)).to(self.device)
        starts = None
        if "word_starts" in fields:
            starts = torch.from_numpy(self.cache.gather("word_starts", at).astype(np.float32)).to(self.device)
        return Observed(tokens.masked_fill(labels < 0, 0), starts)

    def top(self, rows: Tensor) -> TopTargets:
        """The likeliest tokens."""
        at, k = rows.cpu().numpy(), self.cache.about["top_k"]
        ids = unpack_bits(self.cache.gather("ids", at), bits_for(self.cache.about["vocabulary_size"]), k)
        log_probs = self.cache.gather("log_probs", at)
        if "curve" in self.cache.shards[0]:
            log_probs = read_curve(log_probs, self.cache.gather("curve", at), k)
        tails = self.cache.gather("tails", at).astype(np.float32)
        numbers = [torch.from_numpy(a.astype(np.float32)).to(self.device) for a in (log_probs, tails)]
        return TopTargets(torch.from_numpy(ids).to(self.device), *_within_one(*numbers), self.cache.temperature)

    def sampled(self, rows: Tensor) -> SampledTargets:
        """Drawn tokens, each as often as it was drawn; filled up with weight 0."""
        cache, at = self.cache, rows.cpu().numpy()
        number = np.searchsorted(cache.first_rows, at, side="right") - 1
        sizes = cache.gather("sizes", at).astype(np.int64)
        width = int(sizes.max(initial=1))
        ids = np.zeros((len(at), width), dtype=np.int64)
        weights = np.zeros((len(at), width), dtype=np.float32)
        filled = np.arange(width) < sizes[:, None]
        for shard in np.unique(number).tolist():
            chosen = number == shard
            starts = cache.draw_starts[shard][at[chosen] - cache.first_rows[shard]]
            places = (starts[:, None] + np.arange(width))[filled[chosen]]
            fields = cache.shards[shard]
            raw = np.zeros((len(places), 4), dtype=np.uint8)
            raw[:, : fields["drawn"].shape[1]] = fields["drawn"][places]
            block_ids, block_weights = ids[chosen], weights[chosen]
            block_ids[filled[chosen]] = raw.view("<u4").reshape(-1)
            block_weights[filled[chosen]] = fields["counts"][places] / np.float32(cache.about["draws"])
            ids[chosen], weights[chosen] = block_ids, block_weights
        drawn, shares = (torch.from_numpy(array).to(self.device) for array in (ids, weights))
        return SampledTargets(drawn, shares, cache.temperature)


def _within_one(log_probs: Tensor, tails: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded log-probabilities whose sum with the tail is 1 again."""
    total = torch.logaddexp(log_probs.logsumexp(-1), tails)
    return log_probs - total[:, None], tails - total
