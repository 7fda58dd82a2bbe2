"""What a tokenizer is, how well it compresses a corpus, and what two of them share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.text.compression import Compression, compression_of
from vocabalign.text.oddities import Oddities, find_oddities
from vocabalign.text.reconstruction import check_reconstruction
from vocabalign.text.roles import roles_of
from vocabalign.text.scripts import token_script
from vocabalign.text.sharing import Sharing, compare_vocabularies
from vocabalign.text.spans import token_lengths
from vocabalign.text.tokenizers import probe_texts
from vocabalign.text.usage import count_usage, short_labels
from vocabalign.text.vocabulary import Vocabulary

LONGEST_TOKENS = 20
EXAMPLES = 8
"""Tokens of each kind of oddity that are spelled out."""


def inspect_vocabularies(
    a: Vocabulary, b: Vocabulary | None = None, corpus: Sequence[str | Path] = (), max_bytes: int | None = None
) -> dict[str, Any]:
    """Describe one vocabulary, or two and what they share; everything is a JSON value.

    Shares are of the types of each side ("of_a": how much of A's vocabulary is also in B's), and with a corpus
    also of its running tokens: the tokens of the text, without special ones around documents.

    Raises:
        CorpusError: the corpus cannot be read.
    """
    vocabularies = [a] if b is None else [a, b]
    sharing = None if b is None else compare_vocabularies(a, b)
    counts: list[np.ndarray] | None = None
    result: dict[str, Any] = {"vocabularies": []}
    if corpus:
        result["corpus"], counts = _read_corpus(vocabularies, corpus, max_bytes, sharing)
    scripts = [[token_script(token) for token in vocabulary.token_bytes] for vocabulary in vocabularies]
    for i, vocabulary in enumerate(vocabularies):
        entry = describe(vocabulary, None if counts is None else counts[i], scripts[i])
        if counts is not None:
            entry["compression"] = {
                **_as_dict(
                    compression_of(vocabulary, counts[i], result["corpus"]["documents"], result["corpus"]["bytes"])
                ),
                # Less than 1 where text is dropped (white space, unknown characters), more with dummy prefixes.
                "bytes_in_tokens_share": int(counts[i] @ token_lengths(vocabulary)) / result["corpus"]["bytes"],
                "types_used": int((counts[i] > 0).sum()),
            }
        result["vocabularies"].append(entry)
    if sharing is not None and b is not None:
        result["shared"] = sharing.shares(counts)
        result["shared_by_script"] = sharing.shares_by_script(scripts, counts)
        result["false_friends"] = _false_friends(sharing, a, b)
    return result


def describe(
    vocabulary: Vocabulary, counts: np.ndarray | None = None, scripts: Sequence[str] | None = None
) -> dict[str, Any]:
    """Kind, size, roles, oddities, lengths and scripts of a vocabulary.

    Args:
        vocabulary: what to describe.
        counts: (V,) int64, how often some text uses each token; None without text.
        scripts: of each token, where they are known already.
    """
    components = vocabulary.components
    scripts = scripts or [token_script(token) for token in vocabulary.token_bytes]
    oddities = find_oddities(vocabulary, counts, scripts)
    roles = roles_of(vocabulary)
    return {
        "name": vocabulary.name,
        "kind": components.kind if components else "custom",
        "model": components.model if components else None,
        "size": len(vocabulary),
        "roles": {role: vocabulary.raw_tokens[token_id] for role, token_id in vocabulary.roles.items()},
        "special_tokens": [
            {"id": i, "token": vocabulary.raw_tokens[i], "roles": list(roles.get(i, ()))}
            for i in sorted(vocabulary.special_ids | roles.keys())
        ],
        "normalizer": list(components.normalizer) if components else [],
        "dummy_prefix": vocabulary.dummy_prefix,
        "probes": {o: n for o, n in check_reconstruction(vocabulary, probe_texts()).counts.items() if n},
        "oddities": dict(oddities.kinds()),
        "odd_tokens": _odd_tokens(vocabulary, oddities, scripts, counts),
        "longest_tokens": _longest(vocabulary, scripts, counts),
        "lengths": _lengths(vocabulary, counts),
        "scripts": _scripts(scripts, counts),
        "fingerprint": vocabulary.fingerprint,
    }


def _read_corpus(
    vocabularies: Sequence[Vocabulary], corpus: Sequence[str | Path], max_bytes: int | None, sharing: Sharing | None
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What is told of each file, and the counts of all of them together."""
    totals = [np.zeros(len(vocabulary), dtype=np.int64) for vocabulary in vocabularies]
    files: list[dict[str, Any]] = []
    for usage in count_usage(vocabularies, corpus, max_bytes):
        for total, count in zip(totals, usage.counts, strict=True):
            total += count
        entry: dict[str, Any] = {"path": usage.path, "documents": usage.documents, "bytes": usage.bytes}
        entry["compression"] = [
            _as_dict(compression_of(vocabulary, count, usage.documents, usage.bytes))
            for vocabulary, count in zip(vocabularies, usage.counts, strict=True)
        ]
        if sharing is not None:
            entry["shared"] = sharing.token_shares(usage.counts)
        files.append(entry)
    for entry, label in zip(files, short_labels([entry["path"] for entry in files]), strict=True):
        entry["label"] = label
    summary = {key: sum(entry[key] for entry in files) for key in ("documents", "bytes")}
    return {**summary, "files": files}, totals


def _as_dict(compression: Compression) -> dict[str, float | int]:
    return {
        "tokens": compression.tokens,
        "bytes_per_token": compression.bytes_per_token,
        "tokens_per_kilobyte": compression.tokens_per_kilobyte,
        "byte_fallback_share": compression.byte_fallback_share,
        "unknown_share": compression.unknown_share,
    }


def _token(vocabulary: Vocabulary, token_id: int, script: str, counts: np.ndarray | None) -> dict[str, Any]:
    token = vocabulary.token_bytes[token_id]
    text = vocabulary.raw_tokens[token_id] if token is None else token.decode("utf-8", "backslashreplace")
    entry = {"id": token_id, "token": text, "bytes": len(token or b""), "script": script}
    return entry if counts is None else {**entry, "uses": int(counts[token_id])}


def _odd_tokens(
    vocabulary: Vocabulary, oddities: Oddities, scripts: Sequence[str], counts: np.ndarray | None
) -> list[dict[str, Any]]:
    """A few of each kind, evenly spread over the ids; gaps and byte tokens need no spelling out."""
    result = []
    for kind, ids in oddities.kinds():
        if kind not in ("gaps", "byte_tokens", "idle_byte_tokens"):
            step = max(1, len(ids) // EXAMPLES)
            chosen = ids[::step][:EXAMPLES]
            result += [{"kind": kind, **_token(vocabulary, i, scripts[i], counts)} for i in chosen]
    return result


def _longest(vocabulary: Vocabulary, scripts: Sequence[str], counts: np.ndarray | None) -> list[dict[str, Any]]:
    lengths = token_lengths(vocabulary)
    order = np.argsort(-lengths, kind="stable")[:LONGEST_TOKENS]
    return [_token(vocabulary, int(i), scripts[i], counts) for i in order if lengths[i]]


def _lengths(vocabulary: Vocabulary, counts: np.ndarray | None) -> dict[str, dict[int, int]]:
    """Bytes -> types (and running tokens) of that length; tokens without bytes are left out."""
    lengths = token_lengths(vocabulary)
    result = {"types": np.bincount(lengths)}
    if counts is not None:
        result["tokens"] = np.bincount(lengths, weights=counts).astype(np.int64)
    return {
        name: {length: int(n) for length, n in enumerate(histogram) if n and length}
        for name, histogram in result.items()
    }


def _scripts(scripts: Sequence[str], counts: np.ndarray | None) -> dict[str, dict[str, int]]:
    """Script -> types (and running tokens), most types first."""
    names, codes = np.unique(np.array(scripts), return_inverse=True)
    types = np.bincount(codes, minlength=len(names))
    tokens = None if counts is None else np.bincount(codes, weights=counts, minlength=len(names)).astype(np.int64)
    return {
        str(names[i]): {"types": int(types[i])} | ({} if tokens is None else {"tokens": int(tokens[i])})
        for i in np.argsort(-types, kind="stable")
    }


def _false_friends(sharing: Sharing, a: Vocabulary, b: Vocabulary) -> dict[str, Any]:
    """Tokens with the same raw string that stand for different bytes."""
    examples = [
        {
            "raw": a.raw_tokens[a_id],
            "bytes_in_a": (a.token_bytes[a_id] or b"").hex(" "),
            "bytes_in_b": (b.token_bytes[b_id] or b"").hex(" "),
        }
        for a_id, b_id in sharing.false_friends[:EXAMPLES]
    ]
    return {"count": len(sharing.false_friends), "examples": examples}
