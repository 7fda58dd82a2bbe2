"""Bits per byte of held-out text during training, in windows without overlap.

A little above the sliding-window figure that ``vocabalign evaluate`` prints (each window starts with
no context), and as comparable between tokenizers. Domains and languages are named as ``evaluate`` does.
Of a conversation, rendered by the chat template as in training, the assistant's bytes are scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vocabalign.errors import CorpusError
from vocabalign.losses.fused import IGNORE, fused_loss
from vocabalign.text.corpus import Document
from vocabalign.text.heldout_text import KINDS, HeldoutText, groups_of
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.documents import boundary_ids
from vocabalign.train.head import hidden_states, whole_head
from vocabalign.train.texts import TrainingText, encode_scored, make_renderer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BITS_PER_BYTE = "heldout_bits_per_byte"


class Window(NamedTuple):
    """A run of tokens, and for each the token itself or ``IGNORE`` where it is only read."""

    ids: list[int]
    labels: list[int]


class HeldOut:
    """Windows of held-out documents, made once and scored as often as asked.

    Args:
        texts: the documents, or them with their domains and languages and what of them is a conversation.
        vocabulary: the model's tokenizer.
        context: tokens in a window.
        batch_size: windows in one forward pass.

    Raises:
        CorpusError: no text, or a conversation that cannot be rendered.
    """

    def __init__(
        self, texts: HeldoutText | Iterable[str], vocabulary: Vocabulary, context: int, batch_size: int
    ) -> None:
        read = texts if isinstance(texts, HeldoutText) else HeldoutText([text for text in texts if text])
        begin, _ = boundary_ids(vocabulary)
        sizes: list[int] = []
        windows: list[tuple[int, Window]] = []
        for number, (ids, scored, size) in enumerate(_encoded(read, vocabulary)):
            sizes.append(size)
            if begin is None and ids and scored[0]:
                # Nothing stands before the first token, so it cannot be scored.
                sizes[number] -= len(vocabulary.token_bytes[ids[0]] or b"")
            labels = [token if kept else IGNORE for token, kept in zip(ids, scored, strict=True)]
            if begin is not None:
                ids, labels = [begin, *ids], [IGNORE, *labels]
            for at in range(0, len(ids) - 1, context):
                window = Window(ids[at : at + context + 1], labels[at : at + context + 1])
                if any(label != IGNORE for label in window.labels[1:]):
                    windows.append((number, window))
        self.sizes = np.array(sizes, dtype=np.int64)
        self.num_bytes = int(self.sizes.sum())
        if not windows or self.num_bytes <= 0:
            raise CorpusError("The held-out text is empty: check the files and the field 'text'.")
        self.groups = list(groups_of(read.labels))
        # Windows of one group together, so that a batch has one sum; of like length together: less padding.
        self.kinds = _same_groups(self.groups, len(sizes))
        windows.sort(key=lambda window: (self.kinds[window[0]], len(window[1].ids)))
        self.batches: list[tuple[int, Tensor, Tensor]] = []
        for kind in dict.fromkeys(int(self.kinds[number]) for number, _ in windows):
            mine = [window for number, window in windows if self.kinds[number] == kind]
            self.batches += [(kind, *_pad(mine[at : at + batch_size])) for at in range(0, len(mine), batch_size)]

    @torch.no_grad()
    def _nats(self, model: PreTrainedModel) -> np.ndarray:
        """Negative log-likelihood of all documents of each combination of groups."""
        was_training = model.training
        model.eval()
        nats = np.zeros(int(self.kinds.max()) + 1)
        with whole_head(model) as head:
            for kind, inputs, labels in self.batches:
                hidden = hidden_states(model, inputs.to(head.weight.device), None)
                nats[kind] += float(fused_loss(hidden, head, labels.to(head.weight.device), num_items=1.0).loss)
        model.train(was_training)
        return nats

    def bits_per_byte(self, model: PreTrainedModel) -> float:
        """Total negative log-likelihood in bits, divided by the bytes of the text."""
        return float(self._nats(model).sum()) / math.log(2) / self.num_bytes

    def scores(self, model: PreTrainedModel) -> dict[str, Any]:
        """``heldout_bits_per_byte``, and ``domains`` and ``languages``: name -> bits per byte, where text has any."""
        nats = self._nats(model)
        found: dict[str, Any] = {BITS_PER_BYTE: round(float(nats.sum()) / math.log(2) / self.num_bytes, 6)}
        for kind, name, documents in self.groups:
            size = int(self.sizes[documents].sum())
            if size > 0:
                bits = float(nats[np.unique(self.kinds[documents])].sum()) / math.log(2)
                found.setdefault(KINDS[kind], {})[name] = round(bits / size, 6)
        return found


def _same_groups(groups: list[tuple[str, str, np.ndarray]], num_documents: int) -> np.ndarray:
    """(num_documents,) a number for each combination of groups that documents are in."""
    member = np.zeros((num_documents, max(1, len(groups))), dtype=bool)
    for column, (_, _, documents) in enumerate(groups):
        member[documents, column] = True
    return np.unique(member, axis=0, return_inverse=True)[1].reshape(-1)


def _encoded(read: HeldoutText, vocabulary: Vocabulary) -> Iterator[tuple[list[int], list[bool], int]]:
    """Ids of each document, which of them are scored, and the bytes that these stand for."""
    plain = iter(vocabulary.encode_batch([t for n, t in enumerate(read.texts) if n not in read.conversations] or [""]))
    render = make_renderer(vocabulary)
    for number, text in enumerate(read.texts):
        messages = read.conversations.get(number)
        if messages is None:
            ids = next(plain)
            yield ids, [True] * len(ids), len(text.encode())
        else:
            whole, ranges = render(Document(text, "the held-out text", number, messages))
            ids, scored = encode_scored(vocabulary, [TrainingText(whole, ranges)])[0]
            yield ids, scored, sum(len(whole[start:end].encode()) for start, end in ranges)


def _pad(windows: list[Window]) -> tuple[Tensor, Tensor]:
    """Inputs and labels (B, L); on the right, where causal attention never looks back at it."""
    length = max(len(window.ids) for window in windows) - 1
    inputs = torch.zeros(len(windows), length, dtype=torch.int64)
    labels = torch.full((len(windows), length), IGNORE)
    for row, window in enumerate(windows):
        inputs[row, : len(window.ids) - 1] = torch.tensor(window.ids[:-1])
        labels[row, : len(window.ids) - 1] = torch.tensor(window.labels[1:])
    return inputs, labels
