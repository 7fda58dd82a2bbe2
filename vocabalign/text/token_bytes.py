"""The exact bytes of every token, found from the components of a tokenizer.

Decoding single ids does not tell them (the decoder strips leading spaces, and half a character becomes
U+FFFD), and class names do not either (transformers gives many kinds the same class). What the model,
normalizer, pre-tokenizer and decoder do to text is written in ``tokenizer.json``; that is what is read here.
Reference: ``reconstruction.py`` proves the result on text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vocabalign.errors import TokenizerError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# More tokens than this share outside the byte alphabet: the tokenizer is not what its components say.
_MAX_STRANGE_SHARE = 0.01


@dataclass(frozen=True)
class Components:
    """What the parts of a tokenizer say about its tokens.

    Attributes:
        kind: "byte-level", "sentencepiece" (a mark stands for the space), "wordpiece" or "plain".
        model: "BPE", "Unigram", "WordPiece" or "WordLevel".
        space_mark: what stands for a space inside tokens, "" for none.
        byte_fallback: unknown characters become ``<0xNN>`` tokens.
        continuation: prefix of tokens that continue a word ("##"), "" for none.
        word_end: suffix of tokens that end a word ("</w>"), "" for none.
        dummy_prefix: a space is put before every text.
        normalizer: types of the normalizers that change text, in order.
        unknown: the raw token for what the vocabulary lacks, "" for none.
    """

    kind: str
    model: str
    space_mark: str
    byte_fallback: bool
    continuation: str
    word_end: str
    dummy_prefix: bool
    normalizer: tuple[str, ...]
    unknown: str


@dataclass(frozen=True)
class TokenBytes:
    """Bytes of all ids of a tokenizer; index = id.

    Attributes:
        token_bytes: None for special tokens, gap ids and tokens that no text can give.
        raw_tokens: as written in the tokenizer's files, "" for gap ids.
        special_ids: ids that stand for no text.
        byte_ids: ids of byte-fallback tokens.
        components: what the bytes were told from.
    """

    token_bytes: tuple[bytes | None, ...]
    raw_tokens: tuple[str, ...]
    special_ids: frozenset[int]
    byte_ids: frozenset[int]
    components: Components = field(repr=False)


def byte_alphabet() -> dict[str, int]:
    """The characters that stand for bytes in byte-level vocabularies -> the byte.

    Printable bytes stand for themselves, the others are numbered from U+0100 on: Ġ is the space.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + number): byte for number, byte in enumerate(others)}


def read_components(state: Mapping[str, Any], name: str = "the tokenizer") -> Components:
    """What the components in a ``tokenizer.json`` say.

    Raises:
        TokenizerError: the kind of model is unknown, or the components contradict each other.
    """
    model = state["model"]
    normalizers = list(_flatten(state.get("normalizer"), "normalizers"))
    pre_tokenizers = list(_flatten(state.get("pre_tokenizer"), "pretokenizers"))
    decoders = list(_flatten(state.get("decoder"), "decoders"))
    model_type = model.get("type") or ("BPE" if "merges" in model else "WordPiece")
    byte_level = any(part["type"] == "ByteLevel" for part in normalizers + pre_tokenizers)
    mark = _space_mark(normalizers, pre_tokenizers)
    if model_type not in ("BPE", "Unigram", "WordPiece", "WordLevel"):
        raise TokenizerError(f"The tokens of {name} cannot be told as bytes: its model type '{model_type}' is unknown.")
    if byte_level and mark:
        raise TokenizerError(
            f"The tokens of {name} cannot be told as bytes: it is byte-level and also writes '{mark}' for the space."
        )
    if not byte_level and any(part["type"] == "ByteLevel" for part in decoders):
        raise TokenizerError(
            f"The tokens of {name} cannot be told as bytes: its decoder is byte-level, its pre-tokenizer is not."
        )
    word_piece = model_type == "WordPiece"
    kind = "byte-level" if byte_level else "sentencepiece" if mark else "wordpiece" if word_piece else "plain"
    fallback = bool(model.get("byte_fallback")) or any(part["type"] == "ByteFallback" for part in decoders)
    changing = [part["type"] for part in normalizers if not _only_marks_spaces(part, mark)]
    unknown = model.get("unk_token") or ""
    if model_type == "Unigram" and model.get("unk_id") is not None:
        unknown = model["vocab"][model["unk_id"]][0]
    return Components(
        kind=kind,
        model=model_type,
        space_mark=mark,
        byte_fallback=fallback and not byte_level,
        continuation=model.get("continuing_subword_prefix") or "",
        word_end=model.get("end_of_word_suffix") or "",
        dummy_prefix=_has_dummy_prefix(normalizers, pre_tokenizers, mark or " "),
        normalizer=tuple(changing),
        unknown=unknown,
    )


def read_token_bytes(
    state: Mapping[str, Any], name: str = "the tokenizer", special_tokens: frozenset[str] = frozenset()
) -> TokenBytes:
    """Bytes of every id of a ``tokenizer.json``.

    Args:
        state: the content of the file.
        name: for messages.
        special_tokens: raw tokens that are special although the file does not say so.

    Raises:
        TokenizerError: the bytes cannot be established.
    """
    components = read_components(state, name)
    vocabulary = state["model"]["vocab"]
    ids = dict(vocabulary) if isinstance(vocabulary, Mapping) else {entry[0]: i for i, entry in enumerate(vocabulary)}
    added = {token["id"]: token for token in state.get("added_tokens", ())}
    size = 1 + max([*ids.values(), *added], default=-1)
    raw: list[str] = [""] * size
    found: list[bytes | None] = [None] * size
    special, byte_ids, strange = set(), set(), []
    unknown = {components.unknown} if components.unknown else set()
    alphabet = byte_alphabet()
    for text, token_id in ids.items():
        raw[token_id] = text
        if token_id in added:
            continue
        if text in unknown or text in special_tokens:
            special.add(token_id)
            continue
        found[token_id] = _model_token(text, components, alphabet)
        if found[token_id] is None:
            strange.append(token_id)
        if components.byte_fallback and _BYTE_TOKEN.fullmatch(text):
            byte_ids.add(token_id)
    for token_id, token in added.items():
        text = raw[token_id] = token["content"]
        if token["special"] or text in unknown or text in special_tokens:
            special.add(token_id)
        elif components.byte_fallback and _BYTE_TOKEN.fullmatch(text):
            # Some converters register the byte tokens as added ones.
            byte_ids.add(token_id)
            found[token_id] = _model_token(text, components, alphabet)
        else:
            # Cut out of the text before the model sees it, so it stands for itself, mark or not.
            literal = text.replace(components.space_mark, " ") if components.space_mark else text
            found[token_id] = literal.encode()
    if len(strange) > _MAX_STRANGE_SHARE * size:
        shown = ", ".join(f"{token_id} {raw[token_id]!r}" for token_id in strange[:5])
        raise TokenizerError(
            f"The tokens of {name} cannot be told as bytes: it says it is byte-level, but {len(strange)} tokens are "
            f"not written in the byte alphabet ({shown}, ...)."
        )
    return TokenBytes(tuple(found), tuple(raw), frozenset(special), frozenset(byte_ids), components)


def _model_token(text: str, components: Components, alphabet: Mapping[str, int]) -> bytes | None:
    """Bytes of one token of the model; None where no text can give it."""
    if components.byte_fallback:
        match = _BYTE_TOKEN.fullmatch(text)
        if match:
            return bytes([int(match[1], 16)])
    if components.continuation:
        text = text.removeprefix(components.continuation)
    if components.word_end:
        text = text.removesuffix(components.word_end)
    if components.kind == "byte-level":
        try:
            return bytes([alphabet[character] for character in text])
        except KeyError:
            return None
    if components.space_mark:
        text = text.replace(components.space_mark, " ")
    return text.encode(errors="replace")


def _flatten(part: Mapping[str, Any] | None, key: str) -> Iterator[Mapping[str, Any]]:
    """A component, or the components of a sequence of them, at any depth."""
    if part is None:
        return
    if part["type"] == "Sequence":
        for inner in part[key]:
            yield from _flatten(inner, key)
    else:
        yield part


def _replaces_space(part: Mapping[str, Any]) -> bool:
    return part["type"] == "Replace" and part["pattern"].get("String") == " " and len(part["content"]) == 1


def _space_mark(normalizers: list[Mapping[str, Any]], pre_tokenizers: list[Mapping[str, Any]]) -> str:
    marks = [part["replacement"] for part in pre_tokenizers if part["type"] == "Metaspace"]
    marks += [part["content"] for part in normalizers if _replaces_space(part)]
    return next((mark for mark in marks if not mark.isspace()), "")


def _only_marks_spaces(part: Mapping[str, Any], mark: str) -> bool:
    is_prefix = part["type"] == "Prepend" and part.get("prepend") in (mark, " ")
    return part["type"] == "ByteLevel" or is_prefix or (_replaces_space(part) and part["content"] == mark)


def _has_dummy_prefix(normalizers: list[Mapping[str, Any]], pre_tokenizers: list[Mapping[str, Any]], mark: str) -> bool:
    if any(part["type"] == "Prepend" and part["prepend"] in (mark, " ") for part in normalizers):
        return True
    for part in pre_tokenizers:
        if part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never":
            return part.get("add_prefix_space", True)
        if part["type"] == "ByteLevel" and part.get("add_prefix_space"):
            return True
    return False
