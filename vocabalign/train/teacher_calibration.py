"""A teacher that expects other tokens than the text has, corrected by how often each is really there.

A teacher has habits from its own training: line ends in text that has none, other quotation marks, another language.
Its distributions carry them to the student at every place, where the text itself would have taken them out. One number
for each token mends that: the token's logit is raised by the logarithm of how often it is there over how often the
teacher expects it. With these the teacher's mean distribution is that of the text, and what depends on the context is
as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vocabalign.losses.fused import IGNORE
from vocabalign.losses.logits import Head
from vocabalign.losses.streaming import Side, stream
from vocabalign.models import context_length
from vocabalign.stages import TrainingOptions
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.documents import boundary_ids
from vocabalign.train.teachers import RunningTeacher
from vocabalign.train.texts import training_texts

logger = logging.getLogger("vocabalign")

SAMPLE_TOKENS, WINDOW, BATCH = 16_384, 256, 8
# As if each token had been there this often more, and expected as often: rare tokens are left as they are.
EXTRA = 10.0
LARGEST = 4.0


def calibrate(
    corpus: list[str], training: TrainingOptions, teacher: RunningTeacher, vocabulary: Vocabulary, device: torch.device
) -> float | None:
    """Fit the correction to a sample of the training text and put it on the teacher's head.

    Args:
        corpus: the training text.
        training: how it is read.
        teacher: gets the corrected head.
        vocabulary: of the teacher.
        device: where the losses, or what is captured, will need the head.

    Returns:
        The probability that the correction moves, in the mean over places (total variation of the two means); None
        where there is nothing to fit it to.
    """
    texts = training_texts(corpus, training, vocabulary)
    expected, there = expectations(teacher, vocabulary, (text.text for text in texts if text.scored is None))
    if not there.sum():
        return None
    correction = correction_of(expected, there, vocabulary)
    teacher.head(device)
    teacher.heads = {device: corrected(head, correction) for device, head in teacher.heads.items()}
    moved = float((expected - there).abs().sum() / there.sum() / 2)
    largest = int(correction[: len(vocabulary)].argmin())
    logger.info(
        "The teacher expects other tokens than the text has at %.1f%% of the places: corrected, the most "
        "for %r, by a factor of %.3f.",
        100 * moved, vocabulary.token_bytes[largest], float(correction[largest].exp()),
    )  # fmt: skip
    return moved


def expectations(teacher: RunningTeacher, vocabulary: Vocabulary, texts: Iterable[str]) -> tuple[Tensor, Tensor]:
    """(V,) float64: how often the teacher expects each token on a sample of text, and how often it is there."""
    head = teacher.head(teacher.device)
    head = replace(head, rows=min(head.num_rows, len(vocabulary)))
    expected = torch.zeros(head.num_rows, dtype=torch.float64, device=teacher.device)
    there = torch.zeros(head.num_rows, dtype=torch.float64)
    for inputs, labels in _batches(vocabulary, texts, min(WINDOW, context_length(teacher.model) or WINDOW)):
        known = (labels != IGNORE).flatten()
        hidden = teacher.hidden(inputs, None).flatten(0, 1)[known.to(teacher.device)]
        there += torch.bincount(labels.flatten()[known], minlength=head.num_rows)[: head.num_rows]
        with torch.no_grad():
            stream(_Sums(expected), [Side(hidden, head, trained=False)])
    return expected.cpu(), there


def correction_of(expected: Tensor, there: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(V,) float32 to add to the logits; 0 for special tokens, which the sample does not show where they are used."""
    correction = torch.log((there + EXTRA) / (expected + EXTRA)).clamp(-LARGEST, LARGEST)
    special = [i for i in vocabulary.special_ids if i < len(correction)]
    correction[special] = 0
    return correction.float()


def corrected(head: Head, correction: Tensor) -> Head:
    """The head with ``correction`` added to the logits of its first rows; before a soft cap, where there is one."""
    bias = torch.zeros(len(head.weight), dtype=torch.float32) if head.bias is None else head.bias.float().cpu()
    bias = bias.clone()
    bias[: len(correction)] += correction / head.scale
    return replace(head, bias=bias.to(head.weight.device, head.weight.dtype))


class _Sums:
    """Adds up the probabilities of rows."""

    def __init__(self, total: Tensor) -> None:
        self.total = total

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        p = torch.softmax(logits[0], -1)
        self.total += p.sum(0).double()
        return p[None, :, 0]


def _batches(vocabulary: Vocabulary, texts: Iterable[str], context: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels (B, L) of whole windows of the first documents."""
    begin, _ = boundary_ids(vocabulary)
    windows: list[list[int]] = []
    count = 0
    for text in texts:
        ids = vocabulary.encode_batch([text])[0]
        ids = ids if begin is None else [begin, *ids]
        windows += [ids[at : at + context + 1] for at in range(0, len(ids) - 1, context)]
        count += len(ids)
        if count >= SAMPLE_TOKENS:
            break
    windows.sort(key=len)
    for at in range(0, len(windows), BATCH):
        part = windows[at : at + BATCH]
        inputs = torch.zeros(len(part), max(map(len, part)) - 1, dtype=torch.int64)
        labels = torch.full_like(inputs, IGNORE)
        for row, window in enumerate(part):
            inputs[row, : len(window) - 1] = torch.tensor(window[:-1])
            labels[row, : len(window) - 1] = torch.tensor(window[1:])
        yield inputs, labels
