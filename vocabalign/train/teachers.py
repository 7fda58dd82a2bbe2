"""Teachers that are run beside the student: where they live, in which dtype, and what they say of a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocabalign.config import Device, Dtype
from vocabalign.errors import ConfigError, ModelError
from vocabalign.losses.aligned import ChunkRows
from vocabalign.losses.likelihood import Observed, observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.losses.targets import SampledTargets, TopTargets
from vocabalign.models import load_model, move, pick_device, pick_dtype
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.head import (
    check_head,
    check_vocabulary_fits,
    hidden_states,
    read_head,
    separates_documents,
    takes_positions,
)
from vocabalign.train.lesson_tables import Tables
from vocabalign.train.teacher_side import TeacherBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class RunningTeacher:
    """A model that is run on every batch.

    Attributes:
        model: frozen, in evaluation mode.
        device: where it runs.
        own: the student itself, with its adapters off while it teaches.
        heads: its head on the devices that asked for it.
    """

    model: PreTrainedModel
    device: torch.device
    own: bool = False
    heads: dict[torch.device, Head] = field(default_factory=dict)

    def head(self, device: torch.device) -> Head:
        """Its head on ``device``; there it stays."""
        if device not in self.heads:
            head = read_head(self.model)
            bias = None if head.bias is None else head.bias.detach().to(device)
            self.heads[device] = replace(head, weight=head.weight.detach().to(device), bias=bias)
        return self.heads[device]

    @torch.no_grad()
    def hidden(self, input_ids: Tensor, positions: Tensor | None) -> Tensor:
        """(B, L, Ht) on the teacher's device."""
        positions = positions if takes_positions(self.model) else None
        ids = input_ids.to(self.device, non_blocking=True)
        places = None if positions is None else positions.to(self.device, non_blocking=True)
        with adapters_off(self.model) if self.own else contextlib.nullcontext():
            return hidden_states(self.model, ids, places)


def read_teacher(
    folder: Path, vocabulary: Vocabulary, dtype: Dtype, device: Device, offload: bool, student_device: torch.device
) -> RunningTeacher:
    """Load a teacher where and how it is wanted.

    Args:
        folder: its model folder.
        vocabulary: its tokenizer's.
        dtype: of its weights and arithmetic.
        device: ``auto`` is the student's.
        offload: keep the weights in main memory and bring each layer to the device as it runs.
        student_device: where the student is.

    Raises:
        ModelError: it cannot be loaded, or its tokenizer does not belong to it.
        ConfigError: the device is not there.
    """
    where = student_device if device == "auto" else pick_device(device)
    model = load_model(folder, dtype=pick_dtype(dtype, where), device=torch.device("cpu")).requires_grad_(False)
    check_vocabulary_fits(model, vocabulary, folder)
    check_head(model, folder)
    teacher = RunningTeacher(model, where)
    if offload:
        teacher.head(student_device)  # before its weights are taken away
        _offload(model, where)
    else:
        move(model, where)
    return teacher


def _offload(model: PreTrainedModel, device: torch.device) -> None:
    from accelerate import cpu_offload

    cpu_offload(model, execution_device=device)


@contextlib.contextmanager
def adapters_off(model: PreTrainedModel) -> Iterator[None]:
    """The model as it is without its adapters (``peft``), and without dropout; afterwards as it was."""
    layers: list[Any] = [
        module for module in model.modules() if hasattr(module, "enable_adapters") and hasattr(module, "lora_A")
    ]
    was_training = model.training
    model.eval()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        model.train(was_training)


def has_adapters(model: PreTrainedModel) -> bool:
    """Whether there is anything to switch off."""
    return any(hasattr(module, "lora_A") for module in model.modules())


def reads_packed(teacher: RunningTeacher) -> bool:
    """Whether windows of one row can be told apart; an offloaded teacher is believed to do what most do."""
    if any(parameter.is_meta for parameter in teacher.model.parameters()):
        return takes_positions(teacher.model)
    return separates_documents(teacher.model)


@dataclass
class RunRows:
    """What a running teacher said of one batch, or hidden states from a cache: everything can be made of it.

    Attributes:
        states: (N, Ht) hidden states of all its rows, on the student's device.
        its_head: on the student's device.
        tables: of the two vocabularies.
    """

    states: Tensor
    its_head: Head
    tables: Tables
    kind: str = "online"

    def head(self) -> Head:
        """The head, without rows that stand for no token."""
        return replace(self.its_head, rows=min(self.its_head.num_rows, len(self.tables.teacher)))

    def hidden(self, rows: Tensor) -> Tensor:
        """(M, Ht) of some rows."""
        return self.states[rows]

    def observed(self, rows: ChunkRows) -> Observed:
        """What it gave to the text, and to the start of a word next."""
        head = self.head()
        starts = self.tables.word_starts("teacher", head.num_rows)
        return observed_log_probs(self.hidden(rows.positions), head, rows.labels, starts)

    def top(self, rows: Tensor) -> TopTargets:
        """Not asked for where hidden states are at hand."""
        raise NotImplementedError

    def sampled(self, rows: Tensor) -> SampledTargets:
        """Not asked for where hidden states are at hand."""
        raise NotImplementedError


def run_teacher(teacher: RunningTeacher, batch: TeacherBatch, tables: Tables, device: torch.device) -> RunRows:
    """One forward pass; of it only the hidden states are kept."""
    assert batch.input_ids is not None
    states = teacher.hidden(batch.input_ids, batch.positions).flatten(0, 1).to(device)
    return RunRows(states, teacher.head(device), tables)


def student_as_teacher(model: PreTrainedModel, device: torch.device) -> RunningTeacher:
    """The student's own base, adapters off: no second copy in memory.

    Raises:
        ConfigError: it has no adapters, so that it would teach itself what it already does.
    """
    if not has_adapters(model):
        raise ConfigError(
            "--teacher self is the student with its adapters off, but this student has none: train adapters (LoRA), or "
            "name the untouched model's folder as the teacher."
        )
    return RunningTeacher(model, device, own=True)


def check_teacher_context(wanted: int | None, context: int, limit: int | None, folder: Any) -> int:
    """Tokens in a sequence that a teacher of the same vocabulary can read.

    Args:
        wanted: what the configuration asks for, or None.
        context: of the student's sequences.
        limit: of the teacher, or None.
        folder: of the teacher.

    Raises:
        ModelError: the configuration asks for longer ones than the teacher can read.
    """
    if limit is None or context <= limit:
        return context
    if wanted is not None:
        raise ModelError(
            f"training.context is {wanted}, but the teacher {folder} was made for at most {limit} tokens: give "
            f"training.context={limit} or less."
        )
    return limit
