"""From the teachers of a run to its objective: their sides of the text, their losses, the models in their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from safetensors import safe_open

from vocabalign.errors import ConfigError, TrainingError
from vocabalign.losses.logits import Head
from vocabalign.models import pick_device
from vocabalign.stages import DistillConfig
from vocabalign.text.corpus import Document, read_documents
from vocabalign.train.cache_reading import HEAD, CachedRows, TargetCache
from vocabalign.train.coverage import Coverage, measure_coverage
from vocabalign.train.cross_tokenizer import AlignedDistillation, Say, Taught
from vocabalign.train.distill_sources import Source, choose, warn_of_looks
from vocabalign.train.lesson_tables import Tables
from vocabalign.train.loss_choice import weight_of
from vocabalign.train.run import Run, Trainee, is_main
from vocabalign.train.teacher_side import TeacherSide
from vocabalign.train.teachers import (
    RunningTeacher,
    RunRows,
    read_teacher,
    run_teacher,
    student_as_teacher,
)

SAMPLE_DOCUMENTS = 400
LEAST_TEXTS = 0.5


@dataclass
class LessonPlan:
    """Teachers of a run with their losses chosen; models are loaded, tables are made when the device is known.

    Attributes:
        config: of the stage.
        taught: one entry for each source.
        running: the model of each source that is run.
        sides: of the text; there once ``extend`` was called.
    """

    config: DistillConfig
    sources: Sequence[Source]
    taught: list[Taught]
    running: list[RunningTeacher | None]
    sides: list[TeacherSide]

    def objective(self, device: torch.device) -> AlignedDistillation:
        """The loss, with everything on ``device``."""
        for taught in self.taught:
            taught.tables.device = device
        config = self.config
        weight = weight_of(config.distillation_weight, (name for taught in self.taught for name, _ in taught.terms))
        return AlignedDistillation(self.taught, weight, config.divergence, config.temperature)


def make_plan(config: DistillConfig, run: Run, trainee: Trainee, sources: Sequence[Source]) -> LessonPlan:
    """Choose the losses and read the teachers.

    Raises:
        ConfigError: a loss for which something is missing.
        ModelError: a teacher cannot be read.
        TrainingError: the texts of the two sides are not the same.
    """
    device = pick_device(config.device)
    taught, running = [], []
    for source in sources:
        if is_main():
            warn_of_looks(trainee, source)
        coverage = _coverage(config, run, trainee, source)
        choice = choose(config, source, coverage)
        run.metrics.setdefault("loss", []).append(f"{choice} ({choice.reason})")
        if source.cache is not None:
            source.cache.check_temperature(config.temperature)
        model = None if source.cache is not None else _model(config, trainee, source, device)
        if any(name == "hidden" for name, _ in choice.terms):
            _check_sizes(trainee, source, model)
        tables = Tables(
            trainee.vocabulary, source.vocabulary, device, one_vocabulary=source.one_vocabulary, lexicon=config.lexicon
        )
        taught.append(Taught(source.share, choice.terms, coverage, tables, _say(source, model)))
        running.append(model)
    return LessonPlan(config, sources, taught, running, [])


def _coverage(config: DistillConfig, run: Run, trainee: Trainee, source: Source) -> Coverage:
    """Of the first documents of the training text; of conversations the answers."""
    documents = islice(read_documents(config.corpus, weighted=True), SAMPLE_DOCUMENTS)
    found = measure_coverage(trainee.vocabulary, source.vocabulary, (text for d in documents for text in _learned(d)))
    if found.texts + found.texts_refused and found.texts_share < LEAST_TEXTS:
        raise TrainingError(
            f"{found.texts_refused} of {found.texts + found.texts_refused} texts are not the same bytes for the "
            f"student's tokenizer and {source.name}'s: one of them changes the text (see 'vocabalign inspect'), so "
            "they cannot be lined up; take another teacher or text."
        )
    return found


def _learned(document: Document) -> list[str]:
    """What of a document is to be predicted."""
    if document.messages is None:
        return [document.text]
    return [content for role, content in document.messages if role == "assistant" and content]


def _model(config: DistillConfig, trainee: Trainee, source: Source, device: torch.device) -> RunningTeacher:
    # Without its adapters the student is the model in its folder: no second copy of it.
    if source.folder is None or (config.train == "lora" and source.folder == trainee.folder):
        return student_as_teacher(trainee.model, device)
    dtype = config.teacher_dtype or config.dtype
    return read_teacher(source.folder, source.vocabulary, dtype, config.teacher_device, config.teacher_offload, device)


def _check_sizes(trainee: Trainee, source: Source, model: RunningTeacher | None) -> None:
    mine = trainee.model.config.get_text_config().hidden_size
    if model is not None:
        theirs = model.model.config.get_text_config().hidden_size
    else:
        assert source.cache is not None
        theirs = source.cache.shards[0]["states"].shape[1]
    if mine != theirs:
        raise ConfigError(
            f"The loss 'hidden' compares hidden states of one size, but the student's have {mine} numbers and "
            f"{source.name}'s {theirs}: take another loss, such as event+chunks."
        )


def _say(source: Source, model: RunningTeacher | None) -> Say:
    """What gives the losses their rows."""
    if model is not None:
        return lambda batch, tables, device: run_teacher(model, batch, tables, device)
    cache = source.cache
    assert cache is not None
    if cache.kind != "hidden":
        return lambda _, __, device: CachedRows(cache, device)
    return lambda _, tables, device: _CachedStates(CachedRows(cache, device), _cached_head(cache, device), tables)


class _CachedStates(RunRows):
    """Hidden states that are read from a cache as they are asked for."""

    def __init__(self, rows: CachedRows, head: Head, tables: Tables) -> None:
        super().__init__(torch.empty(0), head, tables, "hidden")
        self.rows = rows

    def hidden(self, rows: torch.Tensor) -> torch.Tensor:
        """(N, Ht)."""
        return self.rows.hidden(rows)


def _cached_head(cache: TargetCache, device: torch.device) -> Head:
    with safe_open(cache.folder / HEAD, "pt", device=str(device)) as file:
        numbers = file.metadata()
        bias = file.get_tensor("bias").float() if "bias" in file.keys() else None
        softcap = float(numbers["softcap"]) if numbers["softcap"] else None
        return Head(file.get_tensor("weight").float(), bias, float(numbers["scale"]), softcap)


def say_alignment(plan: LessonPlan) -> Iterator[str]:
    """What was lined up during training, for the log."""
    for source, side in zip(plan.sources, plan.sides):
        tally = side.tally
        if tally.texts_refused:
            yield (
                f"{source.name}: {tally.texts_refused} of {tally.texts + tally.texts_refused} documents are not the "
                "same bytes for both tokenizers and taught nothing."
            )


def with_cache(source: Source, cache: TargetCache) -> Source:
    """A server whose answers are all there."""
    return replace(source, cache=cache, kind=cache.kind)


def cache_folder(run: Run) -> Path:
    """Where a run keeps the answers of a server."""
    return run.work / "server-answers"
