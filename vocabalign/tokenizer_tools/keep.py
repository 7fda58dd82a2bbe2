"""Which tokens a smaller vocabulary keeps."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vocabalign.errors import ConfigError
from vocabalign.text.token_bytes import read_components
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.tokenizer_tools.parts import token_parts
from vocabalign.tokenizer_tools.script_filter import Scripts
from vocabalign.tokenizer_tools.state import added_ids, model_ids
from vocabalign.tokenizer_tools.viterbi import BYTE_CHARACTERS, PieceTable


@dataclass(frozen=True)
class Kept:
    """What stays.

    Attributes:
        ids: old ids in ascending order; the place in the list is the new id.
        unreachable: tokens that no text gives, which are never kept.
        characters_lost: single characters of a vocabulary without bytes to write them with that are dropped.
    """

    ids: list[int]
    unreachable: list[str]
    characters_lost: list[str]


def choose(
    state: Mapping[str, Any],
    vocabulary: Vocabulary,
    *,
    counts: np.ndarray | None = None,
    min_count: int = 1,
    scripts: Scripts | None = None,
    size: int | None = None,
) -> Kept:
    """The tokens that a text or scripts need, with everything that they are made of, within a size.

    Args:
        state: content of the ``tokenizer.json``.
        vocabulary: the same tokenizer.
        counts: (V,) how often each id occurs in the text; None for no text.
        min_count: tokens with fewer are not needed by the text.
        scripts: tokens written in these are needed.
        size: at most this many tokens; those whose loss makes the text longest stay, without text the lower ids.

    Raises:
        ConfigError: the size is less than what must be kept.
    """
    ids = model_ids(state) | added_ids(state)
    parts = token_parts(state)
    fixed, lost = _always(state, vocabulary, ids, scripts)
    wanted = set()
    for raw in parts:
        token_id = ids[raw]
        if counts is not None and counts[token_id] >= min_count:
            wanted.add(raw)
        elif scripts is not None:
            token = vocabulary.token_bytes[token_id]
            if token is not None and scripts.may_contain(token):
                wanted.add(raw)
        elif counts is None:
            wanted.add(raw)
    wanted -= set(lost)
    kept = _with_parts(wanted | fixed, parts)
    # A character that is lost may still be part of a token that is kept.
    lost = [raw for raw in lost if raw not in kept]
    if size is not None and len(kept) > size:
        least = len(_with_parts(fixed, parts))
        if least > size:
            raise ConfigError(
                f"A size of {size} is too small: special tokens, bytes and single characters alone are {least}; "
                "allow at least that many."
            )
        kept = _shrink(kept, fixed, parts, ids, counts, size, state)
    unreachable = sorted(set(ids) - set(parts) - fixed)
    return Kept(sorted(ids[raw] for raw in kept), unreachable, lost)


def _always(
    state: Mapping[str, Any], vocabulary: Vocabulary, ids: Mapping[str, int], scripts: Scripts | None
) -> tuple[set[str], list[str]]:
    """What no choice may drop, and the characters that the choice of scripts drops."""
    fixed = set(added_ids(state)) | {vocabulary.raw_tokens[i] for i in vocabulary.special_ids | vocabulary.byte_ids}
    fixed |= {vocabulary.raw_tokens[i] for i in vocabulary.roles.values()}
    fixed &= set(ids)
    lost: list[str] = []
    needs_characters = not vocabulary.byte_ids and read_components(state).kind != "byte-level"
    for raw, token_id in ids.items():
        token = vocabulary.token_bytes[token_id]
        if token is None or raw in fixed:
            continue
        if len(token) == 1 and (not vocabulary.byte_ids or not token.isalnum()):
            fixed.add(raw)  # the byte alphabet, the mark for the space, ASCII signs
        elif needs_characters and _is_character(token):
            if scripts is None or scripts.contain(token.decode()):
                fixed.add(raw)
            else:
                lost.append(raw)
    if state["model"]["type"] == "Unigram":
        # Without the characters that spell them, text such as "<0x0A>" would be taken for byte tokens.
        fixed |= set(BYTE_CHARACTERS) & set(ids) if vocabulary.byte_ids else set()
        # The score of unknown characters hangs on the lowest score that there is.
        fixed.add(min(state["model"]["vocab"], key=lambda entry: entry[1])[0])
    return fixed, lost


def _is_character(token: bytes) -> bool:
    try:
        return len(token.decode()) == 1
    except UnicodeDecodeError:
        return False


def _with_parts(wanted: Iterable[str], parts: Mapping[str, tuple[str, ...]]) -> set[str]:
    kept: set[str] = set()
    stack = list(wanted)
    while stack:
        raw = stack.pop()
        if raw not in kept:
            kept.add(raw)
            stack += parts.get(raw, ())
    return kept


def _shrink(
    kept: set[str],
    fixed: set[str],
    parts: Mapping[str, tuple[str, ...]],
    ids: Mapping[str, int],
    counts: np.ndarray | None,
    size: int,
    state: Mapping[str, Any],
) -> set[str]:
    """Drop tokens that nothing else is made of, the one whose loss costs the fewest tokens first.

    A dropped token's occurrences become occurrences of its parts, which raises what those are worth. (Purason et al.
    2025 drop by the frequency of leaves; passing it on is ours.)
    """
    kept = set(kept)
    uses = dict.fromkeys(kept, 0)
    for raw in kept:
        for part in parts.get(raw, ()):
            uses[part] += 1
    worth = {raw: 0 if counts is None else int(counts[ids[raw]]) for raw in kept}
    cuts = _other_cuts(state, kept) if "merges" not in state["model"] else {}

    def entry(raw: str) -> tuple[int, int, str]:
        return worth[raw] * max(len(cuts.get(raw, (raw, raw))) - 1, 1), -ids[raw], raw

    heap = [entry(raw) for raw in kept if not uses[raw] and raw not in fixed]
    heapq.heapify(heap)
    while len(kept) > size and heap:
        cost, _, raw = heapq.heappop(heap)
        if raw not in kept or cost != entry(raw)[0]:
            continue
        kept.remove(raw)
        for part in parts.get(raw) or cuts.get(raw) or ():
            if part not in kept:
                continue
            worth[part] += worth[raw]
            uses[part] -= bool(parts.get(raw))
            if not uses[part] and part not in fixed:
                heapq.heappush(heap, entry(part))
    return kept


def _other_cuts(state: Mapping[str, Any], kept: set[str]) -> dict[str, list[str]]:
    """Unigram: what a piece would be cut into without it."""
    if state["model"]["type"] != "Unigram":
        return {}
    table = PieceTable(dict(state["model"]["vocab"]))
    return {raw: [piece for piece, _ in table.best(raw, without=raw)] for raw in kept if len(raw) > 1}
