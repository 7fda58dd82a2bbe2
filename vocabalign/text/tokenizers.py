"""Vocabularies from tokenizer folders, transformers tokenizers, or plain lists of bytes.

The names to import from here: verified loading and saving are in files of their own.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import TokenizerError
from vocabalign.text.normalization import normalizer_effects
from vocabalign.text.probes import probe_texts
from vocabalign.text.reconstruction import check_reconstruction
from vocabalign.text.token_bytes import read_token_bytes
from vocabalign.text.tokenizer_loading import backend_of, load_tokenizer, make_encode_batch
from vocabalign.text.tokenizer_saving import save_tokenizer
from vocabalign.text.tokenizer_sources import locate, with_backend
from vocabalign.text.vocabulary import EncodeBatch, Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["load_tokenizer", "load_vocabulary", "probe_texts", "save_tokenizer", "tokenizer_state"]

logger = logging.getLogger("vocabalign")

CustomVocabulary = tuple[Sequence[bytes | None], Callable[[str], list[int]]]
ROLES = ("bos", "eos", "pad", "unk", "mask")


def load_vocabulary(what: str | Path | PreTrainedTokenizerBase | CustomVocabulary) -> Vocabulary:
    """The vocabulary of a tokenizer.

    Args:
        what: a tokenizer or model folder, a SentencePiece ``*.model`` or ``*.tiktoken`` file, ``demo:source``, a
            loaded transformers tokenizer, or for a custom vocabulary the pair (bytes of each id with None for special
            ones, function from text to ids).

    Raises:
        TokenizerError: the tokenizer cannot be loaded, or the bytes of its tokens cannot be established.
    """
    if isinstance(what, (str, Path)):
        tokenizer = load_tokenizer(what)
        folder, file = locate(what)
        name = str(what) if str(what).startswith("demo:") else (file or folder).name
        return replace(_from_tokenizer(tokenizer, name), more_eos=_more_eos(folder))
    if isinstance(what, tuple):
        return _from_custom(*what)
    name = Path(str(getattr(what, "name_or_path", ""))).name or type(what).__name__
    return _from_tokenizer(with_backend(what), name)


def tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The content of the ``tokenizer.json`` that a tokenizer would write."""
    return json.loads(backend_of(tokenizer).to_str())


def _from_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> Vocabulary:
    state = tokenizer_state(tokenizer)
    named = {role: getattr(tokenizer, f"{role}_token_id", None) for role in ROLES}
    roles: dict[str, int] = {role: int(token_id) for role, token_id in named.items() if token_id is not None}
    # Roles that the file does not mark as special are still no text.
    special = frozenset(map(str, tokenizer.convert_ids_to_tokens(list(roles.values()))))
    table = read_token_bytes(state, name, special)
    vocabulary = _make(
        name,
        table.token_bytes,
        make_encode_batch(backend_of(tokenizer)),
        raw_tokens=table.raw_tokens,
        roles=roles,
        special_ids=table.special_ids,
        byte_ids=table.byte_ids,
        dummy_prefix=table.components.dummy_prefix,
        tokenizer=tokenizer,
        components=table.components,
    )
    _prove(vocabulary)
    return vocabulary


def _more_eos(folder: Path) -> tuple[int, ...]:
    """EOS ids of ``generation_config.json``, which may be several; empty where there is no such file."""
    path = folder / "generation_config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    except (OSError, ValueError, AttributeError):
        return ()  # the stages that need the file say what is wrong with it
    ids = value if isinstance(value, list) else [value]
    return tuple(i for i in ids if isinstance(i, int) and not isinstance(i, bool))


def _prove(vocabulary: Vocabulary) -> None:
    """Refuse a vocabulary whose bytes do not give the probe texts back; name a normalizer that loses text.

    Raises:
        TokenizerError: with the ids whose bytes are not right.
    """
    report = check_reconstruction(vocabulary, probe_texts())
    if not report.proven:
        shown = ", ".join(f"{i} {vocabulary.raw_tokens[i]!r}" for i in dict.fromkeys(report.failing_ids[:5]))
        text = next(text for outcome, text in report.examples if outcome == "different")
        raise TokenizerError(
            f"The bytes of the tokens of {vocabulary.name} cannot be established: {text[:40]!r} does not come back "
            f"from its tokens; the first that are wrong are {shown}."
        )
    effects = normalizer_effects(vocabulary)
    if effects:
        lossless = all(effect.startswith("NFC") for effect in effects)
        level = logging.INFO if lossless else logging.WARNING
        logger.log(level, "%s changes text before it cuts it: %s.", vocabulary.name, ", ".join(effects))


def _from_custom(tokens: Sequence[bytes | None], encode: Callable[[str], list[int]]) -> Vocabulary:
    wrong = next((token for token in tokens if token is not None and not isinstance(token, bytes)), None)
    if wrong is not None or not len(tokens) or not callable(encode):
        found = f"a token {wrong!r}" if wrong is not None else "no tokens" if callable(encode) else "no function"
        raise TokenizerError(
            f"A custom vocabulary is (list of bytes or None, function from text to ids); found {found}."
        )
    return _make(
        "custom",
        tuple(tokens),
        lambda texts: [list(encode(text)) for text in texts],
        raw_tokens=tuple("" if token is None else token.decode("utf-8", "backslashreplace") for token in tokens),
        roles={},
        special_ids=frozenset(i for i, token in enumerate(tokens) if token is None),
        byte_ids=frozenset(),
        dummy_prefix=False,
    )


def _make(name: str, token_bytes: tuple[bytes | None, ...], encode_batch: EncodeBatch, **parts: Any) -> Vocabulary:
    digest = hashlib.sha256(json.dumps([parts["raw_tokens"], sorted(parts["roles"].items())]).encode())
    for token in token_bytes:
        digest.update(b"-" if token is None else b"%d:" % len(token) + token)
    return Vocabulary(name, token_bytes, encode_batch, fingerprint=digest.hexdigest(), **parts)
