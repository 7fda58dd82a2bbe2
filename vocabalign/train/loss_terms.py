"""The losses of distillation as a run uses them: what each prepares of a batch, and what it is worth there.

Every term is the mean over its places: over aligned starts for distributions, over bytes for chunks. Across accumulated
batches and ranks it is divided by the number of labels times the places for each label that a sample of the text has,
so that gradients add up exactly and a coefficient means the same for every pair of tokenizers. On the corpus some are
completed by the text instead (``completed_terms``): then their places are all labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import AlignedChunks, ChunkRows, aligned_chunks, aligned_starts, observed_at
from vocabalign.losses.chunks import chunk_loss
from vocabalign.losses.events import event_loss
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.gold import gold_loss
from vocabalign.losses.gold_rows import GoldRows, gold_rows
from vocabalign.losses.hidden import hidden_loss
from vocabalign.losses.likelihood import Observed, observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.losses.marginal import prefix_loss
from vocabalign.losses.prefixes import PrefixRows, prefix_rows
from vocabalign.losses.projection import projection_loss
from vocabalign.losses.sparse import sampled_loss, top_loss
from vocabalign.losses.sparse_events import sampled_event_loss, top_event_loss
from vocabalign.losses.targets import SampledTargets, TopTargets
from vocabalign.losses.uld import uld_loss
from vocabalign.train.completed_terms import cut
from vocabalign.train.coverage import Coverage
from vocabalign.train.lesson_tables import Tables
from vocabalign.train.pieces import Piece


class TeacherRows(Protocol):
    """What is known of a teacher at the rows of a batch; of each only what its kind has."""

    @property
    def kind(self) -> str:
        """``online``, ``hidden``, ``top-k``, ``sampled`` or ``log-probs``."""
        ...

    def head(self) -> Head:
        """Its head."""
        ...

    def hidden(self, rows: Tensor) -> Tensor:
        """(N, Ht) hidden states."""
        ...

    def top(self, rows: Tensor) -> TopTargets:
        """Its likeliest tokens."""
        ...

    def sampled(self, rows: Tensor) -> SampledTargets:
        """Tokens drawn from it."""
        ...

    def observed(self, rows: ChunkRows) -> Observed:
        """What it gave to the text that is there."""
        ...


@dataclass(frozen=True)
class Starts:
    """Places where both sides predict the same next bytes; P of them.

    Attributes:
        pairs: (P, 2) int64 rows of student and teacher.
        labels: (P,) int64 the student's next token.
    """

    pairs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Lesson:
    """One teacher on one batch.

    Attributes:
        hidden: (N, H) of the student, all rows of the batch.
        head: of the student.
        teacher: what is known of the teacher.
        tables: of the two vocabularies.
        divergence: name of the divergence.
        temperature: of both sides' distributions.
        projector: (H, Ht) for hidden states of two sizes, or None.
    """

    hidden: Tensor
    head: Head
    teacher: TeacherRows
    tables: Tables
    divergence: str
    temperature: float
    projector: Tensor | None = None


@dataclass(frozen=True)
class Term:
    """A loss: what it prepares, its value, and how many places a label of the text has."""

    prepare: Callable[[Sequence[Piece], Tables], Any]
    loss: Callable[[Lesson, Any, Any], Tensor]
    places: Callable[[Coverage], float]


def _starts(pieces: Sequence[Piece], tables: Tables) -> Starts:
    documents = [piece.document for piece in pieces]
    return Starts(aligned_starts(documents), observed_at(documents)[:, 0])


def _token(lesson: Lesson, rows: Starts, num_items: Any) -> Tensor:
    mine, theirs = lesson.hidden[rows.pairs[:, 0]], rows.pairs[:, 1]
    options = {"num_items": num_items, "weight": 1.0}
    shared = len(lesson.tables.student)
    if lesson.teacher.kind == "top-k":
        top = lesson.teacher.top(theirs)
        head = cut(lesson.head, shared)
        return top_loss(
            mine, head, rows.labels, top, divergence=lesson.divergence, temperature=lesson.temperature, **options
        ).loss
    if lesson.teacher.kind == "sampled":
        return sampled_loss(mine, cut(lesson.head, shared), rows.labels, lesson.teacher.sampled(theirs), **options).loss
    return fused_loss(
        mine,
        lesson.head,
        rows.labels,
        teacher_hidden=lesson.teacher.hidden(theirs),
        teacher_head=lesson.teacher.head(),
        divergence=lesson.divergence,
        temperature=lesson.temperature,
        shared_rows=shared,
        **options,
    ).loss


def _event(lesson: Lesson, rows: Starts, num_items: Any) -> Tensor:
    mine, theirs = lesson.hidden[rows.pairs[:, 0]], rows.pairs[:, 1]
    tables, teacher = lesson.tables, lesson.teacher
    if teacher.kind == "top-k":
        return top_event_loss(
            mine, lesson.head, teacher.top(theirs), tables.teacher_classes, tables.events,
            divergence=lesson.divergence, temperature=lesson.temperature, num_items=num_items,
        )  # fmt: skip
    if teacher.kind == "sampled":
        return sampled_event_loss(
            mine, lesson.head, teacher.sampled(theirs), tables.teacher_classes, tables.events, num_items=num_items
        )
    return event_loss(
        mine, lesson.head, teacher.hidden(theirs), teacher.head(), tables.events,
        divergence=lesson.divergence, temperature=lesson.temperature, num_items=num_items,
    )  # fmt: skip


def _chunks(lesson: Lesson, chunks: AlignedChunks, num_items: Any) -> Tensor:
    observed = lesson.teacher.observed(chunks.teacher)
    starts = None
    if observed.word_starts is not None:
        starts = lesson.tables.word_starts("student", lesson.head.num_rows)
    hidden = lesson.hidden[chunks.student.positions]
    return chunk_loss(hidden, lesson.head, chunks, observed, starts=starts, num_items=num_items)


def _prefixes(lesson: Lesson, rows: PrefixRows, num_items: Any) -> Tensor:
    teacher = lesson.teacher
    rest = observed_log_probs(teacher.hidden(rows.rest), teacher.head(), rows.rest_labels).tokens
    return prefix_loss(
        lesson.hidden[rows.pairs[:, 0]], lesson.head, teacher.hidden(rows.pairs[:, 1]), teacher.head(), rows,
        lesson.tables.prefix_merge, rest, divergence=lesson.divergence, num_items=num_items,
    )  # fmt: skip


def _projection(lesson: Lesson, rows: Starts, num_items: Any) -> Tensor:
    return projection_loss(
        lesson.hidden[rows.pairs[:, 0]], lesson.head, lesson.teacher.hidden(rows.pairs[:, 1]), lesson.teacher.head(),
        lesson.tables.projection, divergence=lesson.divergence, temperature=lesson.temperature, num_items=num_items,
    )  # fmt: skip


def _uld(lesson: Lesson, rows: Starts, num_items: Any) -> Tensor:
    return uld_loss(
        lesson.hidden[rows.pairs[:, 0]], lesson.head, lesson.teacher.hidden(rows.pairs[:, 1]), lesson.teacher.head(),
        temperature=lesson.temperature, num_items=num_items,
    )  # fmt: skip


def _gold_rows(pieces: Sequence[Piece], tables: Tables) -> GoldRows:
    return gold_rows([piece.document for piece in pieces], tables.shared)


def _gold(lesson: Lesson, rows: GoldRows, num_items: Any) -> Tensor:
    teacher = lesson.teacher
    rest = observed_log_probs(teacher.hidden(rows.teacher.rows), teacher.head(), rows.teacher.labels).tokens
    return gold_loss(
        lesson.hidden[rows.pairs[:, 0]], lesson.head, lesson.hidden[rows.student.rows],
        teacher.hidden(rows.pairs[:, 1]), teacher.head(), rest, rows, lesson.tables.shared_events,
        divergence=lesson.divergence, num_items=num_items,
    )  # fmt: skip


def _ends(pieces: Sequence[Piece], tables: Tables) -> Tensor:
    parts = [piece.ends() for piece in pieces]
    return torch.from_numpy(np.concatenate([np.zeros((0, 2), dtype=np.int64), *parts]))


def _hidden(lesson: Lesson, ends: Tensor, num_items: Any) -> Tensor:
    mine, theirs = lesson.hidden[ends[:, 0]], lesson.teacher.hidden(ends[:, 1])
    return hidden_loss(mine, theirs, projector=lesson.projector, num_items=num_items)


def _per_label(starts: int, coverage: Coverage) -> float:
    """Starts for each label: every text has one more of its first token, and one of its end."""
    return (starts + 2 * coverage.texts) / max(1, coverage.student_tokens + coverage.texts)


def _per_start(coverage: Coverage) -> float:
    return _per_label(coverage.starts, coverage)


def _bytes_per_token(coverage: Coverage) -> float:
    return coverage.num_bytes / max(1, coverage.student_tokens)


TERMS: dict[str, Term] = {
    "token": Term(_starts, _token, _per_start),
    "event": Term(_starts, _event, _per_start),
    "chunks": Term(lambda pieces, _: aligned_chunks([p.document for p in pieces]), _chunks, _bytes_per_token),
    "prefixes": Term(
        lambda pieces, tables: prefix_rows([p.document for p in pieces], tables.prefixes),
        _prefixes,
        lambda coverage: _per_label(coverage.prefix_starts, coverage),
    ),
    "projection": Term(_starts, _projection, _per_start),
    "uld": Term(_starts, _uld, _per_start),
    "gold": Term(_gold_rows, _gold, _per_start),
    "hidden": Term(_ends, _hidden, lambda coverage: _per_label(coverage.chunks, coverage)),
}


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors inside dataclasses and mappings on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: to_device(getattr(value, field.name), device) for field in fields(value)})
    return value
