"""A cache of what a server gives to the text: read in windows, several at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.errors import ConfigError, CorpusError
from vocabalign.stages import DistillCacheConfig
from vocabalign.text.corpus import read_documents
from vocabalign.train.cache_writing import Fields
from vocabalign.train.server import Server, Told
from vocabalign.train.texts import TrainingText

REQUESTS_AT_ONCE = 8
WINDOW_BYTES = 4000


class ServerReader:
    """A teacher that is asked over the network, for the stage that makes a cache.

    Args:
        config: of the stage.

    Raises:
        ConfigError: more than log-probabilities is asked for.
        ServerError: it does not answer.
    """

    def __init__(self, config: DistillCacheConfig) -> None:
        if config.kind != "log-probs":
            raise ConfigError(
                f"A server tells the log-probabilities of a text, not what kind '{config.kind}' keeps: take "
                "kind=log-probs, or a model folder as the teacher."
            )
        self.config = config
        self.window = config.server.context or WINDOW_BYTES
        self.server = Server(config.teacher, config.server)

    def texts(self, corpus: list[str]) -> Iterator[TrainingText]:
        """The documents; a conversation would need the server's own template.

        Raises:
            CorpusError: a conversation.
        """
        for document in read_documents(corpus, weighted=True):
            if document.messages is not None:
                raise CorpusError(
                    f"{document.path}, document {document.index + 1} is a conversation, and a server's chat template "
                    "is not known here: give text, or a model folder as the teacher."
                )
            yield TrainingText(document.text, None, document.weight, document.path, document.index)

    def calibrate(self) -> None:
        """Of a server's distributions nothing is known that could be corrected."""

    def read(self, items: Sequence[TrainingText]) -> Iterator[tuple[int, np.ndarray, Fields]]:
        """What is kept of each document."""
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            for told in pool.map(lambda item: self._tell(item.text), items):
                known = told.log_probs[1:].astype(np.float16)
                widths = np.diff(told.ends, prepend=0)
                if np.isnan(told.log_probs[0]):
                    yield int(widths[0]), widths[1:], {"log_probs": known}
                else:  # something that has no bytes stands before the first token
                    yield 0, widths, {"log_probs": np.maximum(told.log_probs, -6e4).astype(np.float16)}

    def _tell(self, text: str) -> Told:
        """One text, in windows that overlap by half where it is long."""
        raw = text.encode()
        ends, values = np.zeros(0, np.int64), np.zeros(0)
        start = 0
        while True:
            piece = raw[start : start + self.window].decode(errors="ignore")
            told = self.server.tell(piece)
            places = told.ends + start
            is_last = start + len(piece.encode()) >= len(raw)
            # What the end of a window cuts off is no token of the text.
            whole = len(places) if is_last else max(1, len(places) - 1)
            joint = np.intersect1d(ends, places[:whole])
            if start and not len(joint):
                return Told(ends, values)  # the two windows never meet: the text ends here
            after = int(joint[-1]) if start else -1
            old, new = ends <= after, places[:whole] > after
            ends = np.concatenate([ends[old], places[:whole][new]])
            values = np.concatenate([values[old], told.log_probs[:whole][new]])
            if is_last:
                return Told(ends, values)
            start = self._middle(raw, start, int(ends[-1]))

    def _middle(self, raw: bytes, start: int, done: int) -> int:
        """Half a window before what is done, at a space."""
        wanted = max(start + 1, done - self.window // 2)
        space = raw.find(b" ", wanted, done)
        at = space if space >= 0 else wanted
        while at < len(raw) and raw[at] & 0xC0 == 0x80:
            at += 1
        return at

    def description(self) -> dict[str, Any]:
        """What the targets are of."""
        return {
            "kind": "log-probs",
            "teacher": f"{self.server.url} ({self.server.model})",
            "teacher_fingerprint": "",
            "tokenizer_fingerprint": "",
            "vocabulary_size": 0,
            "context": self.window,
            "dtype": "",
            "temperature": 1.0,
            "top_k": 0,
            "draws": 0,
        }

    def save_parts(self, folder: Path) -> None:
        """Nothing: the bytes of each token are with the targets."""
