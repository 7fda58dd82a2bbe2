"""Whether a teacher is the better of the two: both are scored on the same text before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from vocabalign.errors import CorpusError
from vocabalign.models import context_length
from vocabalign.stages import DistillConfig
from vocabalign.text.corpus import read_texts
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.distill_sources import Source
from vocabalign.train.heldout import HeldOut
from vocabalign.train.run import Trainee
from vocabalign.train.teachers import RunningTeacher, adapters_off
from vocabalign.train.texts import training_texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger("vocabalign")
SAMPLE_BYTES, WINDOW = 40_000, 512


def sample_texts(config: DistillConfig, vocabulary: Vocabulary) -> list[str]:
    """Some held-out documents, or where none are named some of the corpus."""
    if config.heldout:
        return list(read_texts(config.heldout, SAMPLE_BYTES))
    texts, size = [], 0
    for item in islice(training_texts(config.corpus, config.training, vocabulary, apart=config.heldout), 10_000):
        if item.scored is None:
            texts.append(item.text[: SAMPLE_BYTES - size])
            size += len(texts[-1])
        if size >= SAMPLE_BYTES:
            break
    return texts


def score(model: PreTrainedModel, vocabulary: Vocabulary, texts: Sequence[str], batch_size: int) -> float | None:
    """Bits per byte; None where a text is empty for it."""
    window = min(WINDOW, context_length(model) or WINDOW)
    try:
        return HeldOut(texts, vocabulary, window, batch_size).bits_per_byte(model)
    except CorpusError:
        return None


def check_teachers(
    config: DistillConfig, trainee: Trainee, sources: Sequence[Source], running: Sequence[RunningTeacher | None]
) -> dict[str, Any]:
    """Score the student and every teacher that is run, and warn of those that are worse.

    Returns:
        The scores, for the manifest; empty where nothing could be scored.
    """
    texts = sample_texts(config, trainee.vocabulary)
    size = config.training.batch_size
    mine = score(trainee.model, trainee.vocabulary, texts, size) if texts else None
    if mine is None:
        return {}
    found = {"student_bits_per_byte_before": round(mine, 4)}
    for number, (source, teacher) in enumerate(zip(sources, running)):
        if teacher is None or (teacher.own and teacher.model is not trainee.model):
            continue
        if teacher.own:
            with adapters_off(teacher.model):
                theirs = score(teacher.model, source.vocabulary, texts, size)
        else:
            theirs = score(teacher.model, source.vocabulary, texts, size)
        if theirs is None:
            continue
        name = "teacher_bits_per_byte" if len(sources) == 1 else f"teacher_{number}_bits_per_byte"
        found[name] = round(theirs, 4)
        if theirs > mine and config.distillation_weight != 0:
            logger.warning(
                "The teacher %s is worse than the student: %.4f bits per byte against %.4f on %s. The student will be "
                "taught to be worse; take a better teacher, or train directly (distillation_weight=0).",
                source.name,
                theirs,
                mine,
                "held-out text" if config.heldout else "a sample of the corpus",
            )
    return found
