"""Progressive fine-tuning: first embedding and head rows alone, then all parameters.

After a transplant the body of the model is still good and the rows are not. Training everything at
once lets bad rows spoil the body; in the TokAlign papers two stages bear larger learning rates and
end better.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vocabalign.models import context_length, load_model, move, pick_device, pick_dtype, resolve
from vocabalign.stages import FinetuneConfig
from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.arguments import check_options
from vocabalign.train.data import Documents, tokenize
from vocabalign.train.head import check_vocabulary_fits, train_everything, train_only_rows
from vocabalign.train.objectives import cross_entropy
from vocabalign.train.output import write_model
from vocabalign.train.run import Run, Trainee, main_first, open_run, read_trainee
from vocabalign.train.schedule import Part, context_of, read_blocks, train_parts
from vocabalign.train.self_distillation import SelfDistillation, SourceSide, check_same_body

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def run(config: FinetuneConfig) -> Path:
    """Fine-tune a model in two parts and write it as an ordinary model folder.

    Killed at any moment, the same configuration goes on from the last checkpoint; on the CPU the
    weights are then those of an undisturbed run, bit for bit.

    Returns:
        The folder written.

    Raises:
        ConfigError: an option that cannot be used.
        ModelError: the folder is no model, or its tokenizer does not belong to it.
        CorpusError: no text, or less than one sequence.
        TrainingError: the loss is not finite, or no space is left for a checkpoint.

    Reference:
        Li et al. (2025), TokAlign, section 4.4.
    """
    check_options(config.dtype, dict(config.trainer))
    trainee = read_trainee(config.model)
    context = context_of(config, trainee)
    source = None if config.source is None else read_source(config, trainee)
    with open_run(config, "finetune") as run:
        if source is None:
            blocks = read_blocks(config, run, trainee, context)
            train_parts(config, run, trainee, blocks, _parts(config), lambda _: cross_entropy)
        else:
            other = source  # for the type checker: never None in the functions below
            blocks = read_blocks(
                config, run, trainee, context, lambda own: _source_side(config, run, trainee, own, other)
            )
            train_parts(
                config, run, trainee, blocks, _parts(config), lambda device: SelfDistillation(move(other[0], device))
            )
        write_model(run, trainee, config.out.name, [f"Fine-tuned by vocabalign from `{trainee.folder.name}`."])
    return Path(config.out)


def read_source(config: FinetuneConfig, trainee: Trainee) -> tuple[PreTrainedModel, Vocabulary]:
    """The untouched model and its tokenizer.

    Raises:
        ModelError: it cannot be the model before its transplant.
    """
    folder = resolve(str(config.source))
    vocabulary = load_vocabulary(folder)
    dtype = pick_dtype(config.dtype, pick_device(config.device))
    model = load_model(folder, dtype=dtype, device=torch.device("cpu")).requires_grad_(False)
    check_vocabulary_fits(model, vocabulary, folder)
    check_same_body(trainee.model, model, str(folder))
    return model, vocabulary


def _source_side(
    config: FinetuneConfig, run: Run, trainee: Trainee, own: Documents, source: tuple[PreTrainedModel, Vocabulary]
) -> SourceSide:
    model, vocabulary = source
    with main_first():
        documents = tokenize(read_texts(config.corpus), vocabulary, run.work, "source")
    context = context_of(config, trainee)
    return SourceSide(own, trainee.vocabulary, documents, vocabulary, context, context_length(model))


def _parts(config: FinetuneConfig) -> list[Part]:
    rows = round(config.training.steps * config.rows_share)
    return [
        Part("rows", rows, config.rows_learning_rate, train_only_rows),
        Part("everything", config.training.steps - rows, config.learning_rate, train_everything),
    ]
