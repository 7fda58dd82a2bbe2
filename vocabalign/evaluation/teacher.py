"""How near a model is to a teacher: top-1 agreement and KL, where both have read the same bytes.

With one vocabulary the two next-token distributions are compared as they are. With two, the next token of one side is
another event than the next token of the other; both are summed over the classes of ``losses.classes.common_classes``,
at the bytes where tokens of both sides begin. The KL of such coarser events is at most the KL of the next bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vocabalign.evaluation.bits_per_byte import embedding_rows, start_token
from vocabalign.evaluation.options import Place, Subject
from vocabalign.losses.classes import EventClasses, common_classes, same_vocabulary
from vocabalign.models import context_length, load_model
from vocabalign.progress import progress
from vocabalign.text.alignment import align_tokens
from vocabalign.text.compression import encode_documents
from vocabalign.text.tokenizers import load_vocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from vocabalign.text.vocabulary import Vocabulary

PAIRS_AT_ONCE = 256
"""Positions whose distributions are in memory at one time, on both sides."""


class TeacherComparison:
    """One teacher, asked about every model in turn.

    Args:
        reference: the teacher's folder.
        documents: N texts.
        place: where it runs.
        window: tokens that either side reads at most; at least half of them before every position that is compared,
            but at the beginning of a document.

    Raises:
        ModelError: the folder is not a model.
        TokenizerError: its tokenizer cannot be loaded.
    """

    def __init__(self, reference: str, documents: Sequence[str], place: Place, *, window: int = 512) -> None:
        self.documents, self.window, self.place = documents, window, place
        self.vocabulary = load_vocabulary(reference)
        self.model = load_model(reference, dtype=place.dtype, device=place.device)
        self.ids = encode_documents(self.vocabulary, documents)

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """The keys of one model in metrics.json; empty but for a note where nothing can be compared."""
        import torch

        same = same_vocabulary(subject.vocabulary, self.vocabulary)
        sums = _Sums(common_classes(subject.vocabulary, self.vocabulary), self.place.device)
        sides = (_Side(subject.model, subject.vocabulary, self.window), _Side(self.model, self.vocabulary, self.window))
        num_bytes = 0
        with torch.inference_mode(), progress(f"Comparing {subject.name}", len(self.documents)) as counter:
            for text, mine, theirs in zip(self.documents, subject.ids, self.ids, strict=True):
                pairs = _start_pairs(subject.vocabulary, mine, self.vocabulary, theirs, text, same)
                for part in _parts(pairs, sides[0].window // 2, sides[1].window // 2):
                    sums.add(sides[0].logits(mine, part[:, 0]), sides[1].logits(theirs, part[:, 1]))
                num_bytes += len(text.encode()) if len(pairs) else 0
                counter.advance(1)
        return sums.record(num_bytes, len(subject.vocabulary), same, sum(map(len, subject.ids)))


class _Sums:
    """Adds up what is measured at every position."""

    def __init__(self, classes: EventClasses, device: torch.device) -> None:
        import torch

        self.classes = classes
        # What takes no part goes to a column of its own, which is left out.
        self.columns = [
            torch.from_numpy(np.where(side < 0, classes.num_classes, side)).to(device)
            for side in (classes.student, classes.teacher)
        ]
        self.positions = self.agreements = 0
        self.nats = self.entropy = 0.0

    def add(self, mine: torch.Tensor, theirs: torch.Tensor) -> None:
        """(P, Vs) and (P, Vt) logits at the same positions."""
        q, p = (self._events(logits, side) for logits, side in ((mine, 0), (theirs, 1)))
        self.positions += len(q)
        self.agreements += int((q.argmax(-1) == p.argmax(-1)).sum())
        # A class to which the model gives nothing costs much, but not infinitely much: float32 underflows.
        tiny = 1e-38
        log_p, log_q = p.clamp(min=tiny).log(), q.clamp(min=tiny).log()
        self.nats += float((p * (log_p - log_q)).sum(dtype=_exact(p)))
        self.entropy -= float((p * log_p).sum(dtype=_exact(p)))

    def _events(self, logits: torch.Tensor, side: int) -> torch.Tensor:
        """(P, K) float32 probabilities of the classes."""
        columns = self.columns[side]
        # Rows that only pad the head are no tokens.
        known = logits[:, : len(columns)].float()
        if self.classes.identity:
            return known.softmax(-1)
        events = known.new_zeros(len(known), self.classes.num_classes + 1)
        events.index_add_(1, columns, known.softmax(-1))
        events = events[:, :-1]
        return events / events.sum(-1, keepdim=True)

    def record(self, num_bytes: int, vocabulary_size: int, same: bool, num_tokens: int) -> dict[str, Any]:
        if not self.positions:
            return {"teacher_note": "The model and the teacher never stand at the same byte: nothing to compare."}
        return {
            "teacher_top1_agreement": self.agreements / self.positions,
            "teacher_kl_nats_per_position": self.nats / self.positions,
            "teacher_kl_bits_per_byte": self.nats / math.log(2) / num_bytes,
            "teacher_entropy_nats_per_position": self.entropy / self.positions,
            "teacher_positions": self.positions,
            "teacher_positions_share": self.positions / num_tokens,
            "teacher_events": vocabulary_size if same else self.classes.num_classes,
            "teacher_same_vocabulary": same,
        }


class _Side:
    """One model that is asked for the logits at some positions of a document."""

    def __init__(self, model: PreTrainedModel, vocabulary: Vocabulary, window: int) -> None:
        self.model = model
        self.window = min(window, context_length(model) or window)
        self.start_id = start_token(vocabulary.roles)
        self.rows = embedding_rows(model)

    def logits(self, ids: Sequence[int], positions: np.ndarray) -> torch.Tensor:
        """(P, V) logits of what follows; position 0 has read the start token alone, position i also ``ids[:i]``."""
        import torch

        end = int(positions[-1]) + 1
        begin = max(0, end - self.window)
        tokens = [self.start_id, *ids[:end]][begin:end]
        output = self.model(torch.tensor([tokens], device=self.model.device), use_cache=False).logits[0]
        return output[torch.from_numpy(positions - begin).to(output.device)]


def _start_pairs(
    mine: Vocabulary, my_ids: Sequence[int], theirs: Vocabulary, their_ids: Sequence[int], text: str, same: bool
) -> np.ndarray:
    """(P, 2) int64: positions of both sides that have read the same; 0 is the start token."""
    if same and list(my_ids) == list(their_ids):
        positions = np.arange(len(my_ids), dtype=np.int64)
        return np.stack([positions, positions], axis=1)
    alignment = align_tokens(mine, my_ids, theirs, their_ids, text)
    if alignment is None:
        return np.zeros((0, 2), dtype=np.int64)
    # A token of index i is read at position i + 1, behind the start token.
    pairs = alignment.start_pairs[:, 1:].astype(np.int64) + 1
    if mine.dummy_prefix != theirs.dummy_prefix:
        return pairs  # the first token of one side has a space that the other's has not
    return np.concatenate([np.zeros((1, 2), dtype=np.int64), pairs])


def _parts(pairs: np.ndarray, *spans: int) -> Iterator[np.ndarray]:
    """Runs of pairs that neither side spreads over more than its span."""
    first = 0
    while first < len(pairs):
        last = min(len(pairs), first + PAIRS_AT_ONCE)
        for side, span in enumerate(spans):
            last = min(last, int(np.searchsorted(pairs[:, side], pairs[first, side] + max(1, span), side="left")))
        yield pairs[first : max(last, first + 1)]
        first = max(last, first + 1)


def _exact(tensor: torch.Tensor) -> torch.dtype:
    import torch

    return torch.float32 if tensor.device.type == "mps" else torch.float64
