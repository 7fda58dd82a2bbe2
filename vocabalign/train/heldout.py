"""Bits per byte of held-out text during training, in windows without overlap.

A little above the sliding-window figure that ``vocabalign evaluate`` prints (each window starts with
no context), and as comparable between tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vocabalign.errors import CorpusError
from vocabalign.losses.fused import IGNORE, fused_loss
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.data import boundary_ids
from vocabalign.train.head import hidden_states, read_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class HeldOut:
    """Windows of held-out documents, made once and scored as often as asked.

    Args:
        texts: the documents.
        vocabulary: the model's tokenizer.
        context: tokens in a window.
        batch_size: windows in one forward pass.

    Raises:
        CorpusError: no text.
    """

    def __init__(self, texts: Iterable[str], vocabulary: Vocabulary, context: int, batch_size: int) -> None:
        documents = [text for text in texts if text]
        begin, _ = boundary_ids(vocabulary)
        self.num_bytes = sum(len(text.encode()) for text in documents)
        windows: list[list[int]] = []
        for ids in vocabulary.encode_batch(documents) if documents else []:
            if begin is None and ids:
                # Nothing stands before the first token, so it cannot be scored.
                self.num_bytes -= len(vocabulary.token_bytes[ids[0]] or b"")
            stream = ids if begin is None else [begin, *ids]
            windows += [stream[at : at + context + 1] for at in range(0, len(stream) - 1, context)]
        if not windows or self.num_bytes <= 0:
            raise CorpusError("The held-out text is empty: check the files and the field 'text'.")
        # Windows of like length together: less padding.
        windows.sort(key=len)
        self.batches = [_pad(windows[at : at + batch_size]) for at in range(0, len(windows), batch_size)]

    @torch.no_grad()
    def bits_per_byte(self, model: PreTrainedModel) -> float:
        """Total negative log-likelihood in bits, divided by the bytes of the text."""
        was_training = model.training
        model.eval()
        head = read_head(model)
        nats = 0.0
        for inputs, labels in self.batches:
            hidden = hidden_states(model, inputs.to(head.weight.device), None)
            nats += float(fused_loss(hidden, head, labels.to(head.weight.device), num_items=1.0).loss)
        model.train(was_training)
        return nats / math.log(2) / self.num_bytes


def _pad(windows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Inputs and labels (B, L); on the right, where causal attention never looks back at it."""
    length = max(map(len, windows)) - 1
    inputs = torch.zeros(len(windows), length, dtype=torch.int64)
    labels = torch.full((len(windows), length), IGNORE)
    for row, window in enumerate(windows):
        inputs[row, : len(window) - 1] = torch.tensor(window[:-1])
        labels[row, : len(window) - 1] = torch.tensor(window[1:])
    return inputs, labels
