"""Distillation over aligned bytes: one or several teachers, each with its own tokenizer, kind and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocabalign.losses.fused import fused_loss
from vocabalign.losses.logits import Head
from vocabalign.train.completed_terms import COMPLETED, WITH_TEXT, Text
from vocabalign.train.coverage import Coverage
from vocabalign.train.data import Fragment
from vocabalign.train.head import hidden_states, read_head
from vocabalign.train.lesson_tables import Tables
from vocabalign.train.loss_terms import TERMS, Lesson, TeacherRows, to_device
from vocabalign.train.teacher_side import Prepare, TeacherBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Say = Callable[[TeacherBatch, Tables, torch.device], TeacherRows]


@dataclass(frozen=True)
class Taught:
    """What one teacher contributes.

    Attributes:
        share: of all teachers' losses; the shares of a run sum to 1.
        terms: names of losses with their coefficients.
        coverage: of the two tokenizers on the training text, for the number of places.
        tables: of the two vocabularies.
        say: what the teacher says of a batch.
    """

    share: float
    terms: tuple[tuple[str, float], ...]
    coverage: Coverage
    tables: Tables
    say: Say

    def prepare(self) -> dict[str, Prepare]:
        """For ``TeacherSide``."""
        return {name: _bound(name, self.tables) for name, _ in self.terms}


def _bound(name: str, tables: Tables) -> Prepare:
    return lambda pieces: TERMS[name].prepare(pieces, tables)


@dataclass(frozen=True)
class AlignedDistillation:
    """``(1 - w) CE + w sum over teachers and losses of share c D``, every part a mean over its own places.

    Losses of distributions over the student's next token are completed by the text: their places are all labels.

    Attributes:
        teachers: at least one.
        weight: w.
        divergence: name of the divergence of all distributions.
        temperature: of both sides' distributions.
    """

    teachers: Sequence[Taught]
    weight: float
    divergence: str
    temperature: float

    def __call__(self, model: PreTrainedModel, batch: dict[str, Any], num_items: Any) -> dict[str, Tensor]:
        """Loss and parts, in nats per place."""
        device = batch["input_ids"].device
        # Before the student's graph is built: what the teachers need for their pass is free again by then.
        said = [taught.say(lesson, taught.tables, device) for taught, lesson in zip(self.teachers, batch["teachers"])]
        hidden = hidden_states(model, batch["input_ids"], batch.get("position_ids"))
        head = read_head(model)
        loss, entropy, distillation = self.mixed(
            hidden.flatten(0, 1), head, batch["labels"].flatten(), said, batch["teachers"], num_items
        )
        parts = {} if entropy is None else {"cross_entropy": entropy}
        return {"loss": loss, **parts, "distillation": distillation}

    def mixed(
        self,
        hidden: Tensor,
        head: Head,
        labels: Tensor,
        said: Sequence[TeacherRows],
        batches: Sequence[TeacherBatch],
        num_items: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Text and teachers together: the loss, and its two parts for the log, the first None where it has no weight.

        Args:
            hidden: (N, H) of the student.
            head: of the student.
            labels: (N,) of the text.
            said: by each teacher.
            batches: each teacher's side.
            num_items: labels over accumulated batches and ranks.
        """
        # The first loss that can takes the cross-entropy with it, from the same logits.
        open_weight, entropy = 1 - self.weight, None
        loss = distillation = hidden.new_zeros((), dtype=torch.float32)
        for taught, name, factor, lesson, rows in self._terms(hidden, head, said, batches):
            weight, items = self.weight * taught.share * factor, num_items * TERMS[name].places(taught.coverage)
            text = Text(labels, open_weight, weight, num_items)
            if weight and (name in COMPLETED or (open_weight and name in WITH_TEXT)):
                if name in COMPLETED:
                    together, found, value = COMPLETED[name](lesson, rows, text)
                else:
                    together, found, value = WITH_TEXT[name](lesson, rows, text, items)
                loss = loss + together.to(loss.dtype)
                if open_weight:
                    open_weight, entropy = 0.0, found.detach()
            else:
                value = TERMS[name].loss(lesson, rows, items)
                loss = loss + weight * value.to(loss.dtype)
            distillation = distillation + taught.share * factor * value.detach().to(loss.dtype)
        if open_weight:
            alone = fused_loss(hidden, head, labels, num_items=num_items).loss
            loss, entropy = loss + open_weight * alone, alone.detach()
        return self._differentiable(loss, hidden), entropy, distillation

    def lessons(
        self,
        hidden: Tensor,
        head: Head,
        said: Sequence[TeacherRows],
        batches: Sequence[TeacherBatch],
        num_items: Any,
    ) -> Tensor:
        """The teachers' part alone, with nothing from the text: what the student wrote itself is no example."""
        total = hidden.new_zeros((), dtype=torch.float32)
        for taught, name, factor, lesson, rows in self._terms(hidden, head, said, batches):
            value = TERMS[name].loss(lesson, rows, num_items * TERMS[name].places(taught.coverage))
            total = total + taught.share * factor * value.to(total.dtype)
        return self._differentiable(total, hidden)

    def _terms(
        self, hidden: Tensor, head: Head, said: Sequence[TeacherRows], batches: Sequence[TeacherBatch]
    ) -> Iterator[tuple[Taught, str, float, Lesson, Any]]:
        """Teacher, name and coefficient of each loss, what it works on, and its rows on the device."""
        for taught, rows, batch in zip(self.teachers, said, batches):
            lesson = Lesson(hidden, head, rows, taught.tables, self.divergence, self.temperature)
            for name, factor in taught.terms:
                yield taught, name, factor, lesson, to_device(batch.rows[name], hidden.device)

    @staticmethod
    def _differentiable(loss: Tensor, hidden: Tensor) -> Tensor:
        # Where nothing lines up there is still a gradient, of zeros.
        return loss if loss.requires_grad else loss + hidden.float().sum() * 0.0


class TeacherSides:
    """What ``Blocks`` adds to a batch: one ``TeacherBatch`` for each teacher.

    Args:
        sides: of the teachers, in their order.
    """

    def __init__(self, sides: Sequence[Callable[[Sequence[Sequence[Fragment]]], TeacherBatch]]) -> None:
        self.sides = list(sides)

    def __call__(self, rows: list[list[Fragment]]) -> dict[str, Any]:
        """Fragments of a batch -> ``teachers``."""
        return {"teachers": [side(rows) for side in self.sides]}
