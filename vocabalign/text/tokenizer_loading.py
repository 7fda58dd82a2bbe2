"""Loading tokenizers so that the ids are right, checked by encoding.

transformers 5 may build a tokenizer anew from its class instead of from ``tokenizer.json``: the ids are then
those of another tokenizer, without a word. So whatever is loaded is compared with the file itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import TokenizerError
from vocabalign.text.probes import first_difference, probe_texts
from vocabalign.text.tokenizer_sources import (
    load_auto,
    load_without_json,
    locate,
    needs_remote_code,
    one_line,
    read_tokenizer_config,
)
from vocabalign.text.vocabulary import EncodeBatch

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("vocabalign")


def load_tokenizer(reference: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, with the ids that its ``tokenizer.json`` gives.

    ``AutoTokenizer`` is taken where it agrees with the file on all probe texts, else ``PreTrainedTokenizerFast``,
    which reads the file as it is. Without a tokenizer.json a SentencePiece model, a tiktoken file or a tokenizer of
    bytes or characters is converted.

    Args:
        reference: a folder, a tokenizer.json, a SentencePiece ``*.model`` or a ``*.tiktoken`` file.

    Raises:
        TokenizerError: nothing that could be loaded is there, or it needs code of its own.
    """
    folder, file = locate(reference)
    config = read_tokenizer_config(folder)
    if file is None and (folder / "tokenizer.json").is_file():
        return _load_verified(folder, read_raw_tokenizer(folder / "tokenizer.json"), config)
    if file is None and needs_remote_code(config):
        raise TokenizerError(
            f"{folder} needs code of its own for its tokenizer (auto_map), which is never executed: "
            "give a folder with a tokenizer.json."
        )
    return load_without_json(folder, file, config)


def read_raw_tokenizer(path: Path) -> Tokenizer:
    """A ``tokenizer.json`` as the tokenizers library reads it, without truncation and padding.

    Raises:
        TokenizerError: the file is not a tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{path} cannot be read as a tokenizer: {one_line(error)}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _load_verified(folder: Path, raw: Tokenizer, config: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    specials = [token.content for token in raw.get_added_tokens_decoder().values()]
    texts = probe_texts(specials)
    # A folder with its own code would make AutoTokenizer ask; the file alone says all there is to know.
    tokenizer = None if needs_remote_code(config) else load_auto(folder)
    if tokenizer is not None and not isinstance(tokenizer, Exception):
        difference = describe_difference(tokenizer, raw, texts)
        if difference is None:
            logger.debug("%s: AutoTokenizer (%s) agrees with tokenizer.json", folder, type(tokenizer).__name__)
            return tokenizer
        logger.info("%s: AutoTokenizer is not used, %s; PreTrainedTokenizerFast is", folder, difference)
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise TokenizerError(f"The tokenizer in {folder} cannot be loaded: {one_line(error)}") from error
    difference = describe_difference(tokenizer, raw, texts, compare_size=False)
    if difference is not None:
        raise TokenizerError(
            f"transformers does not load the tokenizer in {folder} as its tokenizer.json: {difference}."
        )
    return tokenizer


def describe_difference(
    tokenizer: PreTrainedTokenizerBase, raw: Tokenizer, texts: Sequence[str], *, compare_size: bool = True
) -> str | None:
    """How a loaded tokenizer differs from the one in the file; None where it does not."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return f"{type(tokenizer).__name__} is not a fast tokenizer"
    encode = make_encode_batch(backend)
    try:
        text = first_difference(
            lambda text: encode([text])[0], lambda text: raw.encode(text, add_special_tokens=False).ids, texts
        )
    except Exception as error:  # a rebuilt tokenizer may lack what its own parts name
        return f"it cannot encode text ({one_line(error)})"
    if text is not None:
        return f"it gives other ids for {text[:60]!r}"
    if compare_size and backend.get_vocab_size() != raw.get_vocab_size():
        return f"it has {backend.get_vocab_size()} tokens instead of {raw.get_vocab_size()}"
    return None


def backend_of(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizers-library object inside a transformers tokenizer.

    Raises:
        TokenizerError: there is none (a tokenizer written in Python).
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise TokenizerError(
            f"The bytes of the tokens of {type(tokenizer).__name__} cannot be told: it is not a fast tokenizer; "
            "give it as (list of bytes, encode function)."
        )
    return backend


def make_encode_batch(backend: Tokenizer) -> EncodeBatch:
    """A function from texts to ids: no special tokens added, nothing cut off or padded, no warnings."""
    encode_many = getattr(backend, "encode_batch_fast", backend.encode_batch)

    def encode_batch(texts: Sequence[str]) -> list[list[int]]:
        # transformers leaves its last truncation and padding on the shared object.
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        return [encoding.ids for encoding in encode_many(list(texts), add_special_tokens=False)]

    return encode_batch
