"""General text mixed into the training text, as entries of one corpus with a weight."""

from __future__ import annotations

from collections.abc import Sequence

from vocabalign.corpus_references import is_hub, split_weight
from vocabalign.errors import ConfigError
from vocabalign.text.corpus import corpus_bytes

__all__ = ["with_replay"]


def with_replay(corpus: Sequence[str], replay: Sequence[str], share: float) -> list[str]:
    """The corpus with ``replay`` weighted so that it is ``share`` of the bytes that are read.

    Args:
        corpus: entries, some with a weight of their own (``PATH=WEIGHT``).
        replay: the same; their own weights say how much of each there is beside the others.
        share: between 0 and 1.

    Raises:
        ConfigError: an entry is a dataset of the hub, whose size is not known before it is read.
        CorpusError: a file is missing.
    """
    if not replay:
        return list(corpus)
    sizes = [sum(_weighted_bytes(entry) for entry in entries) for entries in (corpus, replay)]
    factor = share / (1 - share) * sizes[0] / max(1.0, sizes[1])
    return [*corpus, *(f"{path}={weight * factor:.6g}" for path, weight in map(split_weight, replay))]


def _weighted_bytes(entry: str) -> float:
    path, weight = split_weight(entry)
    if is_hub(path):
        raise ConfigError(
            f"'{entry}' cannot be mixed by replay_share: the size of a dataset of the hub is not known. Give it a "
            "weight in the corpus instead (hub:NAME=WEIGHT)."
        )
    return weight * corpus_bytes([path])
