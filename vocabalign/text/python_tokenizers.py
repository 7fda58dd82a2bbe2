"""Tokenizers written in Python that give every byte or every character an id (ByT5, CANINE), made into ordinary ones.

They have no components to read, so what they do is found by asking: each byte that text can have, and characters of
every plane. The conversion is compared with the tokenizer itself on the probe texts; others are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from vocabalign.errors import TokenizerError
from vocabalign.text.probes import first_difference, probe_texts
from vocabalign.text.token_bytes import byte_alphabet

if TYPE_CHECKING:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerBase

_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def convert_python_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The same tokenizer as one of the tokenizers library.

    Raises:
        TokenizerError: it gives ids neither to bytes nor to characters, or does more than that.
    """
    from tokenizers import AddedToken, Tokenizer

    name = type(tokenizer).__name__
    added = {i: token for i, token in tokenizer.added_tokens_decoder.items()}
    names = list(dict.fromkeys(map(str, tokenizer.all_special_tokens)))
    named = dict(zip(names, cast("list[int]", tokenizer.convert_tokens_to_ids(names)), strict=True))
    special = {token.content: i for i, token in added.items()} | named
    for find in (_byte_model, _character_model):
        model, cut = find(tokenizer, special)
        if model is not None:
            break
    else:
        raise TokenizerError(
            f"The bytes of the tokens of {name} cannot be told: it is written in Python and gives ids neither to "
            "bytes nor to characters; give it as (list of bytes, encode function)."
        )
    converted = Tokenizer(model)
    converted.pre_tokenizer, converted.decoder = cut
    plain = {"special": True, "normalized": False}
    converted.add_special_tokens(
        [
            AddedToken(text, lstrip=added[i].lstrip, rstrip=added[i].rstrip, **plain)
            if i in added
            else AddedToken(text, **plain)
            for text, i in special.items()
        ]
    )
    texts = probe_texts(list(special))
    different = first_difference(
        lambda text: converted.encode(text, add_special_tokens=False).ids, lambda text: _encode(tokenizer, text), texts
    )
    if different is not None:
        raise TokenizerError(
            f"The bytes of the tokens of {name} cannot be told: it does more than give ids to bytes or characters "
            f"({different[:40]!r} is cut differently); give it as (list of bytes, encode function)."
        )
    return converted


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _byte_model(tokenizer: PreTrainedTokenizerBase, special: Mapping[str, int]) -> tuple[models.Model | None, tuple]:
    """A vocabulary of 256 bytes, if every character is given as many ids as it has bytes, always the same ones."""
    from tokenizers import decoders, models, pre_tokenizers

    ids: dict[int, int] = {}
    # Together these characters have every byte that UTF-8 knows.
    characters = [
        chr(code) for code in (*range(0x800), *range(0x800, 0x10000, 0x400), *range(0x10000, 0x110000, 0x8000))
    ]
    for character in characters:
        if ord(character) in _SURROGATES or character in special:
            continue
        own, raw = _encode(tokenizer, character), character.encode()
        if len(own) != len(raw) or any(ids.setdefault(byte, i) != i for byte, i in zip(raw, own, strict=True)):
            return None, ()
    offsets = {i - byte for byte, i in ids.items()}
    if len(offsets) != 1:
        return None, ()
    offset = offsets.pop()
    vocabulary = {character: byte + offset for character, byte in byte_alphabet().items()}
    model = models.BPE(vocab=vocabulary | dict(special), merges=[])
    return model, (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel())


def _character_model(
    tokenizer: PreTrainedTokenizerBase, special: Mapping[str, int]
) -> tuple[models.Model | None, tuple]:
    """A vocabulary of all characters, if each of a sample has the id of its code point."""
    from tokenizers import Regex, decoders, models, pre_tokenizers

    sample = [code for code in range(1, _LAST_CHARACTER, 997) if code not in _SURROGATES and chr(code) not in special]
    if any(_encode(tokenizer, chr(code)) != [code] for code in sample):
        return None, ()
    vocabulary = {chr(code): code for code in range(_LAST_CHARACTER + 1) if code not in _SURROGATES}
    model = models.WordLevel(vocab=vocabulary | dict(special), unk_token="\x00")
    return model, (pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated"), decoders.Fuse())
