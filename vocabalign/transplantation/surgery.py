"""Writing the output folder: the source's files with new vocabulary tensors and new ids, all else byte for byte."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from vocabalign.errors import ConfigError, ModelError
from vocabalign.progress import track
from vocabalign.transplantation.checkpoint import INDEX, Checkpoint
from vocabalign.transplantation.shards import copy_file, rewrite_shard

logger = logging.getLogger("vocabalign")

# The old tokenizer, other copies of the weights, what training left behind, and what we write anew.
_NOT_COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "tokenizer.model*", "spiece.model", "sentencepiece*.model", "*.tiktoken", "tekken.json",
    "chat_template*", "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth",
    "*.ckpt*", "*.h5", "*.msgpack", "*.gguf", "*.onnx*", "*.ot", "optimizer*", "scheduler*", "rng_state*",
    "trainer_state.json", "metrics.jsonl", "README.md", "manifest.json", "provenance.json", ".*",
)  # fmt: skip
_SKIPPED_FOLDERS = ("checkpoint-*", "global_step*", "original", "onnx", "tokenizer", "runs", ".*")
_PLACEHOLDERS = ("image", "video", "audio", "vision")
_TEXT_PARTS = ("text_config", "llm_config", "language_config", "decoder")


@dataclass(frozen=True)
class Ids:
    """What the configuration files must say about the new vocabulary.

    Attributes:
        num_rows: rows of the embedding.
        roles: "bos", "eos", "pad" -> id in the target.
        counterparts: source id -> target id, for the other ids in the files; fewer than S.
    """

    num_rows: int
    roles: Mapping[str, int]
    counterparts: Mapping[int, int]


def write_model_files(
    checkpoint: Checkpoint, out: Path, embedding: torch.Tensor, head: torch.Tensor | None, bias: torch.Tensor | None,
    ids: Ids | None,
) -> None:  # fmt: skip
    """Write all files of the model but its tokenizer.

    Args:
        checkpoint: the source.
        out: an existing folder.
        embedding: (T, H) in the checkpoint's dtype.
        head: (T, H), or None where the model stays tied.
        bias: (T,), or None where there is none.
        ids: for config.json and generation_config.json; None leaves them as they are, byte for byte.
    """
    tensors, untied = _tensors_on_disk(checkpoint, embedding, head, bias)
    home = checkpoint.weight_map[checkpoint.embedding]
    homes = {name: checkpoint.weight_map.get(name, home) for name in tensors}
    added_bytes = 0
    for file in track(sorted(set(checkpoint.weight_map.values())), "Writing weights"):
        here = {name: tensor for name, tensor in tensors.items() if homes[name] == file}
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        if here:
            added_bytes += rewrite_shard(checkpoint.folder / file, out / file, here)
        else:
            copy_file(checkpoint.folder / file, out / file)
    if checkpoint.has_index:
        _write_index(checkpoint, out, homes, added_bytes)
    for path in _other_files(checkpoint.folder):
        place = out / path.relative_to(checkpoint.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    if ids is not None or untied:
        _patch_file(out / "config.json", lambda config: patch_config(config, ids, untied))
        if ids is not None and (out / "generation_config.json").is_file():
            _patch_file(out / "generation_config.json", lambda config: _patch_ids(config, ids, everywhere=False))


def _tensors_on_disk(
    checkpoint: Checkpoint, embedding: torch.Tensor, head: torch.Tensor | None, bias: torch.Tensor | None
) -> tuple[dict[str, torch.Tensor], bool]:
    """Name on disk -> new tensor; and whether a tied model gets a head of its own."""
    tensors = {checkpoint.embedding: embedding}
    untied = checkpoint.tied and head is not None
    if head is not None:
        tensors[checkpoint.head or checkpoint.head_in_memory or "lm_head.weight"] = head
    elif checkpoint.head is not None:
        tensors[checkpoint.head] = embedding  # stored although it is tied: both copies must agree
    if checkpoint.bias is not None:
        if bias is None:
            raise ModelError(f"{checkpoint.folder} has a head bias, {checkpoint.bias}, and no new one was made.")
        tensors[checkpoint.bias] = bias
    return tensors, untied


def _write_index(checkpoint: Checkpoint, out: Path, homes: Mapping[str, str], added_bytes: int) -> None:
    path = checkpoint.folder / INDEX
    index = json.loads(path.read_text(encoding="utf-8"))
    if not added_bytes and homes.keys() <= index["weight_map"].keys():
        shutil.copyfile(path, out / INDEX)
        return
    index["weight_map"] |= homes
    metadata = index.setdefault("metadata", {})
    if "total_size" in metadata:
        metadata["total_size"] = int(metadata["total_size"]) + added_bytes
    metadata.pop("total_parameters", None)  # optional, and no longer true
    (out / INDEX).write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _other_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not any(fnmatch(path.name, pattern) for pattern in _SKIPPED_FOLDERS):
                yield from _other_files(path)
        elif path.is_file() and not any(fnmatch(path.name, pattern) for pattern in _NOT_COPIED):
            yield path


def _patch_file(path: Path, patch: Any) -> None:
    """Rewrite a JSON file, only where something changes, in the order that its keys have."""
    old = json.loads(path.read_text(encoding="utf-8"))
    new = patch(old)
    if new != old:
        path.write_text(json.dumps(new, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def patch_config(config: Mapping[str, Any], ids: Ids | None, untied: bool) -> dict[str, Any]:
    """``config.json`` with the new size, ids and tie; nested text configurations too."""
    result = dict(config)
    parts = [key for key in _TEXT_PARTS if isinstance(config.get(key), dict)]
    if ids is not None:
        result = _patch_ids(result, ids, everywhere=not parts)
        if not parts or "vocab_size" in result:
            result["vocab_size"] = ids.num_rows
    for key in parts:
        part = result[key]
        if ids is not None:
            part = _patch_ids(part, ids, everywhere=False) | {"vocab_size": ids.num_rows}
        if untied and "tie_word_embeddings" in part:
            part = {**part, "tie_word_embeddings": False}
        result[key] = part
    if untied:
        result["tie_word_embeddings"] = False
    return result


def _patch_ids(config: Mapping[str, Any], ids: Ids, *, everywhere: bool) -> dict[str, Any]:
    """Every key that holds token ids; a role that the file does not mention is added where ``everywhere`` is set.

    The architecture's default would otherwise stand for it, with an id of the old vocabulary.
    """
    result = dict(config)
    for key, value in config.items():
        role = key.removesuffix("_token_id")
        if role in ("bos", "eos", "pad") and role != key:
            result[key] = _role_ids(role, value, ids)
        elif key.endswith(("_token_id", "_token_index")) and isinstance(value, int) and not isinstance(value, bool):
            result[key] = ids.counterparts.get(value)
            if result[key] is None and not everywhere and key.startswith(_PLACEHOLDERS):
                raise ConfigError(
                    f"The model puts pictures or sound in the place of token {value} ({key}), and the target tokenizer "
                    "has no such token: add one to it as a special token, and name it with --map-token TARGET=SOURCE."
                )
            if result[key] is None:
                logger.warning(
                    "The configuration's %s is %d, and the new vocabulary has no such token: it becomes null.",
                    key,
                    value,
                )
        elif key in ("suppress_tokens", "begin_suppress_tokens") and isinstance(value, list):
            result[key] = [ids.counterparts[i] for i in value if i in ids.counterparts]
    if everywhere:
        for role in ("bos", "eos"):
            result.setdefault(f"{role}_token_id", ids.roles.get(role))
    return result


def _role_ids(role: str, old: Any, ids: Ids) -> int | list[int] | None:
    """The target's token of that role; a list (several EOS) keeps the counterparts of its other members."""
    new = ids.roles.get(role)
    if not isinstance(old, list):
        return new
    found = [i for i in [new, *(ids.counterparts.get(i) for i in old)] if i is not None]
    return list(dict.fromkeys(found)) or None
