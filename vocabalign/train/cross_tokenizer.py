"""Distillation over aligned bytes: one or several teachers, each with its own tokenizer, kind and losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocabalign.losses.fused import fused_loss
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
        parts: dict[str, Tensor] = {}
        if self.weight < 1:
            parts["cross_entropy"] = fused_loss(hidden, head, batch["labels"], num_items=num_items).loss
        distillation = self.lessons(hidden.flatten(0, 1), head, said, batch["teachers"], num_items)
        loss = self.weight * distillation
        if self.weight < 1:
            loss = loss + (1 - self.weight) * parts["cross_entropy"]
        return {"loss": loss, **parts, "distillation": distillation}

    def lessons(
        self,
        hidden: Tensor,
        head: Any,
        said: Sequence[TeacherRows],
        batches: Sequence[TeacherBatch],
        num_items: Any,
    ) -> Tensor:
        """The teachers' part alone.

        Args:
            hidden: (N, H) of the student.
            head: of the student.
            said: by each teacher.
            batches: each teacher's side.
            num_items: labels over accumulated batches and ranks.
        """
        total = hidden.new_zeros((), dtype=torch.float32)
        for taught, rows, batch in zip(self.teachers, said, batches):
            lesson = Lesson(hidden, head, rows, taught.tables, self.divergence, self.temperature)
            for name, factor in taught.terms:
                term = TERMS[name]
                items = num_items * term.places(taught.coverage)
                value = term.loss(lesson, to_device(batch.rows[name], hidden.device), items)
                total = total + taught.share * factor * value.to(total.dtype)
        # Where nothing lines up there is still a gradient, of zeros.
        return total + hidden.float().sum() * 0.0 if not total.requires_grad else total


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
