"""Counts of covers in two parts: text that evidence is drawn from, and documents held out to judge it by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vocabalign.alignment.count_sums import added_covers
from vocabalign.text.batches import in_batches
from vocabalign.text.covers import CoverCounter, CoverCounts
from vocabalign.text.vocabulary import Vocabulary

# Every fifth document is held out, until so much text is; judging needs no more.
HELD_OUT_EVERY = 5
HELD_OUT_CHARACTERS = 4_000_000
# A file of plain text may be one document: it is cut at line ends, so that more than one document is there.
LONGEST_DOCUMENT = 32_768


@dataclass(frozen=True, eq=False)
class SplitCovers:
    """Covers of one text, counted in parts.

    Attributes:
        seen: documents that are not held out.
        held_out: two halves of the documents that are, which take turns in fitting and judging.
    """

    seen: CoverCounts
    held_out: tuple[CoverCounts, CoverCounts]

    def total(self) -> CoverCounts:
        """Covers of the whole text."""
        return added_covers([self.seen, *self.held_out])


def split_cover_counts(
    source: Vocabulary, target: Vocabulary, texts: Iterable[str], max_characters: int | None = None
) -> SplitCovers:
    """Count on running text which source tokens cover each target token; every fifth document apart.

    Args:
        source: S tokens.
        target: T tokens.
        texts: documents; gone through once.
        max_characters: stop after this much text.
    """
    counters = [CoverCounter(source, target) for _ in range(3)]
    number = held_out = taken = 0
    for batch in in_batches(part for text in texts for part in stretches(text)):
        cuts = [side.encode_batch(batch) for side in (source, target)]
        places: list[list[int]] = [[], [], []]
        for place, text in enumerate(batch):
            number += 1
            taken += len(text)
            apart = number % HELD_OUT_EVERY == 0 and held_out < HELD_OUT_CHARACTERS
            held_out += len(text) if apart else 0
            places[1 + number // HELD_OUT_EVERY % 2 if apart else 0].append(place)
        for counter, chosen in zip(counters, places, strict=True):
            if chosen:
                in_source, in_target = ([cut[place] for place in chosen] for cut in cuts)
                counter.add([batch[place] for place in chosen], in_source, in_target)
        if max_characters is not None and taken >= max_characters:
            break
    seen, *halves = (counter.result() for counter in counters)
    return SplitCovers(seen, (halves[0], halves[1]))


def stretches(text: str, most: int = LONGEST_DOCUMENT) -> Iterator[str]:
    """A document in parts of at most this many characters, cut behind line ends; a line is never cut."""
    if len(text) <= most:
        yield text
        return
    start = 0
    while start < len(text):
        end = text.rfind("\n", start, start + most) + 1 if len(text) - start > most else len(text)
        if not end:
            end = text.find("\n", start + most) + 1 or len(text)
        yield text[start:end]
        start = end
