"""The text of documents by number, in one memory-mapped file: for what looks at text while a model trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vocabalign.train.texts import TrainingText


class TextStore:
    """Texts that ``store_texts`` wrote.

    Args:
        folder: of the run's work.
        name: of the files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.starts = np.load(folder / f"{name}.starts.npy", mmap_mode="r")
        self.bytes = np.memmap(folder / f"{name}.utf8", dtype=np.uint8, mode="r") if self.starts[-1] else b""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> str:
        return bytes(self.bytes[self.starts[number] : self.starts[number + 1]]).decode()

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))


def store_texts(texts: Iterable[TrainingText], folder: Path, name: str) -> TextStore:
    """Write texts once; a whole earlier result is taken as it is.

    Args:
        texts: as they are tokenised.
        folder: kept for one corpus.
        name: of the files.
    """
    if not (folder / f"{name}.starts.npy").is_file():
        lengths = [0]
        with (folder / f"{name}.utf8").open("wb") as file:
            for item in texts:
                lengths.append(file.write(item.text.encode()))
        new = folder / f"{name}.new.npy"
        np.save(new, np.cumsum(np.array(lengths, dtype=np.int64)))
        new.replace(folder / f"{name}.starts.npy")
    return TextStore(folder, name)
