"""Batches that the student writes itself and the teachers score: it learns where its own mistakes lead.

A batch is one or the other as a whole, by a coin that follows from its text, so that a run that goes on tosses the
same. The student's tokens stay as it wrote them; a teacher with another tokenizer reads the text that they spell.

Reference:
    Agarwal et al. (2024), On-Policy Distillation of Language Models (GKD): any divergence on a mixture of data and
    own samples; no gradient through the sampling.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vocabalign.losses.aligned import Document
from vocabalign.stages.distill_configs import OnPolicyOptions
from vocabalign.text.alignment import Alignment, align_tokens
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.cross_tokenizer import AlignedDistillation, Taught
from vocabalign.train.documents import boundary_ids
from vocabalign.train.head import hidden_states, read_head
from vocabalign.train.pieces import Piece, cut_pieces
from vocabalign.train.teacher_side import TeacherBatch, pack
from vocabalign.train.writing import write_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Listener:
    """A teacher that reads what the student writes.

    Attributes:
        taught: its losses.
        context: tokens that it reads at once, or None.
        packed: whether its windows may share a row.
    """

    taught: Taught
    context: int | None
    packed: bool

    def read(self, rows: Sequence[np.ndarray], prompt: int, context: int) -> TeacherBatch:
        """Its side of a batch.

        Args:
            rows: the student's tokens, L + 1 of each row, the last only a label.
            prompt: how many of them it did not write.
            context: L.
        """
        student, teacher = self.taught.tables.student, self.taught.tables.teacher
        found: list[tuple[int, int, Piece]] = []
        for number, ids in enumerate(rows):
            whole = align_written(student, ids, teacher, prompt)
            if whole is not None:
                pieces = cut_pieces(whole, 0, len(ids), context, self.context)
                found += [(number, number * context, piece) for piece in pieces]
        return pack(found, len(rows), self.packed, self.taught.prepare())


def align_written(student: Vocabulary, ids: np.ndarray, teacher: Vocabulary, prompt: int) -> Document | None:
    """Both sides of what the student wrote behind a prompt; None where it is no text.

    Args:
        student: its vocabulary.
        ids: its tokens, the first perhaps the one that begins a document.
        teacher: vocabulary of the reader.
        prompt: tokens that are read alone.
    """
    begin, _ = boundary_ids(student)
    opening, _ = boundary_ids(teacher)
    begins = begin is not None and len(ids) > 0 and ids[0] == begin
    body = ids[1:] if begins else ids
    stop = next((i for i, token in enumerate(body.tolist()) if student.token_bytes[token] is None), len(body))
    joined = b"".join(student.token_bytes[token] or b"" for token in body[:stop].tolist())
    if begins and student.dummy_prefix and joined[:1] == b" ":
        joined = joined[1:]
    text = _readable(joined)
    before = [] if opening is None or not begins else [opening]
    # What the student wrote in the end: the teacher answers whether it would end there as well.
    ends = stop < len(body) and body[stop] in (student.roles.get("eos"), begin)
    after = [end for end in (boundary_ids(teacher)[1] or opening,) if end is not None] if ends else []
    mine = ids[: len(ids) - len(body) + stop + (1 if ends else 0)]
    theirs = np.array([*before, *teacher.encode(text), *after], dtype=np.int64)
    same_opening = student.dummy_prefix == teacher.dummy_prefix or not begins
    alignment = align_tokens(student, mine, teacher, theirs)
    if alignment is None:
        return None
    return Document(_behind(alignment, prompt), mine, theirs, same_opening=same_opening)


def _readable(raw: bytes) -> str:
    """The text up to the first byte that belongs to no character: a student may write anything."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return raw[: error.start].decode()


def _behind(a: Alignment, prompt: int) -> Alignment:
    """The chunks that begin behind the prompt."""
    low = int(np.searchsorted(a.cs_start, prompt))
    base = int(a.byte_end[low - 1]) if low else 0
    starts = a.start_pairs[a.start_pairs[:, 1] + 1 >= prompt]
    return replace(
        a,
        cs_start=a.cs_start[low:], cs_end=a.cs_end[low:], ct_start=a.ct_start[low:], ct_end=a.ct_end[low:],
        byte_end=a.byte_end[low:] - base, start_pairs=starts - np.array([base, 0, 0], dtype=starts.dtype),
        num_bytes=a.num_bytes - base,
    )  # fmt: skip


@dataclass(frozen=True)
class OnPolicy:
    """A mixture of batches from the corpus and of the student's own.

    Attributes:
        aligned: what is minimised on batches from the corpus; on the student's own it is the teachers' part alone.
        listeners: the teachers, in the order of ``aligned.teachers``.
        options: how much and how long the student writes.
        vocabulary: of the student.
        seed: of coin and samples.
    """

    aligned: AlignedDistillation
    listeners: Sequence[Listener]
    options: OnPolicyOptions
    vocabulary: Vocabulary
    seed: int

    def __call__(self, model: PreTrainedModel, batch: dict[str, Any], num_items: Any) -> dict[str, Tensor]:
        """Loss and parts."""
        number = zlib.crc32(batch["input_ids"].cpu().numpy().tobytes(), self.seed)
        if number / 2**32 >= self.options.share:
            return self.aligned(model, batch, num_items)
        ids = self._write(model, batch, number)
        context = ids.shape[1] - 1
        prompt = min(self.options.prompt_tokens, context)
        sides = [listener.read(ids.cpu().numpy(), prompt, context) for listener in self.listeners]  # type: ignore[arg-type]
        device = ids.device
        said = [
            listener.taught.say(side, listener.taught.tables, device) for listener, side in zip(self.listeners, sides)
        ]
        hidden = hidden_states(model, ids[:, :-1], None).flatten(0, 1)
        # The batch is worth as much as the labels that it stands for.
        share = (batch["labels"] >= 0).sum() / max(1, ids.shape[0] * (context + 1 - prompt))
        value = self.aligned.lessons(hidden, read_head(model), said, sides, num_items / share)
        parts = {"cross_entropy": value.detach() * 0} if self.aligned.weight < 1 else {}
        return {"loss": value, **parts, "distillation": value}

    def _write(self, model: PreTrainedModel, batch: dict[str, Any], number: int) -> Tensor:
        """(B, L + 1) tokens: the beginnings of the batch's rows, and what the student makes of them."""
        ids = batch["input_ids"]
        context = ids.shape[1]
        prompt = min(self.options.prompt_tokens, context)
        new = min(self.options.new_tokens or context + 1 - prompt, context + 1 - prompt)
        starts = _beginnings(batch.get("position_ids"), prompt, ids)
        prompts = torch.stack([row[at : at + prompt] for row, at in zip(ids, starts)])
        generator = torch.Generator(ids.device).manual_seed(number)
        return write_tokens(
            model, prompts, new, temperature=self.options.temperature, generator=generator,
            num_tokens=len(self.vocabulary),
        )  # fmt: skip


def _beginnings(positions: Tensor | None, prompt: int, ids: Tensor) -> list[int]:
    """For each row the first place where a document begins that is long enough for a prompt; else the row's own."""
    if positions is None:
        return [0] * len(ids)
    result = []
    for row in positions.cpu().numpy():
        places = np.flatnonzero(row == 0)
        lengths = np.diff(np.append(places, len(row)))
        fit = places[lengths >= prompt]
        result.append(int(fit[0]) if len(fit) else 0)
    return result
