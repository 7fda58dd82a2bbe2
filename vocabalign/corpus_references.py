"""How an entry of a corpus is written: a path, ``PATH=WEIGHT``, or a dataset of the hub, ``hub:NAME``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vocabalign.errors import CorpusError

HUB = "hub:"
_WEIGHT = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def split_weight(entry: str) -> tuple[str, float]:
    """``"PATH=2"`` -> ``("PATH", 2.0)``; an entry without a weight, or a file whose name looks so, has 1.

    Raises:
        CorpusError: the weight is 0.
    """
    path, equals, text = entry.rpartition("=")
    if not (equals and path and _WEIGHT.fullmatch(text)) or Path(entry).exists():
        return entry, 1.0
    weight = float(text)
    if not 0 < weight < float("inf"):
        raise CorpusError(f"The weight in '{entry}' is {text}: give a number above 0, or leave the entry out.")
    return path, weight


def is_hub(entry: str) -> bool:
    """Whether an entry names a dataset of the hub."""
    return entry.startswith(HUB)


@dataclass(frozen=True, slots=True)
class HubDataset:
    """``hub:NAME[@REVISION][:CONFIGURATION][:SPLIT]``; the name may be a local folder of a dataset.

    Attributes:
        name: on the hub, ``owner/dataset``, or a folder.
        revision: branch, tag or commit; None for the newest.
        configuration: of a dataset that has several.
        split: which part.
    """

    name: str
    revision: str | None
    configuration: str | None
    split: str

    @classmethod
    def parse(cls, entry: str) -> HubDataset:
        """Read an entry that begins with ``hub:``.

        Raises:
            CorpusError: it has another form.
        """
        name, *rest = entry.removeprefix(HUB).split(":")
        name, _, revision = name.partition("@")
        if not name or len(rest) > 2 or not all(rest):
            raise CorpusError(
                f"'{entry}' is not the name of a dataset: expected hub:NAME, hub:NAME:SPLIT or "
                "hub:NAME:CONFIGURATION:SPLIT, with @REVISION after the name where one is wanted."
            )
        return cls(name, revision or None, rest[0] if len(rest) == 2 else None, rest[-1] if rest else "train")
