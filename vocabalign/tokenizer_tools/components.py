"""What surrounds the model of a new tokenizer: normalizer, pre-tokenizer, decoder and special tokens."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vocabalign.errors import ConfigError
from vocabalign.text.token_bytes import read_components
from vocabalign.tokenizer_tools.state import ROLES, State, remap_post_processor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = dict[str, Any]

# Contractions, words with one sign or space before them, up to three digits, runs of signs, and white space: the
# cut of cl100k, which Llama 3 and others took over, with combining marks left at their letters.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MARK = "\u2581"
# Before spaces; of several spaces the last belongs to the word.
_SPACED = f"{_MARK}+(?={_MARK})|{_MARK}?[^{_MARK}]+|{_MARK}"
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
_DEFAULT_ROLES = {
    "byte-level": {"bos": "<|endoftext|>", "eos": "<|endoftext|>"},
    "sentencepiece": {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
}


@dataclass(frozen=True)
class Special:
    """A token that is cut out of text before the model sees it."""

    content: str
    flags: Mapping[str, bool]

    def as_added(self, token_id: int) -> Part:
        """Its entry in a ``tokenizer.json``."""
        return {"id": token_id, "content": self.content, **self.flags}


@dataclass(frozen=True)
class Components:
    """Everything of a tokenizer but its model; parts as in a ``tokenizer.json``.

    Attributes:
        special: special and added tokens in the order of their ids, which start at 0.
        roles: role ("bos") -> token.
        normalizer: or None.
        pre_tokenizer: or None.
        post_processor: what is put around texts, or None.
        decoder: from tokens to text.
    """

    special: tuple[Special, ...]
    roles: Mapping[str, str]
    normalizer: Part | None
    pre_tokenizer: Part | None
    post_processor: Part | None
    decoder: Part | None


def make_components(
    kind: str,
    roles: Mapping[str, str] | None = None,
    extra: tuple[str, ...] = (),
    normalizer: str = "none",
    begin_with_bos: bool = False,
) -> Components:
    """The components that a kind of tokenizer has by itself.

    Args:
        kind: "byte-level-bpe", "sentencepiece-unigram" or "sentencepiece-bpe".
        roles: role -> special token; ``<|endoftext|>``, or ``<unk>``, ``<s>`` and ``</s>``, by default.
        extra: more special tokens.
        normalizer: "none", "nfc" or "nfkc".
        begin_with_bos: put BOS before every text.

    Raises:
        ConfigError: there is no BOS to begin with.
    """
    family = family_of(kind)
    roles = dict(roles or _DEFAULT_ROLES[family])
    if family == "sentencepiece":
        roles = {"unk": "<unk>", **roles}
    special = tuple(Special(token, _FLAGS) for token in dict.fromkeys([*roles.values(), *extra]))
    if begin_with_bos and "bos" not in roles:
        raise ConfigError("Texts are to begin with BOS, but no token has this role: name one for 'bos'.")
    form = _normalizer(normalizer, family)
    after = _template(roles["bos"], special) if begin_with_bos else None
    pre_tokenizer, decoder = _PARTS[family]()
    return Components(special, roles, form, pre_tokenizer, after, decoder)


def components_like(
    kind: str,
    tokenizer: PreTrainedTokenizerBase,
    state: State,
    roles: Mapping[str, str] | None = None,
    extra: tuple[str, ...] = (),
) -> Components:
    """The components of an existing tokenizer, with its special tokens, and those that are named besides.

    Raises:
        ConfigError: the kinds do not fit together.
    """
    theirs, family = read_components(state).kind, family_of(kind)
    if theirs != family:
        raise ConfigError(
            f"A tokenizer of the kind {kind} cannot take the pre-tokenizer of a {theirs} one: give one that is "
            f"{family}, or choose another kind."
        )
    own = {role: str(token) for role in ROLES if (token := getattr(tokenizer, f"{role}_token", None)) is not None}
    own |= roles or {}
    if family == "sentencepiece":
        own = {"unk": "<unk>", **own}
    flags = {token["content"]: {key: token[key] for key in _FLAGS} for token in state["added_tokens"]}
    names = dict.fromkeys([*flags, *own.values(), *extra])
    special = tuple(Special(name, flags.get(name, _FLAGS)) for name in names)
    around = {"post_processor": copy.deepcopy(state["post_processor"])}
    remap_post_processor(around, {token.content: number for number, token in enumerate(special)})
    return Components(
        special,
        own,
        state["normalizer"],
        state["pre_tokenizer"],
        around["post_processor"],
        _with_byte_fallback(state["decoder"]) if family == "sentencepiece" else state["decoder"],
    )


def family_of(kind: str) -> str:
    """ "byte-level" or "sentencepiece"."""
    return "byte-level" if kind.startswith("byte-level") else "sentencepiece"


def _byte_level() -> tuple[Part, Part]:
    split = {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Isolated", "invert": False}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return {"type": "Sequence", "pretokenizers": [split, as_bytes]}, decoder


def _sentencepiece() -> tuple[Part, Part]:
    split = {"type": "Split", "pattern": {"Regex": _SPACED}, "behavior": "Isolated", "invert": False}
    steps = [
        {"type": "Replace", "pattern": {"String": _MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return split, {"type": "Sequence", "decoders": steps}


def _normalizer(form: str, family: str) -> Part | None:
    steps: list[Part] = [] if form == "none" else [{"type": form.upper()}]
    if family == "sentencepiece":
        # As Llama's: the space before every text is always put there, so that it can always be taken away.
        space = {"type": "Replace", "pattern": {"String": " "}, "content": _MARK}
        steps = [*steps, {"type": "Prepend", "prepend": _MARK}, space]
    return {"type": "Sequence", "normalizers": steps} if len(steps) > 1 else steps[0] if steps else None


def _template(bos: str, special: tuple[Special, ...]) -> Part:
    token_id = next(number for number, token in enumerate(special) if token.content == bos)
    begin = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    again = {"SpecialToken": {"id": bos, "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, again, second],
        "special_tokens": {bos: {"id": bos, "ids": [token_id], "tokens": [bos]}},
    }


def _with_byte_fallback(decoder: Part | None) -> Part:
    """A decoder that also puts byte tokens together; one that is Metaspace alone takes them for words."""
    steps = list(decoder.get("decoders", [decoder])) if decoder else []
    if any(step["type"] == "ByteFallback" for step in steps):
        return {"type": "Sequence", "decoders": steps}
    return {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, *steps, {"type": "Fuse"}]}


_PARTS = {"byte-level": _byte_level, "sentencepiece": _sentencepiece}
