"""Published tiktoken encodings: the pattern and the special tokens, which their files do not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

_R50K = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Encoding:
    """What a tiktoken file does not say.

    Attributes:
        pattern: regular expression whose matches are the words of a text.
        special_tokens: raw token -> id.
        normalizer: "NFC", or "" for none.
        roles: role -> raw token, for tokenizers whose settings name none.
    """

    pattern: str
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    normalizer: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)


def _numbered(start: int, names: Sequence[str]) -> dict[str, int]:
    return {name: start + number for number, name in enumerate(names)}


_END = {"<|endoftext|>": 50256}
_END_ROLES = {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}
_FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
_RESERVED = [f"<|reserved_special_token_{number}|>" for number in range(251)]
_LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", *_RESERVED[:4], "<|start_header_id|>", "<|end_header_id|>"]
_LLAMA3 += [_RESERVED[4], "<|eot_id|>", *_RESERVED[5:]]
_HARMONY = {"<|startoftext|>": 199998, "<|endoftext|>": 199999, "<|return|>": 200002, "<|constrain|>": 200003}
_HARMONY |= {"<|channel|>": 200005, "<|start|>": 200006, "<|end|>": 200007, "<|message|>": 200008}
_HARMONY |= {"<|call|>": 200012, "<|endofprompt|>": 200018}
_QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205))]

ENCODINGS: Mapping[str, Encoding] = MappingProxyType(
    {
        "r50k_base": Encoding(_R50K, _END, roles=_END_ROLES),
        "p50k_base": Encoding(_R50K, _END, roles=_END_ROLES),
        "p50k_edit": Encoding(_R50K, _END | _numbered(50281, _FIM), roles=_END_ROLES),
        "cl100k_base": Encoding(
            _CL100K,
            _numbered(100257, ("<|endoftext|>", *_FIM)) | {"<|endofprompt|>": 100276},
            roles=_END_ROLES,
        ),
        "o200k_base": Encoding(_O200K, {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}, roles=_END_ROLES),
        "o200k_harmony": Encoding(_O200K, _HARMONY, roles={"bos": "<|startoftext|>", "eos": "<|return|>"}),
        "llama3": Encoding(
            _CL100K, _numbered(128000, _LLAMA3), roles={"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>"}
        ),
        "qwen": Encoding(_CL100K.replace("{1,3}", ""), _numbered(151643, _QWEN), "NFC", roles={"eos": "<|endoftext|>"}),
    }
)
# SHA-256 of the file -> name.
BY_CONTENT = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": "r50k_base",
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": "p50k_base",
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": "cl100k_base",
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": "o200k_base",
    "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55": "llama3",
    "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186": "qwen",
}
