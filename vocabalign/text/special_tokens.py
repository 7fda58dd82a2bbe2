"""Which special tokens of two vocabularies do the same work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vocabalign.errors import ConfigError
from vocabalign.text.vocabulary import Vocabulary

# For each role the roles of the other side that may stand in for it, best first. Models trained without a
# BOS begin documents after the EOS; a model without a PAD usually pads with the EOS.
STAND_INS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "eos": ("eos", "bos", "pad"),
        "bos": ("bos", "eos"),
        "pad": ("pad", "eos", "bos"),
        "unk": ("unk",),
        "mask": ("mask",),
    }
)


@dataclass(frozen=True)
class SpecialTokenMap(Mapping[int, list[int]]):
    """Target special id -> source ids; a target token without a counterpart is not a key.

    Attributes:
        sources: target id -> source ids.
        rules: target id -> "override", "same token", or "role eos" and the like ("role pad from eos" for a stand-in).
        unmapped: special ids of the target without a counterpart.
    """

    sources: Mapping[int, list[int]]
    rules: Mapping[int, str]
    unmapped: tuple[int, ...]

    def __getitem__(self, target_id: int) -> list[int]:
        return self.sources[target_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)


def map_special_tokens(
    source: Vocabulary, target: Vocabulary, overrides: Mapping[str, str] = MappingProxyType({})
) -> SpecialTokenMap:
    """Map the special tokens of the target: by override, else by identical raw token, else by role.

    A token with several roles (``<|endoftext|>`` that begins, ends and pads) is mapped by the first that it has
    of EOS, BOS, PAD, UNK, mask: what a model must predict matters most.

    Args:
        source: the vocabulary whose rows exist.
        target: the vocabulary whose rows are wanted.
        overrides: TARGET -> SOURCE or SOURCE,SOURCE...; each a raw token, or the name of a role ("eos").

    Raises:
        ConfigError: an override names a token that does not exist, or two contradict each other.
    """
    sources: dict[int, list[int]] = {}
    rules: dict[int, str] = {}
    for key, value in overrides.items():
        target_id = _find(target, key, "target")
        source_ids = _find_all(source, value)
        if sources.get(target_id, source_ids) != source_ids:
            raise ConfigError(
                f"The overrides for special tokens contradict each other: '{target.raw_tokens[target_id]}' "
                f"(here '{key}') is mapped to two different tokens; keep one of them."
            )
        sources[target_id], rules[target_id] = source_ids, "override"
    same = _literal_tokens(source)
    for target_id in sorted(target.special_ids - sources.keys()):
        raw = target.raw_tokens[target_id]
        if raw in same:
            sources[target_id], rules[target_id] = [same[raw]], "same token"
            continue
        found = _by_role(source, target, target_id)
        if found is not None:
            sources[target_id], rules[target_id] = [found[0]], found[1]
    return SpecialTokenMap(sources, rules, tuple(sorted(target.special_ids - sources.keys())))


def _by_role(source: Vocabulary, target: Vocabulary, target_id: int) -> tuple[int, str] | None:
    roles = [role for role in STAND_INS if target.roles.get(role) == target_id]
    # All exact roles before any stand-in: a token that is both BOS and EOS finds the source's BOS if that is all.
    for role in roles:
        if role in source.roles:
            return source.roles[role], f"role {role}"
    for role in roles:
        for other in STAND_INS[role]:
            if other in source.roles:
                return source.roles[other], f"role {role} from {other}"
    return None


def _literal_tokens(vocabulary: Vocabulary) -> dict[str, int]:
    """Raw token -> id of the tokens that stand for exactly what is written: special and added ones."""
    result = {}
    for token_id, raw in enumerate(vocabulary.raw_tokens):
        if token_id not in vocabulary.special_ids and raw and vocabulary.token_bytes[token_id] == raw.encode():
            result[raw] = token_id
    return result | {vocabulary.raw_tokens[token_id]: token_id for token_id in sorted(vocabulary.special_ids)}


def _lookup(vocabulary: Vocabulary, key: str) -> int | None:
    if key:
        for token_id in sorted(vocabulary.special_ids):
            if vocabulary.raw_tokens[token_id] == key:
                return token_id
        if key in vocabulary.raw_tokens:
            return vocabulary.raw_tokens.index(key)
    return vocabulary.roles.get(key)


def _find(vocabulary: Vocabulary, key: str, side: str) -> int:
    token_id = _lookup(vocabulary, key)
    if token_id is None:
        known = ", ".join(vocabulary.raw_tokens[i] for i in sorted(vocabulary.special_ids)[:8]) or "none"
        raise ConfigError(
            f"The override for special tokens names '{key}', which the {side} vocabulary '{vocabulary.name}' does not "
            f"have (its special tokens: {known})."
        )
    return token_id


def _find_all(source: Vocabulary, value: str) -> list[int]:
    whole = _lookup(source, value)
    if whole is not None:
        return [whole]
    # Only now is a comma a separator: it may be part of a token.
    return [_find(source, part.strip() if part.strip() else part, "source") for part in value.split(",")]
