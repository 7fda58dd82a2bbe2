"""Sizes of texts, tokenizers and models, of those that exist and of those that a dry run would make."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vocabalign.corpus_references import HubDataset, is_hub, split_weight
from vocabalign.errors import VocabAlignError
from vocabalign.models import resolve
from vocabalign.stages import CorpusConfig, DistillConfig, FinetuneConfig, StageConfig, TransplantConfig

# Text in one byte of a compressed corpus, as gzip and zstd reach it on prose.
COMPRESSION = 3.5
STANDARD_LIBRARY_BYTES = 12e6


@dataclass(frozen=True)
class ModelSize:
    """What a model's files say of its size.

    Attributes:
        parameters: numbers in all tensors.
        bytes: of the folder.
        vocabulary_size: rows of the embedding.
        hidden_size: H.
        layers: of the body.
        context: tokens that it can read at once.
    """

    parameters: float
    bytes: float
    vocabulary_size: int
    hidden_size: int
    layers: int
    context: int


class Forecasts:
    """Sizes by path, where a folder that is not there yet may be announced with ``add``."""

    def __init__(self) -> None:
        self._models: dict[str, ModelSize] = {}
        self._texts: dict[str, float] = {}
        self._made: list[Path] = []

    def add(self, config: StageConfig) -> None:
        """Remember what a stage with this configuration would leave."""
        out = str(config.out)
        self._made.append(Path(out))
        if isinstance(config, CorpusConfig):
            self._texts[f"{out}/train.jsonl"] = self.corpus_bytes(config)
            self._texts[f"{out}/heldout.jsonl"] = self.corpus_bytes(config) * config.heldout_percent / 100
        elif isinstance(config, TransplantConfig):
            source = self.model(config.source)
            size = self.vocabulary_size(config.target)
            rows = 2.0 * (size - source.vocabulary_size) * source.hidden_size
            changed = replace(source, vocabulary_size=size, parameters=max(0.0, source.parameters + rows))
            self._models[out] = replace(changed, bytes=max(0.0, source.bytes + 4 * rows))
        elif isinstance(config, FinetuneConfig):
            self._models[out] = self.model(config.model)
        elif isinstance(config, DistillConfig):
            self._models[out] = self.model(config.student)

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths that are neither there nor announced."""
        entries = [split_weight(path)[0] for path in paths]
        return [path for path in entries if not is_hub(path) and not self._is_made(path) and not _exists(path)]

    def _is_made(self, path: str) -> bool:
        # The folder of a run is there after its first stage.
        return any(Path(path).is_relative_to(folder) or folder.is_relative_to(path) for folder in self._made)

    def model(self, reference: str) -> ModelSize:
        """Size of a model folder; zero parameters where the folder holds none."""
        if reference in self._models:
            return self._models[reference]
        folder = Path(_resolve_quietly(reference))
        config = _read_json(folder / "config.json")
        return ModelSize(
            _parameters(folder),
            _size(folder),
            self.vocabulary_size(reference),
            _config_value(config, "hidden_size", 1024),
            _config_value(config, "num_hidden_layers", 12),
            _config_value(config, "max_position_embeddings", 2048),
        )

    def vocabulary_size(self, reference: str) -> int:
        """Rows of a model, else tokens of a tokenizer, else 32,000."""
        if reference in self._models:
            return self._models[reference].vocabulary_size
        folder = Path(_resolve_quietly(reference))
        size = _config_value(_read_json(folder / "config.json"), "vocab_size", 0)
        if size:
            return size
        try:
            return len(_read_json(folder / "tokenizer.json")["model"]["vocab"])
        except (KeyError, TypeError):
            return 32_000

    def text_bytes(self, path: str) -> float:
        """Bytes of text in a corpus file, folder or glob; compressed files count as what they hold, roughly."""
        entry, weight = split_weight(path)
        if is_hub(entry):
            entry = HubDataset.parse(entry).name  # a folder here, or unknown without asking for it
        return weight * (self._texts[entry] if entry in self._texts else _size(Path(entry), text=True))

    def corpus_bytes(self, config: CorpusConfig) -> float:
        """Text that a corpus stage would write for training."""
        found = sum(self.text_bytes(path) for path in config.corpus)
        found += STANDARD_LIBRARY_BYTES if config.standard_library else 0.0
        return min(found, config.max_bytes or found)


def _exists(path: str) -> bool:
    return Path(path).exists() or bool(glob.glob(path, recursive=True))


def _resolve_quietly(reference: str) -> str:
    """The folder of a reference, or the reference itself where it is not there yet."""
    try:
        return str(resolve(reference))
    except VocabAlignError:
        return reference


def _size(path: Path, text: bool = False) -> float:
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    else:
        files = [path] if path.is_file() else [Path(match) for match in glob.glob(str(path), recursive=True)]
    growth = {".gz": COMPRESSION, ".zst": COMPRESSION, ".bz2": COMPRESSION, ".xz": COMPRESSION} if text else {}
    return float(sum(file.stat().st_size * growth.get(file.suffix, 1.0) for file in files))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _config_value(config: dict[str, Any], key: str, default: int) -> int:
    return int(config.get(key) or (config.get("text_config") or {}).get(key) or default)


def _parameters(folder: Path) -> float:
    """Number of parameters, from the headers of the safetensors files."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                count += size
    return float(count)
