"""Losses of distributions, completed by the text: every label counts once, whoever tells what it should be.

At the starts where a teacher with another tokenizer can be asked, its distribution stands for the label with the weight
of the distillation; everywhere else the label stands for itself. A mean over aligned starts alone would be another
objective: a token of the teacher that could have gone on has ended at every such start, so a student that heard of
those alone would unlearn what begins in between.

Where a vocabulary's classes are coarser than its tokens, the text also tells the token within the class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocabalign.losses.chunk_mixture import chunk_mixture_loss
from vocabalign.losses.completed_events import completed_event_loss
from vocabalign.losses.events import class_entropy, event_loss
from vocabalign.losses.fused import IGNORE, fused_loss
from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.losses.prefix_mixture import prefix_mixture_loss
from vocabalign.losses.prefixes import PrefixRows
from vocabalign.losses.sparse import sampled_loss, top_loss
from vocabalign.losses.sparse_events import sampled_event_loss, top_event_loss

if TYPE_CHECKING:
    from vocabalign.losses.aligned import AlignedChunks
    from vocabalign.train.loss_terms import Lesson, Starts

# (loss with gradient, cross-entropy, completed loss of the teacher), each divided by the items.
Mixed = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Text:
    """The labels of a batch and what they weigh.

    Attributes:
        labels: (N,) int64, -100 for none.
        entropy: weight of the cross-entropy beside the completed loss.
        taught: weight of the completed loss.
        num_items: labels over accumulated batches and ranks.
    """

    labels: Tensor
    entropy: float
    taught: float
    num_items: Any

    @property
    def share(self) -> float:
        """Of the completed loss in the sum of both weights."""
        return self.taught / (self.entropy + self.taught)

    def others(self, rows: Tensor) -> Tensor:
        """(N,) bool: labels of other rows."""
        others = self.labels != IGNORE
        others[rows] = False
        return others


Completed = Callable[["Lesson", Any, Text], Mixed]


def completed_token(lesson: Lesson, starts: Starts, text: Text) -> Mixed:
    """One vocabulary: at every aligned start a mixture, elsewhere the label."""
    pairs = starts.pairs[text.labels[starts.pairs[:, 0]] != IGNORE]
    at, theirs = pairs.unbind(1)
    whole = text.entropy + text.taught
    labels = text.labels[at]
    options: dict[str, Any] = {"num_items": text.num_items, "weight": text.share}
    shared = len(lesson.tables.student)
    teacher = lesson.teacher
    if teacher.kind == "top-k":
        options |= {"divergence": lesson.divergence, "temperature": lesson.temperature}
        found = top_loss(lesson.hidden[at], cut(lesson.head, shared), labels, teacher.top(theirs), **options)
    elif teacher.kind == "sampled":
        found = sampled_loss(lesson.hidden[at], cut(lesson.head, shared), labels, teacher.sampled(theirs), **options)
    else:
        options |= {"divergence": lesson.divergence, "temperature": lesson.temperature, "shared_rows": shared}
        found = fused_loss(
            lesson.hidden[at], lesson.head, labels,
            teacher_hidden=teacher.hidden(theirs), teacher_head=teacher.head(), **options,
        )  # fmt: skip
    rest = _entropy(lesson, text, text.others(at))
    entropy, divergence = found.cross_entropy + rest.detach(), found.divergence + rest.detach()
    return whole * (found.loss + rest), entropy, divergence


def cut(head: Head, rows: int) -> Head:
    """The head without rows that stand for no token."""
    return Head(head.weight, head.bias, head.scale, head.softcap, min(rows, head.num_rows), head.masked)


def completed_event(lesson: Lesson, starts: Starts, text: Text) -> Mixed:
    """Classes from the teacher, the token within its class and all labels between starts from the text."""
    teacher = lesson.teacher
    running = teacher.kind in ("online", "hidden")
    if running and lesson.divergence == "forward-kl" and lesson.temperature == 1:
        # Rows of the teacher beside those of the student: only those that are needed are read.
        rows = torch.arange(len(starts.pairs), device=starts.pairs.device)
        return completed_event_loss(
            lesson.hidden, lesson.head, text.labels, teacher.hidden(starts.pairs[:, 1]), teacher.head(),
            torch.stack([starts.pairs[:, 0], rows], 1), lesson.tables.class_sums(lesson.head.num_rows),
            cross_entropy=text.entropy, events=text.taught, num_items=text.num_items,
        )  # fmt: skip
    events = lesson.tables.events
    labels = text.labels[starts.pairs[:, 0]]
    pairs = starts.pairs[(labels != IGNORE) & (events.class_of[labels.clamp(min=0)] >= 0)]
    at, theirs = pairs.unbind(1)
    mine, options = lesson.hidden[at], {"num_items": text.num_items}
    shape: dict[str, Any] = {"divergence": lesson.divergence, "temperature": lesson.temperature}
    if teacher.kind == "top-k":
        top, classes = teacher.top(theirs), lesson.tables.teacher_classes
        value = top_event_loss(mine, lesson.head, top, classes, events, **shape, **options)
    elif teacher.kind == "sampled":
        drawn = teacher.sampled(theirs)
        value = sampled_event_loss(mine, lesson.head, drawn, lesson.tables.teacher_classes, events, **options)
    else:
        value = event_loss(
            mine, lesson.head, teacher.hidden(theirs), teacher.head(), events, **shape, **options
        )  # fmt: skip
    entropy = _entropy(lesson, text, text.labels != IGNORE)
    known = class_entropy(mine, lesson.head, text.labels[at], events, **options)
    taught = entropy + value - known
    return text.entropy * entropy + text.taught * taught, entropy.detach(), taught.detach()


def completed_prefixes(lesson: Lesson, rows: PrefixRows, text: Text) -> Mixed:
    """The teacher's distribution over the student's tokens at nearly every start, from one set of logits."""
    teacher = lesson.teacher
    rest = observed_log_probs(teacher.hidden(rows.rest), teacher.head(), rows.rest_labels).tokens
    return prefix_mixture_loss(
        lesson.hidden, lesson.head, text.labels, teacher.hidden(rows.pairs[:, 1]), teacher.head(), rows,
        lesson.tables.prefix_merge, rest, cross_entropy=text.entropy, prefix=text.taught,
        divergence=lesson.divergence, num_items=text.num_items,
    )  # fmt: skip


def _entropy(lesson: Lesson, text: Text, which: Tensor) -> Tensor:
    return fused_loss(lesson.hidden[which], lesson.head, text.labels[which], num_items=text.num_items).loss


def chunks_and_text(lesson: Lesson, chunks: AlignedChunks, text: Text, num_chunk_items: Any) -> Mixed:
    """Chunks are completed by nothing, but what they and the cross-entropy need of the student is the same."""
    observed = lesson.teacher.observed(chunks.teacher)
    starts = None
    if observed.word_starts is not None:
        starts = lesson.tables.word_starts("student", lesson.head.num_rows)
    return chunk_mixture_loss(
        lesson.hidden, lesson.head, text.labels, chunks, observed, starts=starts,
        cross_entropy=text.entropy, chunk=text.taught, num_items=text.num_items, num_chunk_items=num_chunk_items,
    )  # fmt: skip


COMPLETED: dict[str, Completed] = {
    "token": completed_token,
    "event": completed_event,
    "prefixes": completed_prefixes,
}
# Of these the first takes the cross-entropy with it; they have items of their own.
WITH_TEXT: dict[str, Callable[[Lesson, Any, Text, Any], Mixed]] = {"chunks": chunks_and_text}
