"""What special tokens are for: the roles that a tokenizer names, and those that a token's own name tells.

Chat formats, reserved rows and placeholders for images have no place in a tokenizer's settings; they are known by
the names that published models use. A token may have several roles (``<|endoftext|>`` begins, ends and pads).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from weakref import WeakKeyDictionary

import numpy as np

from vocabalign.text.vocabulary import Vocabulary

# The bit that every token without bytes has; roles are the bits above it.
SPECIAL = 1

# Role -> what the tokens are called, as regular expressions for the whole token. The first four are those that
# tokenizers name themselves; names help only where the settings are silent.
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "bos": r"<s>|<bos>|<\|begin_of_text\|>|<\|startoftext\|>|<[|｜]begin[▁_]of[▁_]sentence[|｜]>|\[CLS\]|<\|bos\|>",
        "eos": r"</s>|<eos>|<\|end_?of_?text\|>|<[|｜]end[▁_]of[▁_]sentence[|｜]>|\[SEP\]|<\|eos\|>|<\|eot\|>",
        "pad": r"<pad>|\[PAD\]|<\|pad\|>|<\|finetune_right_pad_id\|>|<[|｜][▁_]pad[▁_][|｜]>|<\|vision_pad\|>",
        "unk": r"<unk>|\[UNK\]|<\|unk\|>",
        "mask": r"<mask>|\[MASK\]|<\|mask\|>",
        "turn_start": r"<\|im_start\|>|<start_of_turn>|<\|start_header_id\|>|\[INST\]|<\|start\|>|<\|turn\|?>"
        r"|<\|START_OF_TURN_TOKEN\|>|<\|start_of_role\|>|<\|user\|>|<[|｜]User[|｜]>|<\|header_start\|>",
        "turn_end": r"<\|im_end\|>|<end_of_turn>|<\|eot_id\|>|\[/INST\]|<\|end\|>|<\|END_OF_TURN_TOKEN\|>|<\|eom_id\|>"
        r"|<\|return\|>|<turn\|>|<\|eot\|>|<\|eom\|>",
        "header_end": r"<\|end_header_id\|>|<\|message\|>|<\|end_of_role\|>|<\|header_end\|>|<\|im_sep\|>",
        "system": r"<\|system\|>|<<SYS>>|\[SYSTEM_PROMPT\]|<\|SYSTEM_TOKEN\|>",
        "user": r"<\|user\|>|<[|｜]User[|｜]>|<\|USER_TOKEN\|>|\[INST\]",
        "assistant": r"<\|assistant\|>|<[|｜]Assistant[|｜]>|<\|CHATBOT_TOKEN\|>|\[/INST\]",
        "image": r"<image>|<\|image\|>|<\|image_pad\|>|<image_soft_token>|\[IMG\]|<\|image_\d+\|>|<\|patch\|>"
        r"|<IMG_CONTEXT>",
        "image_start": r"<\|vision_start\|>|<start_of_image>|<\|image_start\|>|<img>|<boi>",
        "image_end": r"<\|vision_end\|>|<end_of_image>|<\|image_end\|>|</img>|\[IMG_END\]|<eoi>",
        "video": r"<video>|<\|video_pad\|>|<\|video\|>",
        "audio": r"<audio>|<audio_soft_token>|<\|audio\|>|<\|AUDIO\|>|\[AUDIO\]",
        "tool_start": r"<tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_call\|>|<\|call\|>"
        r"|<[|｜]tool▁calls▁begin[|｜]>",
        "tool_end": r"</tool_call>|<\|/tool_call\|>|<[|｜]tool▁calls▁end[|｜]>",
        "think_start": r"<think>|\[THINK\]|<\|think\|>",
        "think_end": r"</think>|\[/THINK\]|<\|/think\|>",
        "fim_prefix": r"<\|?fim[_▁]prefix\|?>|<PRE>|▁<PRE>|<\|code_prefix\|>|<[|｜]fim▁begin[|｜]>|\[PREFIX\]",
        "fim_middle": r"<\|?fim[_▁]middle\|?>|<MID>|▁<MID>|<\|code_middle\|>|<[|｜]fim▁end[|｜]>|\[MIDDLE\]",
        "fim_suffix": r"<\|?fim[_▁]suffix\|?>|<SUF>|▁<SUF>|<\|code_suffix\|>|<[|｜]fim▁hole[|｜]>|\[SUFFIX\]",
        "reserved": r"<\|?(reserved|unused|extra|placeholder|dummy|added|SPECIAL|special)[\w ]*\d+\|?>|\[unused\d+\]"
        r"|<unused\d+>|<extra_id_\d+>|<SPECIAL_\d+>|\[control_\d+\]|<[|｜]place▁holder▁no▁\d+[|｜]>",
    }
)
_PATTERNS = {role: re.compile(names) for role, names in _NAMES.items()}
ROLE_NAMES = tuple(_PATTERNS)
_BITS = {role: np.uint32(2 << number) for number, role in enumerate(ROLE_NAMES)}

_masks: WeakKeyDictionary[Vocabulary, np.ndarray] = WeakKeyDictionary()


def roles_by_name(raw_token: str) -> tuple[str, ...]:
    """The roles that a token's name tells, in the order of ``ROLE_NAMES``; empty for a name that tells none."""
    return tuple(role for role, pattern in _PATTERNS.items() if pattern.fullmatch(raw_token))


def roles_of(vocabulary: Vocabulary) -> dict[int, tuple[str, ...]]:
    """Id -> its roles: those that the tokenizer names first, then those that its name tells.

    Looked at are special tokens and others that were added to the vocabulary, not tokens of running text that happen
    to have such a name.
    """
    named: dict[int, list[str]] = {}
    for role, token_id in vocabulary.roles.items():
        named.setdefault(token_id, []).append(role)
    for token_id in vocabulary.more_eos:
        if token_id in vocabulary.special_ids:
            named.setdefault(token_id, []).append("eos")
    added = getattr(vocabulary.tokenizer, "added_tokens_decoder", {})
    result = {}
    for token_id in vocabulary.special_ids | named.keys() | added.keys():
        roles = [*named.get(token_id, ()), *roles_by_name(vocabulary.raw_tokens[token_id])]
        if roles:
            result[token_id] = tuple(dict.fromkeys(roles))
    return result


def role_masks(vocabulary: Vocabulary) -> np.ndarray:
    """(V,) uint32: 0 for tokens of text, ``SPECIAL`` and a bit for each role for tokens without bytes. Read-only."""
    if vocabulary not in _masks:
        masks = np.fromiter((token is None for token in vocabulary.token_bytes), dtype=np.uint32, count=len(vocabulary))
        for token_id, roles in roles_of(vocabulary).items():
            if masks[token_id]:
                for role in roles:
                    masks[token_id] |= _BITS.get(role, np.uint32(0))
        masks.flags.writeable = False
        _masks[vocabulary] = masks
    return _masks[vocabulary]


def role_bit(role: str) -> int:
    """The bit of a role in ``role_masks``."""
    return int(_BITS[role])
