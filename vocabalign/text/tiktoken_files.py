"""tiktoken files (``*.tiktoken``, and Llama 3's ``tokenizer.model``) as tokenizers of the tokenizers library.

Such a file holds the bytes and the rank of every token and nothing else: the pattern that cuts text into words and
the special tokens belong to the encoding. Those of published encodings are known here, by the SHA-256 of the file;
for others they are given in ``tokenizer_config.json`` or by the caller. The conversion is checked against the
algorithm itself: merge the neighbours whose union has the lowest rank, leftmost first, until nothing merges.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vocabalign.errors import TokenizerError
from vocabalign.text.probes import first_difference, probe_texts
from vocabalign.text.tiktoken_encodings import BY_CONTENT, ENCODINGS, Encoding
from vocabalign.text.token_bytes import byte_alphabet

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PATTERN_KEY = "tiktoken_pattern"


def is_tiktoken(path: Path) -> bool:
    """Whether a file begins as one of tiktoken: base64, a space, a number."""
    with path.open("rb") as file:
        first = file.readline(4096)
    token, _, rank = first.rstrip(b"\r\n").partition(b" ")
    try:
        return bool(base64.b64decode(token, validate=True)) and rank.isdigit()
    except binascii.Error:
        return False


def convert_tiktoken(
    path: Path, config: Mapping[str, Any] = MappingProxyType({}), encoding: Encoding | None = None
) -> tuple[Tokenizer, dict[str, str]]:
    """Convert a tiktoken file; the result is compared with the algorithm itself on the probe texts.

    Args:
        path: the file.
        config: ``tokenizer_config.json``: its ``tiktoken_pattern`` and ``added_tokens_decoder`` come before what is
            known of the encoding.
        encoding: what the file does not say; by default that of the published encoding.

    Returns:
        The tokenizer, and role -> its raw token.

    Raises:
        TokenizerError: the file is not of this kind, its pattern is not known, a single byte has no token, special
            tokens collide, or the conversion cuts text differently.
    """
    content = path.read_bytes()
    ranks = _read_ranks(path, content)
    encoding = encoding or _known_encoding(path, content, config)
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise TokenizerError(f"{path} has no token for {len(missing)} bytes (the first is {missing[0]}); expected all.")
    special = dict(encoding.special_tokens)
    taken = {rank: token for token, rank in ranks.items()}
    for text, token_id in special.items():
        if token_id in taken:
            raise TokenizerError(f"{path}: id {token_id} of the special token {text} is that of {taken[token_id]!r}.")
    tokenizer = _build(ranks, encoding, special)
    encode = reference_encoder(ranks, encoding)
    different = first_difference(lambda text: tokenizer.encode(text).ids, encode, probe_texts())
    if different is not None:
        raise TokenizerError(
            f"{path} cannot be converted: text such as {different[:40]!r} would get other tokens. Possessive "
            "quantifiers in the pattern mean something else in a tokenizer.json: write it without them."
        )
    from tokenizers import AddedToken

    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return tokenizer, {role: token for role, token in encoding.roles.items() if token in special}


def _read_ranks(path: Path, content: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        token, _, rank = line.partition(b" ")
        try:
            decoded, rank_number = base64.b64decode(token, validate=True), int(rank)
        except (binascii.Error, ValueError):
            raise TokenizerError(
                f"{path}, line {number}: expected the base64 of a token, a space and its rank; found {line[:40]!r}."
            ) from None
        if decoded in ranks:
            raise TokenizerError(f"{path}, line {number}: the token {decoded!r} is there twice; expected it once.")
        ranks[decoded] = rank_number
    if len(set(ranks.values())) < len(ranks):
        raise TokenizerError(f"{path}: two tokens have the same rank; expected different ones.")
    return ranks


def _known_encoding(path: Path, content: bytes, config: Mapping[str, Any]) -> Encoding:
    name = path.stem if path.stem in ENCODINGS else BY_CONTENT.get(hashlib.sha256(content).hexdigest())
    known = ENCODINGS.get(name) if name else None
    pattern = config.get(PATTERN_KEY) or (known.pattern if known else None)
    if pattern is None:
        raise TokenizerError(
            f"{path} is none of the known tiktoken encodings ({', '.join(ENCODINGS)}), and the file does not say how "
            f'text is cut into words: put {{"{PATTERN_KEY}": "..."}} into tokenizer_config.json beside it, with the '
            "special tokens as added_tokens_decoder."
        )
    special = dict(known.special_tokens) if known else {}
    for token_id, token in (config.get("added_tokens_decoder") or {}).items():
        text = token["content"] if isinstance(token, Mapping) else str(token)
        special = {other: number for other, number in special.items() if number != int(token_id)}
        special[text] = int(token_id)
    return Encoding(pattern, special, known.normalizer if known else "", known.roles if known else {})


def _build(ranks: Mapping[bytes, int], encoding: Encoding, special: Mapping[str, int]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    letters = {byte: character for character, byte in byte_alphabet().items()}
    text = {token: "".join([letters[byte] for byte in token]) for token in ranks}
    # A token may come about from any two tokens that it consists of.
    merges = [
        (rank, ranks[token[:at]], ranks[token[at:]], text[token[:at]], text[token[at:]])
        for token, rank in ranks.items()
        for at in range(1, len(token))
        if token[:at] in ranks and token[at:] in ranks
    ]
    merges.sort()
    # With the special tokens in the model's vocabulary they keep ids that are not the next ones.
    vocabulary = {text[token]: rank for token, rank in ranks.items()} | dict(special)
    pairs = [(first, second) for _, _, _, first, second in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=True, fuse_unk=False))
    split = pre_tokenizers.Split(Regex(encoding.pattern), behavior="isolated")
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_of_words])  # type: ignore[list-item]
    tokenizer.decoder = decoders.ByteLevel()
    if encoding.normalizer:
        tokenizer.normalizer = getattr(normalizers, encoding.normalizer)()
    return tokenizer


def reference_encoder(ranks: Mapping[bytes, int], encoding: Encoding) -> Callable[[str], list[int]]:
    """tiktoken's algorithm, slow and plain: what conversions are compared with."""
    import unicodedata

    import regex  # type: ignore[import-untyped]

    words = regex.compile(encoding.pattern)

    def encode(text: str) -> list[int]:
        if encoding.normalizer:
            text = unicodedata.normalize(encoding.normalizer, text)  # type: ignore[arg-type]
        return [rank for word in words.findall(text) for rank in merge_by_rank(ranks, word.encode())]

    return encode


def merge_by_rank(ranks: Mapping[bytes, int], word: bytes) -> list[int]:
    """The tokens of one word: the word itself, or neighbours merged by the rank of their union."""
    if word in ranks:
        return [ranks[word]]
    parts = [bytes([byte]) for byte in word]
    while len(parts) > 1:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], 1 << 60))
        union = parts[best] + parts[best + 1]
        if union not in ranks:
            break
        parts[best : best + 2] = [union]
    return [ranks[part] for part in parts]
