"""Sums of counts: parts of a corpus that were counted apart become what one count would have been."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from vocabalign.alignment.cooccurrence import Cooccurrence
from vocabalign.alignment.counts import VocabularyCounts, collapsed
from vocabalign.errors import ArtifactError
from vocabalign.text.covers import CoverCounts
from vocabalign.text.sparse_sums import SparseSum


def merge_counts(several: Sequence[VocabularyCounts]) -> VocabularyCounts:
    """The counts of all their texts together, exactly as if they had been made at once.

    Raises:
        ArtifactError: they are of other tokenizers or windows, were pruned, or hold the same text twice.
    """
    first = several[0]
    for other in several:
        if other.fingerprints != first.fingerprints:
            raise ArtifactError("The counts to add were made with different tokenizers: count all parts with the same.")
        if other.window != first.window:
            raise ArtifactError(
                f"The counts to add have windows of {first.window} and {other.window} tokens: use one for all parts."
            )
        if other.least:
            raise ArtifactError(
                "One of the counts to add has lost its rare pairs already, so the sum would not be exact: add the "
                "parts as they are, and leave rare pairs out of the sum."
            )
    parts = [part for counts in several for part in counts.parts]
    twice = sorted({f"{part.number}/{part.of}" for part in parts if parts.count(part) > 1})
    if twice:
        raise ArtifactError(f"The counts to add hold the same text twice (shard {', '.join(twice)}): give each once.")
    sides = [_added_sides([getattr(counts, name) for counts in several]) for name in ("source", "target")]
    covers = added_covers([counts.covers for counts in several])
    return VocabularyCounts(covers, sides[0], sides[1], first.fingerprints, collapsed(parts))


def _added(tables: Sequence[sparse.csr_matrix]) -> sparse.csr_matrix:
    total = SparseSum(tables[0].shape)
    for table in tables:
        total.add(table)
    return total.total()


def added_covers(several: Sequence[CoverCounts]) -> CoverCounts:
    """Covers of several texts of one pair of vocabularies as if they had been counted at once."""
    overlap, first, last = (_added([getattr(one, name) for one in several]) for name in ("overlap", "first", "last"))
    of_target, of_source = (
        np.sum([getattr(one, name) for one in several], axis=0) for name in ("target_counts", "source_counts")
    )
    aligned, unaligned = (sum(getattr(one, name) for one in several) for name in ("num_bytes", "num_bytes_unaligned"))
    return CoverCounts(overlap, first, last, of_target, of_source, aligned, unaligned)


def _added_sides(several: Sequence[Cooccurrence | None]) -> Cooccurrence | None:
    sides = [side for side in several if side is not None]
    if not sides:
        return None
    counts = np.sum([side.token_counts for side in sides], axis=0)
    return Cooccurrence(_added([side.following for side in sides]), counts, sides[0].window)
