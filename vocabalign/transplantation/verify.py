"""Reading a model folder back the way users will, and saying what does not hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocabalign.errors import VerificationError, VocabAlignError
from vocabalign.fingerprints import MANIFEST
from vocabalign.manifests import read_manifest
from vocabalign.models import resolve
from vocabalign.provenance import copied_rows, moved_rows, read_provenance
from vocabalign.text.probes import probe_texts
from vocabalign.transplantation.checkpoint import INDEX, Checkpoint, open_checkpoint
from vocabalign.transplantation.first_block import check_first_block, padded_rows_lie_low
from vocabalign.transplantation.full_check import check_full
from vocabalign.transplantation.shards import all_entries
from vocabalign.transplantation.sources import TokenClass

FULL_BYTES = 2_000_000_000
_BLOCK_ROWS = 8192
SKIPPED = "not applicable: "


def run_verify(folder: str | Path) -> dict[str, Any]:
    """What ``vocabalign verify DIR`` runs."""
    return verify_model(folder)


def verify_model(folder: str | Path, *, full: bool | None = None) -> dict[str, Any]:
    """Check a model folder: files, tokenizer, ids, rows and, where it is small enough, the running model.

    Args:
        folder: any Hugging Face model folder; what a transplant promised is read from its provenance.json.
        full: load the whole model too; by default where its weights are smaller than 2 GB. Else its embedding, its
            first block and its head are run.

    Returns:
        ``{"folder", "full", "checks": [{"name", "ok", "detail"}]}``.

    Raises:
        VerificationError: some checks failed; the message lists them.
    """
    subject = _Subject(resolve(folder))
    checks: list[dict[str, Any]] = []
    for name, check in CHECKS.items():
        checks.append(_run(name, check, subject))
        if name == "weight files" and not checks[-1]["ok"]:
            break  # nothing else can be read
    else:
        full = subject.checkpoint.num_bytes < FULL_BYTES if full is None else full
        for name, check in (FULL_CHECKS if full else PART_CHECKS).items():
            checks.append(_run(name, check, subject))
    failed = [check for check in checks if not check["ok"]]
    if failed:
        listed = "; ".join(f"{check['name']}: {check['detail']}" for check in failed)
        count = f"{len(failed)} of {len(checks)} checks"
        raise VerificationError(f"{folder} does not read back as it should ({count}). {listed}")
    return {"folder": str(folder), "full": bool(full), "checks": checks}


class _Subject:
    """The folder, and what several checks read from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.folder)

    @cached_property
    def provenance(self) -> dict[str, Any] | None:
        return read_provenance(self.folder)

    @property
    def has_tokenizer(self) -> bool:
        return (self.folder / "tokenizer.json").is_file()

    @cached_property
    def raw_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    @cached_property
    def tokenizer(self) -> Any:
        """As users load it, on purpose not through our own loader."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False, local_files_only=True)

    @cached_property
    def padding_ids(self) -> np.ndarray:
        """Ids that no token has."""
        rows = self.checkpoint.num_rows
        if self.provenance is not None:
            return np.flatnonzero(np.asarray(self.provenance["classes"]) == TokenClass.PADDING)
        used = set(self.raw_tokenizer.get_vocab().values()) if self.has_tokenizer else set(range(rows))
        return np.asarray(sorted(set(range(rows)) - used), np.int64)


def _run(name: str, check: Callable[[Any], str], subject: _Subject) -> dict[str, Any]:
    """A check returns what it found, and raises AssertionError where it does not hold."""
    try:
        return {"name": name, "ok": True, "detail": check(subject)}
    except (AssertionError, VocabAlignError) as error:
        return {"name": name, "ok": False, "detail": str(error)}
    except Exception as error:  # whatever transformers raises on a broken folder is a failed check
        return {"name": name, "ok": False, "detail": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _check_files(subject: _Subject) -> str:
    checkpoint = subject.checkpoint
    if not checkpoint.has_index:
        return f"{len(checkpoint.weight_map)} tensors in one file"
    index = json.loads((subject.folder / INDEX).read_text(encoding="utf-8"))
    entries = all_entries(subject.folder, index["weight_map"].values())
    wrong = [name for name, file in index["weight_map"].items() if entries.get(name, ("",))[0] != file]
    wrong += [name for name in entries if name not in index["weight_map"]]
    _expect(not wrong, f"the index and the files differ for {', '.join(wrong[:5])}")
    size = sum(e["data_offsets"][1] - e["data_offsets"][0] for _, e in entries.values())
    told = index.get("metadata", {}).get("total_size", size)
    _expect(int(told) == size, f"the index says {told:,} bytes, the files hold {size:,}")
    return f"{len(entries)} tensors in {len(set(index['weight_map'].values()))} files"


def _check_ties(subject: _Subject) -> str:
    checkpoint = subject.checkpoint
    if not checkpoint.tied:
        return "untied, with a head of its own"
    if checkpoint.head is not None:
        same = torch.equal(checkpoint.read(checkpoint.embedding), checkpoint.read(checkpoint.head))
        _expect(same, f"config.json ties {checkpoint.head} to {checkpoint.embedding}, but they differ on disk")
    return "tied"


def _check_dtypes(subject: _Subject) -> str:
    checkpoint = subject.checkpoint
    told = checkpoint.config.get("dtype", checkpoint.config.get("torch_dtype"))
    names = [name for name in (checkpoint.embedding, checkpoint.head, checkpoint.bias) if name]
    found = {str(checkpoint.read(name).dtype).removeprefix("torch.") for name in names}
    _expect(len(found) == 1, f"{', '.join(names)} are stored in different types: {', '.join(sorted(found))}")
    _expect(told is None or {told} == found, f"config.json says {told}, the rows are {', '.join(found)}")
    return ", ".join(found)


def _check_finite(subject: _Subject) -> str:
    checkpoint = subject.checkpoint
    for name in (checkpoint.embedding, checkpoint.head, checkpoint.bias):
        if name is not None:
            finite = all(bool(block.isfinite().all()) for block in checkpoint.read(name).split(_BLOCK_ROWS))
            _expect(finite, f"{name} holds numbers that are not finite")
    return "all rows are finite"


def _check_tokenizer(subject: _Subject) -> str:
    if not subject.has_tokenizer:
        return SKIPPED + "the folder has no tokenizer"
    special = [str(token) for token in subject.tokenizer.all_special_tokens]
    texts = probe_texts(special)
    for text in texts:
        given = subject.tokenizer(text, add_special_tokens=False)["input_ids"]
        meant = subject.raw_tokenizer.encode(text, add_special_tokens=False).ids
        shown = f"{text[:60]!r}: {given[:12]}, {meant[:12]}"
        _expect(given == meant, f"AutoTokenizer and tokenizer.json give other ids for {shown}")
    return f"AutoTokenizer and tokenizer.json agree on {len(texts)} texts"


def _check_highest_id(subject: _Subject) -> str:
    if not subject.has_tokenizer:
        return SKIPPED + "the folder has no tokenizer"
    rows = subject.checkpoint.num_rows
    highest = max(*subject.raw_tokenizer.get_vocab().values(), *subject.tokenizer.get_vocab().values())
    _expect(highest < rows, f"the tokenizer has id {highest}, the model only {rows} rows")
    return f"highest id {highest}, {rows} rows"


def _check_special_ids(subject: _Subject) -> str:
    rows, checked = subject.checkpoint.num_rows, 0
    vocabulary = subject.raw_tokenizer.get_vocab().values() if subject.has_tokenizer else range(rows)
    known = set(vocabulary)
    for name in ("config.json", "generation_config.json"):
        path = subject.folder / name
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for part in (config, config.get("text_config") or {}):
            for role in ("bos", "eos", "pad"):
                value = part.get(f"{role}_token_id")
                for token_id in value if isinstance(value, list) else [] if value is None else [value]:
                    _expect(token_id in known, f"{name} has {role}_token_id {token_id}, which no token has")
                    checked += 1
                    if subject.has_tokenizer:
                        decodes = bool(subject.tokenizer.decode([token_id]))
                        _expect(decodes, f"{role}_token_id {token_id} decodes to nothing")
    return f"{checked} ids name tokens"


def _check_copies(subject: _Subject) -> str:
    provenance, folder = subject.provenance, subject.folder
    if provenance is None or ((folder / MANIFEST).is_file() and read_manifest(folder).get("stage") != "transplant"):
        return SKIPPED + "not fresh from a transplant"
    if not Path(provenance["source"]).is_dir():
        return SKIPPED + f"the source {provenance['source']} is not here"
    source, checkpoint = open_checkpoint(provenance["source"]), subject.checkpoint
    told = []
    pairs = [("input", source.embedding, checkpoint.embedding)]
    if checkpoint.head is not None and not checkpoint.tied:
        pairs.append(("head", source.head or source.embedding, checkpoint.head))
    for part, old_name, new_name in pairs:
        targets, sources = (torch.from_numpy(ids) for ids in copied_rows(provenance, part))
        old, new = source.read(old_name), checkpoint.read(new_name)
        for to, at in zip(targets.split(_BLOCK_ROWS), sources.split(_BLOCK_ROWS), strict=True):
            same = (new[to].view(torch.uint8) == old[at].view(torch.uint8)).all(dim=1)
            wrong = to[~same].tolist()
            _expect(not wrong, f"{new_name}: {len(wrong)} rows are not the source's, the first is {wrong[:1]}")
        moved = ", ".join(f"{count:,} {how}" for how, count in moved_rows(provenance, part).items())
        told.append(
            f"{len(targets):,} of {new_name}" + (f" (moved from the same token's row: {moved})" if moved else "")
        )
    return f"rows that are the source's bit for bit: {'; '.join(told)}"


def _check_padding(subject: _Subject) -> str:
    checkpoint, padding = subject.checkpoint, torch.from_numpy(subject.padding_ids)
    if not len(padding) or checkpoint.head_in_memory is None:
        return SKIPPED + ("every row has a token" if not len(padding) else "the model has no head")
    reason = padded_rows_lie_low(checkpoint, padding)
    if reason is None:
        return f"{len(padding):,} rows have no token; that none of them wins is only seen where the model runs"
    return f"{len(padding):,} rows have no token, and none of them can win: {reason}"


def _check_template(subject: _Subject) -> str:
    if not subject.has_tokenizer or not getattr(subject.tokenizer, "chat_template", None):
        return SKIPPED + "no chat template"
    messages = [{"role": "user", "content": "Hello there"}]
    text = subject.tokenizer.apply_chat_template(messages, tokenize=False)
    ids = subject.raw_tokenizer.encode(text, add_special_tokens=False).ids
    _expect("Hello there" in text, "the chat template leaves the message out")
    _expect("Hello there" in subject.tokenizer.decode(ids), "a message does not come back from the chat template's ids")
    return f"a message becomes {len(ids)} ids and comes back"


# In this order: what later checks read is checked first.
CHECKS: dict[str, Callable[[_Subject], str]] = {
    "weight files": _check_files,
    "ties": _check_ties,
    "dtypes": _check_dtypes,
    "finite rows": _check_finite,
    "tokenizer": _check_tokenizer,
    "highest id": _check_highest_id,
    "special ids": _check_special_ids,
    "copied rows": _check_copies,
    "padded rows": _check_padding,
    "chat template": _check_template,
}
FULL_CHECKS: dict[str, Callable[[Any], str]] = {"running model": check_full}
PART_CHECKS: dict[str, Callable[[Any], str]] = {"first block": check_first_block}
