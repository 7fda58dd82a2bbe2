"""A run as a list of parts, each with its own parameters, learning rate and cosine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vocabalign.memory import keep_freed_memory
from vocabalign.models import context_length, move
from vocabalign.stages import DistillConfig, FinetuneConfig, TrainingOptions
from vocabalign.train.arguments import training_arguments
from vocabalign.train.checkpoints import last_complete, step_of
from vocabalign.train.data import Blocks, Documents, Fragment, say_epochs, tokenize
from vocabalign.train.head import embedding_rows, separates_documents, takes_positions
from vocabalign.train.rate_range import range_test, remember_rate, remembered_rate
from vocabalign.train.row_rates import RowRates, row_factors
from vocabalign.train.run import Run, Trainee, is_main, main_first, open_recorder, read_heldout, sequence_length
from vocabalign.train.spread import is_spread, put_together
from vocabalign.train.stage_loop import train_stage
from vocabalign.train.stage_switch import EndStage, has_stopped_paying, losses_of
from vocabalign.train.texts import HELDOUT, training_texts
from vocabalign.train.trainer import Objective

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

    from vocabalign.train.recorder import Recorder


logger = logging.getLogger("vocabalign")
SCORED_WINDOW = 512


@dataclass(frozen=True)
class Part:
    """A part of a run.

    Attributes:
        name: for the log; also the folder of its checkpoints.
        steps: optimizer steps.
        learning_rate: peak; ``auto`` for a range test.
        select: says which parameters are trained.
        ends_early: end it when it has stopped paying; what is left of its steps goes to the next part. Its learning
            rate then stays at the peak, since nobody knows where the end is.
        rows_factor: embedding and head rows are trained with this multiple of the rate.
        rare_power: rows that a step seldom uses with less, see ``row_rates``.
    """

    name: str
    steps: int
    learning_rate: float | Literal["auto"]
    select: Callable[[PreTrainedModel], list[str]]
    ends_early: bool = False
    rows_factor: float = 1.0
    rare_power: float = 0.0


Extend = Callable[[Documents], Callable[[list[list[Fragment]]], dict[str, Any]]]


def read_blocks(
    config: FinetuneConfig | DistillConfig, run: Run, trainee: Trainee, context: int, extend: Extend | None = None
) -> Blocks:
    """The training text of a run, tokenised once into its work folder.

    ``extend`` makes from the documents what ``Blocks`` calls to add more tensors to a batch.

    Raises:
        CorpusError: no text, or less than one sequence.
    """
    with main_first():
        texts = training_texts(
            config.corpus, config.training, trainee.vocabulary, run.work / HELDOUT, apart=config.heldout
        )
        documents = tokenize(texts, trainee.vocabulary, run.work, "text")
    if is_main() and not separates_documents(trainee.model):
        logger.warning(
            "%s does not keep the documents of a sequence apart by their positions: each also sees the ones before it.",
            type(trainee.model).__name__,
        )
    more = None if extend is None else extend(documents)
    return Blocks(documents, context, config.seed, positions=takes_positions(trainee.model), extend=more)


def train_parts(
    config: FinetuneConfig | DistillConfig,
    run: Run,
    trainee: Trainee,
    blocks: Blocks,
    parts: Sequence[Part],
    make_objective: Callable[[torch.device], Objective],
    more_callbacks: Callable[[Recorder, int], Sequence[TrainerCallback]] = lambda recorder, first_epoch: (),
) -> None:
    """Train the parts one after another, going on where an interrupted run stopped.

    Scores on held-out text before and after, loss and speed go into ``run.metrics``. ``more_callbacks`` gets what
    records the run and the number of steps that read no text twice.
    """
    keep_freed_memory()
    options, model = config.training, trainee.model
    parts = [part for part in parts if part.steps]
    total = sum(part.steps for part in parts)
    heldout = read_heldout(config, run, trainee.vocabulary, _scoring_window(model, blocks.context))
    recorder = open_recorder(config, run, heldout)
    done = [step_of(last_complete(run.work / part.name)) for part in parts]
    started = max((i for i, steps in enumerate(done) if steps), default=0)
    recorder.keep_until(sum(done[: started + 1]))
    speeds: list[float] = []
    first_step = sequences = 0
    for number, part in enumerate(parts):
        steps = total - first_step if number + 1 == len(parts) else part.steps
        over = number < started or has_stopped_paying(losses_of(recorder, part.name))
        if part.ends_early and done[number] and over:
            steps = done[number]  # the stage ended there
        arguments = training_arguments(
            run.work / part.name,
            options,
            steps=steps,
            learning_rate=1.0 if part.learning_rate == "auto" else part.learning_rate,
            seed=config.seed,
            device=config.device,
            dtype=config.dtype,
            extra=dict(config.trainer),
        )
        if number == 0:
            sequences = total * options.batch_size * options.accumulation * arguments.world_size
            say_epochs(blocks, sequences, options.max_epochs)
            move(model, arguments.device)
            recorder.score(model, 0)
            objective = make_objective(arguments.device)
            per_step = options.batch_size * options.accumulation * arguments.world_size
            more = more_callbacks(recorder, blocks.blocks_per_epoch // per_step)
        part.select(model)
        if part.learning_rate == "auto":
            arguments.learning_rate = _tested_rate(run, part, model, objective, blocks, options, arguments, first_step)
        speed = train_stage(
            model,
            objective,
            blocks,
            options.model_copy(update={"schedule": "constant"}) if part.ends_early else options,
            arguments,
            recorder,
            name=part.name,
            first_step=first_step,
            callbacks=[
                *([EndStage(recorder, part.name)] if part.ends_early else []),
                *_row_rates(part, model, blocks, options, arguments),
                *more,
            ],
        )
        if is_spread(model):
            trainee.model = model = put_together(model, arguments.device)
        speeds.append(speed)
        first_step += step_of(last_complete(run.work / part.name))  # an end may come early
        if part.ends_early and is_main():
            run.metrics[f"{part.name}_steps"] = first_step
    run.metrics.update(
        steps=total,
        tokens=sequences * blocks.context,
        epochs=round(sequences / blocks.blocks_per_epoch, 3),
        final_loss=recorder.last("loss"),
        tokens_per_second=round(max(speeds), 1),
    )
    if heldout is not None:
        run.metrics["heldout_bits_per_byte_before"] = recorder.score(model, 0)
        run.metrics["heldout_bits_per_byte"] = recorder.score(model, first_step)
    run.metrics.update(recorder.summary())
    recorder.close()


def _row_rates(
    part: Part, model: PreTrainedModel, blocks: Blocks, options: TrainingOptions, arguments: TrainingArguments
) -> list[RowRates]:
    """What gives single rows their own rates, where the part asks for that."""
    if part.rows_factor == 1 and not part.rare_power:
        return []
    tokens = options.batch_size * options.accumulation * arguments.world_size * blocks.context
    count = len(embedding_rows(model))
    return [RowRates(row_factors(blocks, tokens, count, part.rows_factor, part.rare_power))]


def _tested_rate(
    run: Run,
    part: Part,
    model: PreTrainedModel,
    objective: Objective,
    blocks: Blocks,
    options: TrainingOptions,
    arguments: TrainingArguments,
    first_step: int,
) -> float:
    """The learning rate of a range test before the part; done once in a run, on the model as the part finds it."""
    with main_first():
        rate = remembered_rate(run.work, part.name)
        if rate is None:
            rate = range_test(
                model,
                objective,
                blocks,
                options,
                first_batch=first_step * options.accumulation * arguments.world_size,
                device=arguments.device,
                bfloat16=arguments.bf16,
            )
            remember_rate(run.work, part.name, rate)
    run.metrics[f"{part.name}_learning_rate"] = rate
    return rate


def _scoring_window(model: PreTrainedModel, context: int) -> int:
    """Tokens in a window of held-out text: as ``evaluate`` has them, however short the sequences of training are."""
    return max(context, min(SCORED_WINDOW, context_length(model) or context))


def context_of(config: FinetuneConfig | DistillConfig, trainee: Trainee) -> int:
    """Tokens in a training sequence of this run."""
    return sequence_length(config.training, trainee.model, trainee.folder)
