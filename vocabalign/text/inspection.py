"""What a tokenizer is, how well it compresses a corpus, and what two of them share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.text.corpus import read_documents
from vocabalign.text.reconstruction import check_reconstruction
from vocabalign.text.segmentation import ids_in_running_text
from vocabalign.text.spans import token_lengths
from vocabalign.text.token_bytes import read_components
from vocabalign.text.tokenizers import probe_texts, tokenizer_state
from vocabalign.text.vocabulary import Vocabulary

_BATCH_TEXTS = 256
Key = Callable[[Vocabulary, int], Hashable]


def inspect_vocabularies(
    a: Vocabulary, b: Vocabulary | None = None, corpus: Sequence[str | Path] = (), max_bytes: int | None = None
) -> dict[str, Any]:
    """Describe one vocabulary, or two and what they share; everything is a JSON value.

    Shares are of the types of each side ("of_a": how much of A's vocabulary is also in B's), and with a corpus
    also of its running tokens.

    Raises:
        CorpusError: the corpus cannot be read.
    """
    vocabularies = [a] if b is None else [a, b]
    counts = [np.zeros(len(v), dtype=np.int64) for v in vocabularies]
    num_bytes, num_documents = _count(vocabularies, corpus, max_bytes, counts) if corpus else (0, 0)
    result: dict[str, Any] = {"vocabularies": [describe(v) for v in vocabularies]}
    if corpus:
        result["corpus"] = {"documents": num_documents, "bytes": num_bytes}
        for entry, vocabulary, count in zip(result["vocabularies"], vocabularies, counts, strict=True):
            entry["compression"] = _compression(vocabulary, count, num_bytes)
    if b is not None:
        result["shared"] = {name: _shared(key, a, b, counts, bool(corpus)) for name, key in KEYS.items()}
    return result


def describe(vocabulary: Vocabulary) -> dict[str, Any]:
    """Kind, size, roles and oddities of a vocabulary."""
    components = read_components(tokenizer_state(vocabulary.tokenizer)) if vocabulary.tokenizer is not None else None
    proof = check_reconstruction(vocabulary, probe_texts())
    used = {b"": -1, **ids_in_running_text(vocabulary)}
    duplicates = [
        token_id
        for token_id, token in enumerate(vocabulary.token_bytes)
        if token is not None and token_id not in vocabulary.byte_ids and used[token] != token_id
    ]
    shadowed = [i for i in vocabulary.byte_ids if used[vocabulary.token_bytes[i] or b""] != i]
    return {
        "name": vocabulary.name,
        "kind": components.kind if components else "custom",
        "model": components.model if components else None,
        "size": len(vocabulary),
        "roles": {role: vocabulary.raw_tokens[token_id] for role, token_id in vocabulary.roles.items()},
        "special_tokens": [vocabulary.raw_tokens[i] for i in sorted(vocabulary.special_ids)],
        "normalizer": list(components.normalizer) if components else [],
        "dummy_prefix": vocabulary.dummy_prefix,
        "byte_tokens": len(vocabulary.byte_ids),
        "byte_tokens_with_an_ordinary_twin": len(shadowed),
        "gap_ids": sum(not raw and i not in vocabulary.special_ids for i, raw in enumerate(vocabulary.raw_tokens)),
        "unreachable_duplicates": duplicates,
        "probes": {outcome: count for outcome, count in proof.counts.items() if count},
        "fingerprint": vocabulary.fingerprint,
    }


def _count(
    vocabularies: Sequence[Vocabulary],
    corpus: Sequence[str | Path],
    max_bytes: int | None,
    counts: Sequence[np.ndarray],
) -> tuple[int, int]:
    """Add up how often each token is used; returns bytes and documents."""
    num_bytes = num_documents = 0
    batch: list[str] = []

    def flush() -> None:
        for vocabulary, count in zip(vocabularies, counts, strict=True):
            ids = [token_id for row in vocabulary.encode_batch(batch) for token_id in row]
            count += np.bincount(np.array(ids, dtype=np.int64), minlength=len(count))

    for document in read_documents(corpus, max_bytes):
        batch.append(document.text)
        num_bytes += len(document.text.encode())
        num_documents += 1
        if len(batch) >= _BATCH_TEXTS:
            flush()
            batch.clear()
    flush()
    return num_bytes, num_documents


def _compression(vocabulary: Vocabulary, counts: np.ndarray, num_bytes: int) -> dict[str, Any]:
    total = int(counts.sum())
    unknown = vocabulary.roles.get("unk")
    fallback = int(counts[sorted(vocabulary.byte_ids)].sum())
    return {
        "tokens": total,
        "bytes_per_token": num_bytes / max(total, 1),
        "tokens_per_kilobyte": 1000 * total / max(num_bytes, 1),
        "byte_fallback_share": fallback / max(total, 1),
        "unknown_share": (int(counts[unknown]) if unknown is not None else 0) / max(total, 1),
        # Less than 1 where text is dropped (white space, unknown characters), more with dummy prefixes.
        "bytes_in_tokens_share": int(counts @ token_lengths(vocabulary)) / max(num_bytes, 1),
        "types_used": int((counts > 0).sum()),
    }


def _raw(vocabulary: Vocabulary, token_id: int) -> Hashable:
    return vocabulary.raw_tokens[token_id] or None


def _bytes(vocabulary: Vocabulary, token_id: int) -> Hashable:
    return vocabulary.token_bytes[token_id]


def _without_space(vocabulary: Vocabulary, token_id: int) -> Hashable:
    token = vocabulary.token_bytes[token_id]
    return None if token is None else token.removeprefix(b" ") or token


def _relaxed(vocabulary: Vocabulary, token_id: int) -> Hashable:
    token = vocabulary.token_bytes[token_id]
    if token is None:
        return None
    bare = token.removeprefix(b" ") or token
    try:
        return bare.decode().lower().encode()
    except UnicodeDecodeError:
        return bare


KEYS: dict[str, Key] = {
    "raw_string": _raw,
    "bytes": _bytes,
    "bytes_up_to_leading_space": _without_space,
    "bytes_up_to_leading_space_and_case": _relaxed,
}


def _shared(
    key: Key, a: Vocabulary, b: Vocabulary, counts: Sequence[np.ndarray], with_corpus: bool
) -> dict[str, float | int]:
    keys = [[key(vocabulary, i) for i in range(len(vocabulary))] for vocabulary in (a, b)]
    result: dict[str, float | int] = {}
    for side, own, other, count in (("a", keys[0], keys[1], counts[0]), ("b", keys[1], keys[0], counts[1])):
        known = set(other) - {None}
        found = np.array([item in known for item in own], dtype=bool)
        result[f"types_of_{side}"] = int(found.sum())
        result[f"type_share_of_{side}"] = float(found.mean())
        if with_corpus:
            result[f"token_share_of_{side}"] = float(count[found].sum() / max(count.sum(), 1))
    return result


def format_inspection(result: dict[str, Any]) -> str:
    """The result as a table in plain text."""
    entries = result["vocabularies"]
    rows: list[tuple[str, list[str]]] = [
        ("", [entry["name"] for entry in entries]),
        ("kind", [" ".join(filter(None, (entry["kind"], entry["model"]))) for entry in entries]),
        ("size", [f"{entry['size']:,}" for entry in entries]),
        ("roles", [", ".join(f"{k} {v}" for k, v in entry["roles"].items()) or "none" for entry in entries]),
        ("special tokens", [f"{len(entry['special_tokens']):,}" for entry in entries]),
        ("normalizer", [", ".join(entry["normalizer"]) or "none" for entry in entries]),
        ("dummy prefix", ["yes" if entry["dummy_prefix"] else "no" for entry in entries]),
        ("byte tokens", [f"{entry['byte_tokens']:,}" for entry in entries]),
        ("gap ids", [f"{entry['gap_ids']:,}" for entry in entries]),
        ("unreachable duplicates", [f"{len(entry['unreachable_duplicates']):,}" for entry in entries]),
        ("probe texts", [_outcomes(entry["probes"]) for entry in entries]),
    ]
    if "corpus" in result:
        for label, key, form in (
            ("bytes per token", "bytes_per_token", "{:.3f}"),
            ("tokens per kilobyte", "tokens_per_kilobyte", "{:.1f}"),
            ("byte-fallback tokens", "byte_fallback_share", "{:.2%}"),
            ("unknown tokens", "unknown_share", "{:.2%}"),
        ):
            rows.append((label, [form.format(entry["compression"][key]) for entry in entries]))
    lines = _table(rows)
    if "shared" in result:
        shared: list[tuple[str, list[str]]] = [("shared by", ["types of A", "types of B"])]
        if "corpus" in result:
            shared[0][1].extend(["tokens of A", "tokens of B"])
        for name, shares in result["shared"].items():
            kinds = ("type", "token") if "corpus" in result else ("type",)
            values = [shares[f"{kind}_share_of_{side}"] for kind in kinds for side in "ab"]
            shared.append((name.replace("_", " "), [f"{value:.2%}" for value in values]))
        lines += ["", *_table(shared)]
    return "\n".join(lines)


def _outcomes(probes: dict[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in Counter(probes).most_common())


def _table(rows: Iterable[tuple[str, list[str]]]) -> list[str]:
    cells = [[label, *values] for label, values in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
