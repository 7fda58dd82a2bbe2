"""What two vocabularies share: by raw string, by bytes, and by bytes up to a leading space and case.

The papers compare raw strings, which miss the same token under another writing of the space and pair
fragments of characters with letters (TokAlign++, section 4.2, copies such tokens); bytes do neither.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vocabalign.text.vocabulary import Vocabulary

Keys = Callable[[Vocabulary], Sequence[Hashable]]
SIDES = ("a", "b")


def _raw(vocabulary: Vocabulary) -> Sequence[Hashable]:
    return [raw or None for raw in vocabulary.raw_tokens]


def _bytes(vocabulary: Vocabulary) -> Sequence[Hashable]:
    return vocabulary.token_bytes


def _without_space(vocabulary: Vocabulary) -> Sequence[Hashable]:
    return [token and (token.removeprefix(b" ") or token) for token in vocabulary.token_bytes]


def _relaxed(vocabulary: Vocabulary) -> Sequence[Hashable]:
    return [token and _lower(token.removeprefix(b" ") or token) for token in vocabulary.token_bytes]


def _lower(token: bytes) -> bytes:
    if token.isascii():
        return token.lower()
    try:
        return token.decode().lower().encode()
    except UnicodeDecodeError:
        return token


@dataclass(frozen=True)
class Sharing:
    """Which tokens of each side have a twin on the other, by each rule.

    Attributes:
        found: rule -> (V_a,) and (V_b,) bool.
        false_friends: pairs (id in A, id in B) with the same raw string and different bytes.
    """

    found: Mapping[str, tuple[np.ndarray, np.ndarray]]
    false_friends: Sequence[tuple[int, int]]

    def shares(self, counts: Sequence[np.ndarray] | None) -> dict[str, dict[str, float | int]]:
        """Rule -> types in number and share, and the share of running tokens.

        Args:
            counts: (V_a,) and (V_b,) int64, how often text uses each token; None without text.
        """
        return {rule: _shares(found, [None, None], counts) for rule, found in self.found.items()}

    def shares_by_script(
        self, scripts: Sequence[Sequence[str]], counts: Sequence[np.ndarray] | None
    ) -> list[dict[str, Any]]:
        """The same for each script, scripts with the most types first.

        Args:
            scripts: of each token of A and of B.
            counts: as in ``shares``.
        """
        names = sorted({*scripts[0], *scripts[1]})
        number = {name: index for index, name in enumerate(names)}
        codes = [np.fromiter((number[name] for name in side), dtype=np.int32, count=len(side)) for side in scripts]
        rows: list[dict[str, Any]] = []
        for name, code in number.items():
            inside = [side == code for side in codes]
            row: dict[str, Any] = {"script": name}
            for i, side in enumerate(SIDES):
                row[f"types_of_{side}"] = int(inside[i].sum())
                if counts is not None:
                    row[f"tokens_of_{side}"] = int(counts[i][inside[i]].sum())
            row["shared"] = {rule: _shares(found, inside, counts) for rule, found in self.found.items()}
            rows.append(row)
        return sorted(rows, key=lambda row: -row["types_of_a"] - row["types_of_b"])

    def token_shares(self, counts: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
        """Rule -> the share of running tokens of each side that the other side has."""
        return {
            rule: {f"token_share_of_{side}": _share(found[i], counts[i]) for i, side in enumerate(SIDES)}
            for rule, found in self.found.items()
        }


def compare_vocabularies(a: Vocabulary, b: Vocabulary) -> Sharing:
    """Find the tokens that two vocabularies share."""
    return Sharing({rule: _found(keys_of, a, b) for rule, keys_of in RULES.items()}, _false_friends(a, b))


def _found(keys_of: Keys, a: Vocabulary, b: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    keys = keys_of(a), keys_of(b)
    known = set(keys[0]).intersection(keys[1])
    # Special tokens and gaps have no bytes, an empty token stands for nothing: neither is shared.
    known -= {None, b""}
    found = [np.fromiter(map(known.__contains__, side), dtype=bool, count=len(side)) for side in keys]
    return found[0], found[1]


def _false_friends(a: Vocabulary, b: Vocabulary) -> list[tuple[int, int]]:
    ids = {raw: token_id for token_id, raw in enumerate(a.raw_tokens) if raw and a.token_bytes[token_id]}
    pairs = []
    for b_id, raw in enumerate(b.raw_tokens):
        a_id = ids.get(raw)
        if a_id is not None and b.token_bytes[b_id] and a.token_bytes[a_id] != b.token_bytes[b_id]:
            pairs.append((a_id, b_id))
    return pairs


def _shares(
    found: tuple[np.ndarray, np.ndarray],
    inside: Sequence[np.ndarray | None],
    counts: Sequence[np.ndarray] | None,
) -> dict[str, float | int]:
    result: dict[str, float | int] = {}
    for i, side in enumerate(SIDES):
        chosen = inside[i]
        mask = found[i] if chosen is None else found[i][chosen]
        result[f"types_of_{side}"] = int(mask.sum())
        result[f"type_share_of_{side}"] = float(mask.mean()) if len(mask) else 0.0
        if counts is not None:
            result[f"token_share_of_{side}"] = _share(mask, counts[i] if chosen is None else counts[i][chosen])
    return result


def _share(found: np.ndarray, counts: np.ndarray) -> float:
    return float(counts[found].sum() / max(counts.sum(), 1))


RULES: dict[str, Keys] = {
    "raw_string": _raw,
    "bytes": _bytes,
    "bytes_up_to_leading_space": _without_space,
    "bytes_up_to_leading_space_and_case": _relaxed,
}
