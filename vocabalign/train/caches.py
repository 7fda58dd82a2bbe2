"""Make a teacher's targets once: every document is read, in windows where it is long, and its rows are written down."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vocabalign.artifacts import ArtifactWriter, stage_artifact
from vocabalign.errors import ConfigError
from vocabalign.losses.likelihood import word_starts
from vocabalign.models import context_length, load_model, pick_device, pick_dtype, resolve
from vocabalign.progress import progress
from vocabalign.stages import DistillCacheConfig, TrainingOptions
from vocabalign.text.alignment import cut_of
from vocabalign.text.tokenizers import load_vocabulary, save_tokenizer
from vocabalign.train.cache_reading import HEAD, TOKENIZER, weights_fingerprint
from vocabalign.train.cache_writing import CAPTURES, Fields, Rows, ShardWriter, key_of
from vocabalign.train.distill_sources import is_server
from vocabalign.train.documents import boundary_ids
from vocabalign.train.head import check_head, check_vocabulary_fits, hidden_states, read_head
from vocabalign.train.server_cache import ServerReader
from vocabalign.train.teacher_calibration import calibrate
from vocabalign.train.teachers import RunningTeacher
from vocabalign.train.texts import TrainingText, encode_scored, training_texts

logger = logging.getLogger("vocabalign")
DEFAULT_CONTEXT = 2048
GROUP_CHARACTERS = 200_000


def run(config: DistillCacheConfig) -> Path:
    """Write a cache of a teacher's targets; interrupted, it goes on behind the last whole shard.

    Returns:
        The folder written.

    Raises:
        ModelError, TokenizerError: the teacher cannot be read.
        CorpusError: no text.
        ConfigError: a server is asked for more than log-probabilities.
        TeacherServerError: a server that does not answer, or answers nonsense.
    """
    reader: Reader | ServerReader = ServerReader(config) if is_server(config.teacher) else Reader(config)
    with stage_artifact("distill-cache", config) as writer:
        moved = reader.calibrate()
        if moved is not None:
            writer.metrics["teacher_calibration"] = moved
        shards = ShardWriter(writer.work, config.shard_mebibytes << 20)
        if shards.shards:
            logger.info("Going on behind %s documents of an interrupted run.", f"{len(shards.keys):,}")
        _write(reader, config, shards)
        about = shards.finish(writer.folder, reader.description())
        reader.save_parts(writer.folder)
        _measure(writer, about)
    return Path(config.out)


def _write(reader: Reader | ServerReader, config: DistillCacheConfig, shards: ShardWriter) -> None:
    with progress("caching the teacher") as bar:
        for group in _groups(reader.texts(config.corpus)):
            new = {key: item for item in group if (key := key_of(item.text)) not in shards}
            try:
                for key, read in zip(new, reader.read(list(new.values()))):
                    shards.add(key, *read)
            except BaseException:
                shards.flush()  # what was read is kept for the next try
                raise
            bar.advance(sum(len(item.text) for item in group), f"{len(shards.keys):,} documents")


def _groups(texts: Iterable[TrainingText]) -> Iterator[list[TrainingText]]:
    group: list[TrainingText] = []
    for item in texts:
        group.append(item)
        if sum(len(text.text) for text in group) >= GROUP_CHARACTERS:
            yield group
            group = []
    if group:
        yield group


def _measure(writer: ArtifactWriter, about: dict[str, Any]) -> None:
    rows = sum(shard["rows"] for shard in about["shards"])
    writer.metrics.update(
        documents=sum(shard["documents"] for shard in about["shards"]),
        tokens=rows,
        bytes_per_token=round(sum(shard["bytes"] for shard in about["shards"]) / max(1, rows), 2),
    )


Read = tuple[int, np.ndarray, Fields]


class Reader:
    """A model that is run here.

    Args:
        config: of the stage.

    Raises:
        ModelError, TokenizerError: the folder is no model, or its tokenizer does not belong to it.
        ConfigError: a longer context than it was made for.
    """

    def __init__(self, config: DistillCacheConfig) -> None:
        self.config, self.folder = config, resolve(config.teacher)
        self.vocabulary = load_vocabulary(self.folder)
        self.device = pick_device(config.device)
        dtype = pick_dtype(config.dtype, self.device)
        self.model = load_model(self.folder, dtype=dtype, device=self.device).requires_grad_(False)
        check_vocabulary_fits(self.model, self.vocabulary, self.folder)
        check_head(self.model, self.folder)
        self.head, self.calibrated = replace(read_head(self.model), rows=len(self.vocabulary)), False
        self.starts = word_starts(self.vocabulary).to(self.device)
        limit = context_length(self.model)
        if config.context is not None and limit is not None and config.context > limit:
            raise ConfigError(f"context is {config.context}, but {self.folder} was made for at most {limit} tokens.")
        self.context = config.context or min(limit or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
        if config.kind == "top-k" and config.top_k > len(self.vocabulary):
            raise ConfigError(f"top_k is {config.top_k}, but {self.folder} has {len(self.vocabulary):,} tokens.")
        begin, end = boundary_ids(self.vocabulary)
        self.before = [] if begin is None else [begin]
        self.after = self.before if end is None else [end]

    def texts(self, corpus: list[str]) -> Iterator[TrainingText]:
        """The documents, conversations as the teacher's own template renders them."""
        return training_texts(corpus, TrainingOptions(), self.vocabulary)

    def calibrate(self) -> float | None:
        """Correct the head to the text, if wanted: what is captured, and a head that is kept, are of that one."""
        if not self.config.calibrate_teacher:
            return None
        teacher = RunningTeacher(self.model, self.device)
        moved = calibrate(self.config.corpus, TrainingOptions(), teacher, self.vocabulary, self.device)
        self.head, self.calibrated = replace(teacher.head(self.device), rows=len(self.vocabulary)), moved is not None
        return moved

    def read(self, items: Sequence[TrainingText]) -> Iterator[Read]:
        """What is kept of each document."""
        documents = [self._framed(item, ids) for item, ids in zip(items, self._encoded(items))]
        cuts = [
            cut_of(self.vocabulary, ids, item.text) if item.scored is None else None
            for item, ids in zip(items, documents)
        ]
        widths = [self._widths(item, ids, cut) for item, ids, cut in zip(items, documents, cuts)]
        hidden = self._hidden_states(documents)
        for item, ids, width, states in zip(items, documents, widths, hidden):
            if width is None or len(ids) < 2:
                yield 0, np.zeros(0, np.int64), {}
                continue
            labels = torch.from_numpy(ids[1:]).to(self.device)
            # Draws follow from the text, so that an interrupted run draws the same.
            seed = int.from_bytes(key_of(item.text)[:7], "little") ^ self.config.seed
            generator = torch.Generator(self.device).manual_seed(seed)
            rows = Rows(states, self.head, labels, self.starts, generator)
            yield int(width[0]), width[1:], CAPTURES[self.config.kind](rows, self.config)

    def _encoded(self, items: Sequence[TrainingText]) -> list[list[int]]:
        plain = iter(self.vocabulary.encode_batch([item.text for item in items if item.scored is None]))
        spoken = iter(encode_scored(self.vocabulary, [item for item in items if item.scored is not None]))
        return [next(plain) if item.scored is None else next(spoken)[0] for item in items]

    def _framed(self, item: TrainingText, ids: list[int]) -> np.ndarray:
        chat = item.scored is not None
        before = [] if chat and ids[:1] == self.before else self.before
        after = [] if chat and self.after != self.before and ids[-1:] == self.after else self.after
        return np.array([*before, *ids, *after], dtype=np.int64)

    def _widths(self, item: TrainingText, ids: np.ndarray, cut: Any) -> np.ndarray | None:
        """Bytes of each token; None where the tokens are not the text."""
        if item.scored is not None:
            table = self.vocabulary.token_bytes
            return np.array([len(table[i] or b"") for i in ids.tolist()], dtype=np.int64)
        return None if cut is None else np.diff(cut.ends, prepend=0).astype(np.int64)

    @torch.no_grad()
    def _hidden_states(self, documents: Sequence[np.ndarray]) -> list[Tensor]:
        """(R, H) for each document; the last token has no row."""
        places = [(number, *window) for number, ids in enumerate(documents) for window in self._windows(len(ids) - 1)]
        places.sort(key=lambda place: place[2] - place[1])
        result = [torch.empty(0) for _ in documents]
        for at in range(0, len(places), self.config.batch_size):
            batch = places[at : at + self.config.batch_size]
            width = max(stop - start for _, start, stop, _ in batch)
            ids = torch.zeros(len(batch), width, dtype=torch.int64)
            for row, (number, start, stop, _) in enumerate(batch):
                ids[row, : stop - start] = torch.from_numpy(documents[number][start:stop])
            hidden = hidden_states(self.model, ids.to(self.device), None)
            for row, (number, start, stop, new) in enumerate(batch):
                if not len(result[number]):
                    result[number] = hidden.new_empty(len(documents[number]) - 1, hidden.shape[-1])
                result[number][new:stop] = hidden[row, new - start : stop - start]
        return result

    def _windows(self, length: int) -> Iterator[tuple[int, int, int]]:
        """(first, one behind the last, first whose state is kept): what is kept has half a window before it."""
        start = new = 0
        while new < length:
            stop = min(length, start + self.context)
            yield start, stop, new
            new, start = stop, stop - self.context // 2

    def description(self) -> dict[str, Any]:
        """What the targets are of."""
        config, half = self.config, next(self.model.parameters()).dtype
        return {
            "kind": config.kind,
            "teacher": str(self.folder),
            "teacher_fingerprint": weights_fingerprint(self.folder),
            "tokenizer_fingerprint": self.vocabulary.fingerprint,
            "vocabulary_size": len(self.vocabulary),
            "context": self.context,
            "dtype": str(half).removeprefix("torch."),
            "calibrated": self.calibrated,
            "temperature": config.temperature if config.kind in ("top-k", "sampled") else 1.0,
            "top_k": min(config.top_k, len(self.vocabulary)),
            "draws": config.draws,
        }

    def save_parts(self, folder: Path) -> None:
        """What a student needs of the teacher beside the targets: its tokenizer, for hidden states its head."""
        (folder / TOKENIZER).mkdir()
        save_tokenizer(self.vocabulary.tokenizer, folder / TOKENIZER)  # type: ignore[arg-type]
        if self.config.kind == "hidden":
            parts = {"weight": self.head.weight.detach()[: len(self.vocabulary)].contiguous().cpu()}
            if self.head.bias is not None:
                parts["bias"] = self.head.bias.detach()[: len(self.vocabulary)].contiguous().cpu()
            numbers = {"scale": str(self.head.scale), "softcap": str(self.head.softcap or "")}
            save_file(parts, folder / HEAD, metadata=numbers)
