"""Which special tokens of two vocabularies do the same work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vocabalign.errors import ConfigError
from vocabalign.text.overrides import Overrides
from vocabalign.text.roles import ROLE_NAMES, roles_of
from vocabalign.text.vocabulary import Vocabulary

# For each role the roles of the other side that may stand in for it, best first. Models trained without a
# BOS begin documents after the EOS; a model without a PAD usually pads with the EOS; one that never saw a chat
# ends its turns with the EOS. A role that is not listed is taken by itself alone.
STAND_INS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "eos": ("eos", "turn_end", "bos", "pad"),
        "bos": ("bos", "eos"),
        "pad": ("pad", "eos", "bos"),
        "turn_end": ("turn_end", "eos", "bos"),
        "image_start": ("image_start", "image"),
        "image_end": ("image_end", "image"),
        "video": ("video", "image"),
    }
)
# What a model must predict matters most: the order in which the roles of one token are tried.
_ORDER = (
    "eos",
    "turn_end",
    "bos",
    "pad",
    *(role for role in ROLE_NAMES if role not in ("eos", "turn_end", "bos", "pad")),
)
# Roles of which a vocabulary has many: the first takes the first, and so on.
_NUMBERED = ("reserved",)


@dataclass(frozen=True)
class SpecialTokenMap(Mapping[int, list[int]]):
    """Target special id -> source ids; a target token without a counterpart is not a key.

    Attributes:
        sources: target id -> source ids.
        rules: target id -> "override", "same token", or "role eos" and the like ("role pad from eos" for a stand-in).
        unmapped: special ids of the target without a counterpart.
        notes: one sentence for each collision and how it was resolved.
    """

    sources: Mapping[int, list[int]]
    rules: Mapping[int, str]
    unmapped: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def describe(self, source: Vocabulary, target: Vocabulary, most: int = 40) -> dict[str, Any]:
        """What was mapped to what and why, as JSON values; of long lists the first, reserved tokens as counts."""
        named = [i for i in self.sources if not self.rules[i].endswith("role reserved")]
        return {
            "mapped": {
                target.raw_tokens[i]: {"from": [source.raw_tokens[j] for j in self.sources[i]], "by": self.rules[i]}
                for i in named[:most]
            },
            "counts": dict(Counter(self.rules.values())) | ({"unmapped": len(self.unmapped)} if self.unmapped else {}),
            "unmapped": [target.raw_tokens[i] for i in self.unmapped[:most]],
            "notes": list(self.notes),
        }

    def __getitem__(self, target_id: int) -> list[int]:
        return self.sources[target_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)


def map_special_tokens(
    source: Vocabulary, target: Vocabulary, overrides: Overrides = MappingProxyType({})
) -> SpecialTokenMap:
    """Map the special tokens of the target: by override, else by identical raw token, else by role.

    Roles are those that the tokenizer names, and those that the names of published tokens tell (``roles.py``). A
    token with several roles (``<|endoftext|>`` that begins, ends and pads) is mapped by the first that it has of
    EOS, end of turn, BOS, PAD and the others; a role that the source has is taken before any stand-in. Where the
    source has several tokens of a role, its own settings come first, then the lowest id; reserved tokens are taken
    in turn. Tokens of the target that are added but not special are mapped by role alone, never by a stand-in.

    Args:
        source: the vocabulary whose rows exist.
        target: the vocabulary whose rows are wanted.
        overrides: TARGET -> SOURCE or SOURCE,SOURCE... or a list; each a raw token, or the name of a role ("eos").

    Raises:
        ConfigError: an override names a token that does not exist, or two contradict each other.
    """
    sources, rules = _read_overrides(source, target, overrides)
    same, holders = _literal_tokens(source), _holders(source)
    target_roles = roles_of(target)
    taken = dict.fromkeys(_NUMBERED, 0)
    for target_id in sorted((target.special_ids | target_roles.keys()) - sources.keys()):
        raw, special = target.raw_tokens[target_id], target_id in target.special_ids
        if raw in same:
            sources[target_id], rules[target_id] = [same[raw]], "same token"
            continue
        found = _by_role(holders, target_roles.get(target_id, ()), taken, stand_ins=special)
        if found is not None:
            sources[target_id], rules[target_id] = [found[0]], found[1]
    unmapped = tuple(sorted(target.special_ids - sources.keys()))
    return SpecialTokenMap(sources, rules, unmapped, tuple(_notes(source, target, sources, rules, target_roles)))


def _read_overrides(
    source: Vocabulary, target: Vocabulary, overrides: Overrides
) -> tuple[dict[int, list[int]], dict[int, str]]:
    sources: dict[int, list[int]] = {}
    for key, value in overrides.items():
        target_id = _find(target, key, "target")
        source_ids = _find_all(source, value)
        if sources.get(target_id, source_ids) != source_ids:
            raise ConfigError(
                f"The overrides for special tokens contradict each other: '{target.raw_tokens[target_id]}' "
                f"(here '{key}') is mapped to two different tokens; keep one of them."
            )
        sources[target_id] = source_ids
    return sources, dict.fromkeys(sources, "override")


def _holders(source: Vocabulary) -> dict[str, list[int]]:
    """Role -> ids that have it: first the one that the tokenizer names, then the others in order."""
    holders: dict[str, list[int]] = {role: [token_id] for role, token_id in source.roles.items()}
    for token_id, roles in sorted(roles_of(source).items()):
        for role in roles:
            if token_id not in holders.setdefault(role, []):
                holders[role].append(token_id)
    return holders


def _by_role(
    holders: Mapping[str, list[int]], roles: Sequence[str], taken: dict[str, int], *, stand_ins: bool
) -> tuple[int, str] | None:
    ordered = sorted(roles, key=_ORDER.index)
    # All exact roles before any stand-in: a token that is both BOS and EOS finds the source's BOS if that is all.
    for role in ordered:
        if role in _NUMBERED and taken[role] < len(holders.get(role, ())):
            taken[role] += 1
            return holders[role][taken[role] - 1], f"role {role}"
        if role not in _NUMBERED and role in holders:
            return holders[role][0], f"role {role}"
    for role in ordered if stand_ins else ():
        for other in STAND_INS.get(role, ()):
            if other in holders:
                return holders[other][0], f"role {role} from {other}"
    return None


def _notes(
    source: Vocabulary,
    target: Vocabulary,
    sources: Mapping[int, list[int]],
    rules: Mapping[int, str],
    roles: Mapping[int, Sequence[str]],
) -> Iterator[str]:
    """Collisions, in words."""
    for target_id, named in sorted(roles.items()):
        settings = [role for role in named if target.roles.get(role) == target_id]
        if len(settings) > 1 and target_id in sources:
            rows = ", ".join(repr(source.raw_tokens[i]) for i in sources[target_id])
            name = target.raw_tokens[target_id]
            yield f"{name!r} is {' and '.join(settings)} of the target: it takes {rows} ({rules[target_id]})."
    for target_id, rule in rules.items():
        if " from " in rule:
            role, other = rule.removeprefix("role ").split(" from ")
            name, row = target.raw_tokens[target_id], source.raw_tokens[sources[target_id][0]]
            yield f"The source has no {role}: {name!r} takes its {other} {row!r}."
    users: dict[int, list[int]] = {}
    for target_id, source_ids in sources.items():
        if len(source_ids) == 1:
            users.setdefault(source_ids[0], []).append(target_id)
    for source_id, target_ids in users.items():
        if len(target_ids) > 1:
            names = ", ".join(repr(target.raw_tokens[i]) for i in target_ids[:5])
            names += f" and {len(target_ids) - 5} more" if len(target_ids) > 5 else ""
            yield f"{source.raw_tokens[source_id]!r} of the source serves several tokens of the target: {names}."


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


def _find_all(source: Vocabulary, value: str | Sequence[str]) -> list[int]:
    if not isinstance(value, str):
        return [_find(source, part, "source") for part in value or [""]]
    whole = _lookup(source, value)
    if whole is not None:
        return [whole]
    # Only now is a comma a separator: it may be part of a token.
    return [_find(source, part.strip() if part.strip() else part, "source") for part in value.split(",")]
