"""A vocabulary as the stages see it: the bytes of each token, a way to encode text, and the roles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vocabalign.text.token_bytes import Components

EncodeBatch = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """One tokenizer, whatever its kind.

    Attributes:
        name: for messages: the folder's name, or "custom".
        token_bytes: index = id; the exact bytes that the token stands for in running text, ``None``
            for special tokens and for ids that no token has.
        encode_batch: texts -> ids, without special tokens added.
        raw_tokens: index = id; the token as the tokenizer's own files write it ("" for gap ids).
        roles: "bos", "eos", "pad", "unk", "mask" -> id, where the tokenizer has one.
        special_ids: ids that stand for no text.
        byte_ids: ids of byte-fallback tokens (``<0x2E>``); they share their bytes with ordinary tokens.
        dummy_prefix: a space that the tokenizer puts before every text and takes away again.
        fingerprint: SHA-256 of tokens, bytes and roles.
        tokenizer: the transformers tokenizer behind it; ``None`` for a custom vocabulary.
        components: what its parts say about its tokens; ``None`` for a custom vocabulary.
        more_eos: further tokens at which generation stops, as ``generation_config.json`` beside the tokenizer says.
    """

    name: str
    token_bytes: tuple[bytes | None, ...]
    encode_batch: EncodeBatch
    raw_tokens: tuple[str, ...]
    roles: Mapping[str, int]
    special_ids: frozenset[int]
    byte_ids: frozenset[int]
    dummy_prefix: bool
    fingerprint: str
    tokenizer: PreTrainedTokenizerBase | None = field(default=None, repr=False)
    components: Components | None = field(default=None, repr=False)
    more_eos: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Highest id + 1."""
        return len(self.token_bytes)

    def encode(self, text: str) -> list[int]:
        """Ids of one text, without special tokens."""
        return self.encode_batch([text])[0]

    def ids_by_bytes(self) -> dict[bytes, int]:
        """Bytes -> the lowest id that has them: ordinary tokens before byte-fallback ones.

        Where several ordinary tokens have the same bytes running text may use another one:
        ``vocabalign.text.segmentation.ids_in_running_text`` asks the tokenizer.
        """
        result: dict[bytes, int] = {}
        for token_id in sorted(range(len(self)), key=lambda i: (i in self.byte_ids, i)):
            token = self.token_bytes[token_id]
            if token is not None:
                result.setdefault(token, token_id)
        return result
