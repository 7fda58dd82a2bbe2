"""The table of tokens: for each target token its source tokens with weights, its class and how sure that is."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from vocabalign.lexicon_table import COLUMNS
from vocabalign.report.escape import visible_edges
from vocabalign.text.scripts import NO_TEXT, token_script

# What stands for a token that cannot be printed, as ``token_text`` writes it.
_ESCAPES = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([tnr\\]))")
COPIED = frozenset({"identical", "role"})
"""Classes whose source token is known beforehand: these say nothing about hubs."""


@dataclass(frozen=True, eq=False)
class TokenTable:
    """T target tokens; E entries, which are source tokens of a target token.

    Attributes:
        name: of the artefact.
        ids: T target ids.
        tokens: T texts on one line, their outer spaces as open boxes.
        kinds: T names of a class or kind of evidence.
        confidence: T values in [0, 1].
        starts: T + 1 positions in ``entries`` and ``weights``.
        entries: E positions in ``source_tokens``, heaviest first.
        weights: E values.
        source_ids: ids of the source tokens that are named.
        source_tokens: their texts.
    """

    name: str
    ids: Sequence[int]
    tokens: Sequence[str]
    kinds: Sequence[str]
    confidence: Sequence[float]
    starts: Sequence[int]
    entries: Sequence[int]
    weights: Sequence[float]
    source_ids: Sequence[int]
    source_tokens: Sequence[str]

    @cached_property
    def scripts(self) -> list[str]:
        """T scripts, as in ``vocabalign.text.scripts``; special tokens count as no text."""
        return [_script(token, kind) for token, kind in zip(self.tokens, self.kinds)]

    def sources(self, row: int, limit: int | None = None) -> list[tuple[str, float]]:
        """Source tokens of a row with their weights, heaviest first."""
        first, end = self.starts[row], self.starts[row + 1]
        end = end if limit is None else min(end, first + limit)
        return [(self.source_tokens[self.entries[i]], self.weights[i]) for i in range(first, end)]

    def class_counts(self) -> dict[str, int]:
        """Tokens of each class."""
        return dict(Counter(self.kinds))

    def classes_by_script(self) -> dict[str, Counter[str]]:
        """Script -> class -> tokens, the scripts with the most tokens first."""
        counts: dict[str, Counter[str]] = {}
        for script, kind in zip(self.scripts, self.kinds):
            counts.setdefault(script, Counter())[kind] += 1
        return dict(sorted(counts.items(), key=lambda item: -item[1].total()))

    def hubs(self, limit: int) -> list[tuple[str, int, list[str]]]:
        """Source tokens that stand first for the most target tokens, with how many and some of these.

        Twins and special tokens do not count: their source is known, and is nobody's neighbour.
        """
        led: dict[int, list[int]] = {}
        for row, kind in enumerate(self.kinds):
            if kind not in COPIED and self.starts[row] < self.starts[row + 1]:
                led.setdefault(self.entries[self.starts[row]], []).append(row)
        most = sorted(led.items(), key=lambda item: (-len(item[1]), item[0]))[:limit]
        return [
            (self.source_tokens[source], len(rows), [self.tokens[row] for row in rows[:6]])
            for source, rows in most
            if len(rows) > 1
        ]

    def least_certain(self, limit: int) -> list[dict[str, Any]]:
        """Tokens with the least confidence, as in ``provenance.json``."""
        doubtful = [row for row in range(len(self.ids)) if self.confidence[row] < 1 and self.kinds[row] != "padding"]
        doubtful.sort(key=lambda row: self.confidence[row])
        return [
            {
                "id": self.ids[row],
                "token": self.tokens[row],
                "class": self.kinds[row],
                "confidence": self.confidence[row],
            }
            for row in doubtful[:limit]
        ]


def _script(token: str, kind: str) -> str:
    if kind == "role":
        return NO_TEXT
    text = token.replace("\N{OPEN BOX}", " ")
    return token_script((_ESCAPES.sub(_meant, text) if "\\" in text else text).encode("utf-8", "surrogateescape"))


def _meant(match: re.Match[str]) -> str:
    byte, short, long, letter = match.groups()
    if byte:
        return chr(0xDC00 + int(byte, 16)) if int(byte, 16) >= 0x80 else chr(int(byte, 16))
    return (
        chr(min(int(short or long, 16), 0x10FFFF))
        if letter is None
        else {"t": "\t", "n": "\n", "r": "\r"}.get(letter, letter)
    )


def read_lexicon_table(path: Path, name: str) -> TokenTable | None:
    """The table of a lexicon (``lexicon.tsv``); None where it has no rows.

    Lines that are no rows of such a table are passed over: a page is no place to check it.
    """
    rows = _Rows(name)
    # Tokens hold quotes, commas and line separators of their own: tab and line feed are the only marks.
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            cells = line.rstrip("\n").split("\t")
            if len(cells) != len(COLUMNS) or not cells[0].isdecimal():
                continue
            sources = [_entry(text) for text in cells[4].split(" ") if text]
            rows.add(int(cells[0]), cells[1], cells[2], _number(cells[3]), sources)
    return rows.table()


def _entry(text: str) -> tuple[str, float]:
    """``id:token`` and weight of ``id:token=weight``; the weight is 1 where none stands there."""
    key, sign, weight = text.rpartition("=")
    try:
        return (key, float(weight)) if sign else (text, 1.0)
    except ValueError:
        return text, 1.0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def provenance_table(
    name: str, provenance: dict[str, Any], tokens: Sequence[str], sources: Sequence[str]
) -> TokenTable:
    """The table of a transplant, from its ``provenance.json``.

    Args:
        name: of the artefact.
        provenance: what the file says.
        tokens: texts of the target tokens.
        sources: texts of the source tokens; ids that it does not reach are shown as numbers.

    Raises:
        KeyError, IndexError, TypeError: the provenance has another form.
    """
    rows = _Rows(name)
    kinds, part = provenance["class_names"], provenance["input"]
    entries = [
        (f"{source}:{sources[source] if source < len(sources) else source}", weight)
        for source, weight in zip(part["ids"], part["weights"], strict=True)
    ]
    bounds = list(pairwise(part["starts"]))
    for row, token in enumerate(tokens[: len(provenance["classes"])]):
        first, end = bounds[row]
        # The row of a token of which nothing is known is the mean of all: no list of sources.
        used = sorted(entries[first:end], key=lambda entry: -entry[1]) if end - first <= MOST_ENTRIES else []
        rows.add(row, token, kinds[provenance["classes"][row]], provenance["confidence"][row], used)
    table = rows.table()
    assert table is not None, name
    return table


MOST_ENTRIES = 64


class _Rows:
    """Collects the rows of a table."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ids, self.tokens, self.kinds = array("l"), list[str](), list[str]()
        self.confidence, self.weights, self.entries = array("f"), array("f"), array("l")
        self.lengths = array("l", [0])
        self.known: dict[str, int] = {}
        self.source_ids, self.source_tokens = array("l"), list[str]()

    def add(self, number: int, token: str, kind: str, trust: float, sources: Sequence[tuple[str, float]]) -> None:
        """One target token; sources are ``id:text`` with weights."""
        self.ids.append(number)
        self.tokens.append(visible_edges(token))
        self.kinds.append(kind)
        self.confidence.append(trust)
        self.lengths.append(len(sources))
        for key, weight in sources:
            position = self.known.get(key)
            if position is None:
                position = self.known[key] = len(self.known)
                identity, _, text = key.partition(":")
                self.source_ids.append(int(identity) if identity.isdecimal() else -1)
                self.source_tokens.append(visible_edges(text or identity))
            self.entries.append(position)
            self.weights.append(weight)

    def table(self) -> TokenTable | None:
        """None where nothing was added."""
        if not self.ids:
            return None
        return TokenTable(
            self.name, self.ids, self.tokens, self.kinds, self.confidence, list(accumulate(self.lengths)),
            self.entries, self.weights, self.source_ids, self.source_tokens,
        )  # fmt: skip
