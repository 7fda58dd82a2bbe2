"""Token-level distillation between models of one vocabulary."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

from vocabalign.errors import ModelError
from vocabalign.models import context_length, load_model, move, pick_device, pick_dtype, read_model_config, resolve
from vocabalign.stages import DistillConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.arguments import check_options
from vocabalign.train.head import check_head, check_vocabulary_fits, train_everything
from vocabalign.train.objectives import Distillation, cross_entropy
from vocabalign.train.output import write_model
from vocabalign.train.run import Trainee, open_run, read_trainee
from vocabalign.train.schedule import Part, context_of, read_blocks, train_parts
from vocabalign.train.trainer import Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger("vocabalign")


def run(config: DistillConfig) -> Path:
    """Train a student on its own text and on the teacher's distribution over the next token.

    With ``distillation_weight`` 0 the teacher is never run and the rest is the same, step by step and
    batch by batch: the control that tells what the teacher added.

    Returns:
        The folder written.

    Raises:
        ConfigError: an option that cannot be used.
        ModelError: the vocabularies differ, or a folder is no model.
        CorpusError: no text, or less than one sequence.
        TrainingError: the loss is not finite, or no space is left for a checkpoint.

    Reference:
        Li et al. (2026), TokAlign++, Table 3 (cross-entropy plus divergence over the whole vocabulary).
    """
    check_options(config.dtype, dict(config.trainer))
    trainee = read_trainee(config.student)
    teacher_folder = resolve(config.teacher)
    read_model_config(teacher_folder)  # also where the teacher is never run
    check_same_vocabulary(trainee.vocabulary, load_vocabulary(teacher_folder), trainee.folder, teacher_folder)
    device = pick_device(config.device)
    teacher = None
    context = context_of(config, trainee)
    if config.distillation_weight:
        teacher = load_model(teacher_folder, dtype=pick_dtype(config.dtype, device), device=torch.device("cpu"))
        check_vocabulary_fits(teacher, trainee.vocabulary, teacher_folder)
        check_head(teacher, teacher_folder)
    context = _clip_context(config, context, teacher_folder)
    with open_run(config, "distill") as run:
        blocks = read_blocks(config, run, trainee, context)
        parts = [Part("everything", config.training.steps, config.learning_rate, train_everything)]
        train_parts(config, run, trainee, blocks, parts, lambda place: _objective(config, teacher, trainee, place))
        how = f"Distilled by vocabalign from `{teacher_folder.name}` into `{trainee.folder.name}`."
        if teacher is None:
            how = f"Trained by vocabalign from `{trainee.folder.name}` without a teacher: a distillation's control."
        write_model(run, trainee, config.out.name, [how])
    return Path(config.out)


def _objective(
    config: DistillConfig, teacher: PreTrainedModel | None, trainee: Trainee, device: torch.device
) -> Objective:
    if teacher is None:
        return cross_entropy
    return Distillation(
        move(teacher, device).requires_grad_(False),
        config.divergence,
        config.distillation_weight,
        config.temperature,
        len(trainee.vocabulary),
    )


def check_same_vocabulary(student: Vocabulary, teacher: Vocabulary, student_folder: Path, teacher_folder: Path) -> None:
    """Refuse vocabularies whose ids mean different tokens; equal sizes prove nothing.

    Raises:
        ModelError: an id stands for other bytes, or for another special token.
    """
    if student.fingerprint == teacher.fingerprint:
        return
    pairs = zip(student.token_bytes, teacher.token_bytes, strict=False)
    differing = sum(a != b for a, b in pairs) + abs(len(student) - len(teacher))
    what = f"{differing:,} ids stand for other tokens" if differing else "their special tokens or raw forms differ"
    if not differing and student.roles == teacher.roles and student.special_ids == teacher.special_ids:
        return  # written differently, but every id means the same
    raise ModelError(
        f"{student_folder} has {len(student):,} tokens and {teacher_folder} {len(teacher):,}, and {what}: distillation "
        "token by token needs one vocabulary. Transplant the teacher's tokenizer into the student first "
        "(vocabalign transplant)."
    )


def _clip_context(config: DistillConfig, context: int, teacher_folder: Path) -> int:
    """Sequences no longer than the teacher can read; the control clips alike, to see the same blocks.

    Raises:
        ModelError: the configuration asks for longer ones, or the teacher cannot be read.
    """
    from transformers import AutoConfig

    try:
        settings = AutoConfig.from_pretrained(teacher_folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{teacher_folder} cannot be read as a model: {' '.join(str(error).split())[:300]}") from error
    limit = context_length(SimpleNamespace(config=settings))  # type: ignore[arg-type]
    if limit is None or context <= limit:
        return context
    if config.training.context is not None:
        raise ModelError(
            f"training.context is {context}, but the teacher {teacher_folder} was made for at most {limit} tokens: "
            f"give training.context={limit} or less."
        )
    logger.warning("The teacher was made for %d tokens: sequences are cut to that.", limit)
    return limit
