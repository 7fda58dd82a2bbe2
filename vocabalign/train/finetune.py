"""Progressive fine-tuning: first embedding and head rows alone, then all parameters.

After a transplant the body of the model is still good and the rows are not. Training everything at
once lets bad rows spoil the body; in the TokAlign papers two stages bear larger learning rates and
end better.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vocabalign.errors import ConfigError
from vocabalign.models import context_length, load_model, move, pick_device, pick_dtype, resolve
from vocabalign.stages import FinetuneConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.arguments import check_options
from vocabalign.train.data import Documents, tokenize
from vocabalign.train.fading import FadeSource, Fading
from vocabalign.train.head import check_vocabulary_fits, read_head, takes_positions
from vocabalign.train.objectives import cross_entropy
from vocabalign.train.output import write_model
from vocabalign.train.recorder import Recorder
from vocabalign.train.replay import with_replay
from vocabalign.train.run import Run, Trainee, is_main, main_first, open_run, read_trainee
from vocabalign.train.schedule import Part, context_of, read_blocks, train_parts
from vocabalign.train.self_distillation import LEARNED, Lessons, SelfDistillation
from vocabalign.train.source_side import SourceSide
from vocabalign.train.texts import training_texts
from vocabalign.train.trainable import Select, selections
from vocabalign.train.untouched_source import check_same_body, choose_source

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger("vocabalign")
# Of the steps, where the first stage ends by itself.
LONGEST_ROWS_SHARE = 0.5


def run(config: FinetuneConfig) -> Path:
    """Fine-tune a model in two parts and write it as an ordinary model folder.

    Killed at any moment, the same configuration goes on from the last checkpoint; on the CPU the
    weights are then those of an undisturbed run, bit for bit.

    Returns:
        The folder written.

    Raises:
        ConfigError: an option that cannot be used.
        ModelError: the folder is no model, its tokenizer does not belong to it, or the source is not the one that was
            transplanted.
        CorpusError: no text, or less than one sequence.
        TrainingError: the loss is not finite, or no space is left for a checkpoint.

    Reference:
        two stages: Li et al. (2025), TokAlign, section 4.4; what is learned from the source is new here.
    """
    check_options(config.dtype, dict(config.trainer), config.training.optimizer, config.train)
    mixed = with_replay(config.corpus, config.replay, config.replay_share)
    source_folder = _source_folder(config)
    parts = _parts(config, selections(config, resolve(config.model)))
    trainee = read_trainee(config.model)
    context = context_of(config, trainee)
    source = None if source_folder is None else read_source(config, source_folder, trainee)
    reading = config.model_copy(update={"corpus": mixed})
    with open_run(config, "finetune") as run:
        if source is None:
            blocks = read_blocks(reading, run, trainee, context)
            train_parts(reading, run, trainee, blocks, parts, lambda _: cross_entropy)
        else:
            model, vocabulary = source
            run.metrics["learned_from"] = str(source_folder)
            rows = read_head(trainee.model).num_rows
            lessons = Lessons(trainee.vocabulary, vocabulary, rows)
            side = partial(_source_side, reading, run, trainee, model, vocabulary, lessons)
            blocks = read_blocks(reading, run, trainee, context, side)

            options, fading = config.self_distillation, Fading()

            def objective(device: torch.device) -> SelfDistillation:
                here = lessons if device.type == "cpu" else Lessons(trainee.vocabulary, vocabulary, rows, device)
                return SelfDistillation(move(model, device), here, options, fading)

            def fade(recorder: Recorder, first_epoch: int) -> list[FadeSource]:
                return [FadeSource(fading, recorder, options.fade_from, first_epoch)] if options.fades else []

            train_parts(reading, run, trainee, blocks, parts, objective, fade)
        done = f"Fine-tuned by vocabalign from `{trainee.folder.name}` in {config.training.steps:,} steps."
        write_model(run, trainee, config.out.name, [done], config.corpus)
    return Path(config.out)


def _source_folder(config: FinetuneConfig) -> Path | None:
    """The model to learn from, if any; told before anything is loaded.

    Raises:
        ConfigError: one is named and all that could be learned from it has the weight 0.
        ModelError: it is not the one that was transplanted.
    """
    options = config.self_distillation
    learns = options.enabled and any(getattr(options, name) for name in LEARNED)
    if config.source is not None and not learns:
        raise ConfigError(
            "A source is named, but self_distillation learns nothing from it: leave the source away, or set "
            "self_distillation.enabled and a weight."
        )
    if not learns:
        return None
    found = choose_source(config.source, resolve(config.model))
    if found is not None and is_main():
        logger.info("Learning from the untouched source %s as well.", found)
    return found


def read_source(config: FinetuneConfig, folder: Path, trainee: Trainee) -> tuple[PreTrainedModel, Vocabulary]:
    """The untouched model and its tokenizer.

    Raises:
        ModelError: it cannot be the model before its transplant.
    """
    vocabulary = load_vocabulary(folder)
    dtype = pick_dtype(config.dtype, pick_device(config.device))
    model = load_model(folder, dtype=dtype, device=torch.device("cpu")).requires_grad_(False)
    check_vocabulary_fits(model, vocabulary, folder)
    check_same_body(trainee.model, model, str(folder))
    return model, vocabulary


def _source_side(
    config: FinetuneConfig,
    run: Run,
    trainee: Trainee,
    source: PreTrainedModel,
    vocabulary: Vocabulary,
    lessons: Lessons,
    own: Documents,
) -> SourceSide:
    with main_first():
        # The same documents, as the trained model's chat template renders them.
        texts = training_texts(config.corpus, config.training, trainee.vocabulary, apart=config.heldout)
        documents = tokenize(texts, vocabulary, run.work, "source")
    options = config.self_distillation
    return SourceSide(
        own,
        trainee.vocabulary,
        documents,
        vocabulary,
        context_of(config, trainee),
        context_length(source),
        packed=takes_positions(source),
        continuations=lessons.continuations if options.continuations else None,
        chunks=bool(options.chunks),
        share=options.share,
    )


def _parts(config: FinetuneConfig, select: tuple[Select, Select]) -> list[Part]:
    first, second = select
    ends_early = config.rows_share == "auto"
    rows = round(config.training.steps * (LONGEST_ROWS_SHARE if ends_early else float(config.rows_share)))
    return [
        Part("rows", rows, config.rows_learning_rate, first, ends_early, rare_power=config.rare_rows_power),
        Part(
            "everything",
            config.training.steps - rows,
            config.learning_rate,
            second,
            rows_factor=config.rows_rate_factor,
            rare_power=config.rare_rows_power,
        ),
    ]
