"""Distillation: a student learns from the next-token distributions of its teachers, whatever their tokenizers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch

from vocabalign.errors import ConfigError, ModelError
from vocabalign.models import context_length, load_model, pick_device, pick_dtype, resolve
from vocabalign.stages import DistillCacheConfig, DistillConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train import caches
from vocabalign.train.adapters import SELECTIONS, put_adapters
from vocabalign.train.arguments import check_options
from vocabalign.train.cache_reading import TargetCache
from vocabalign.train.difference_sampling import choose_documents
from vocabalign.train.distill_sources import Source, check_config, is_server, is_unified, read_sources
from vocabalign.train.lesson_plan import LessonPlan, cache_folder, make_plan, say_alignment, with_cache
from vocabalign.train.lesson_sides import make_extend
from vocabalign.train.loss_choice import SENTENCE, TOKEN, weight_of
from vocabalign.train.objectives import cross_entropy
from vocabalign.train.on_policy import Listener, OnPolicy
from vocabalign.train.output import write_model
from vocabalign.train.run import Run, Trainee, is_main, main_first, open_run, read_trainee
from vocabalign.train.schedule import Extend, Part, context_of, read_blocks, train_parts
from vocabalign.train.sentence_level import write_corpus
from vocabalign.train.teacher_calibration import calibrate
from vocabalign.train.teacher_check import check_teachers
from vocabalign.train.teachers import RunningTeacher, check_teacher_context, read_teacher
from vocabalign.train.trainer import Objective
from vocabalign.train.unified import Distillation

logger = logging.getLogger("vocabalign")


def run(config: DistillConfig) -> Path:
    """Train a student on its own text and on what its teachers say of it.

    With ``distillation_weight`` 0 no teacher is run and the rest is the same, step by step and batch by batch: the
    control that tells what the teacher added.

    Returns:
        The folder written.

    Raises:
        ConfigError: options that cannot be used, or not together.
        ModelError: a folder is no model, or the vocabularies differ where one is needed.
        ArtifactError: a cache that is broken, or of another teacher or text.
        ServerError: a server that does not answer, or answers nonsense.
        CorpusError: no text, or less than one sequence.
        TrainingError: the loss is not finite, or no space is left for a checkpoint.

    Reference:
        Li et al. (2026), TokAlign++, Table 3 (cross-entropy plus divergence over the whole vocabulary).
    """
    check_options(config.dtype, dict(config.trainer), config.training.optimizer, config.train)
    check_config(config)
    trainee = read_trainee(config.student)
    if config.train == "lora":
        put_adapters(trainee.model, config.lora, config.seed)
    sources = _read_all(config, trainee)
    unified = is_unified(config, sources) and not config.on_policy.share
    context = context_of(config, trainee)
    if unified:
        context = _clip_context(config, context, sources[0])
    with open_run(config, "distill") as run:
        if config.distillation_weight == 0:
            _train(config, run, trainee, context, lambda _: cross_entropy)
        elif config.loss == SENTENCE:
            _sentences(config, run, trainee, context, sources[0])
        elif unified:
            _unified(config, run, trainee, context, sources[0])
        else:
            _aligned(config, run, trainee, context, _answered(config, run, sources))
        write_model(run, trainee, config.out.name, [_describe(config, trainee, sources)], config.corpus)
    return Path(config.out)


def _read_all(config: DistillConfig, trainee: Trainee) -> list[Source]:
    """Teachers that are here; of a server nothing but its name is known yet."""
    if config.cache is None and any(map(is_server, config.teachers)):
        if len(config.teachers) > 1:
            raise ConfigError("A server teaches alone: leave the other teachers out, or the server.")
        return [Source(config.teachers[0], trainee.vocabulary, "log-probs", 1.0, False)]
    return read_sources(config, trainee)


def _answered(config: DistillConfig, run: Run, sources: Sequence[Source]) -> list[Source]:
    """A server is asked once for the whole text; an interrupted run asks for the rest."""
    if not is_server(sources[0].name) or sources[0].cache is not None:
        return list(sources)
    folder = cache_folder(run)
    with main_first():
        if is_main() and not folder.exists():
            caches.run(
                DistillCacheConfig(
                    teacher=sources[0].name, corpus=config.corpus, out=folder, server=config.server, seed=config.seed
                )
            )
    return [with_cache(sources[0], TargetCache(folder))]


def _unified(config: DistillConfig, run: Run, trainee: Trainee, context: int, source: Source) -> None:
    """One teacher that reads the student's own tokens: both losses in one pass over the student's logits."""
    teacher = _read_teacher(config, source)
    _check(config, run, trainee, [source], [teacher])
    _calibrate(config, run, [source], [teacher])
    run.metrics["loss"] = ["token (every id means the same on both sides)"]
    config = _chosen(config, run, trainee, source, teacher)

    def objective(device: torch.device) -> Objective:
        weight = weight_of(config.distillation_weight, [TOKEN])
        return Distillation(teacher, config.divergence, weight, config.temperature, len(trainee.vocabulary))

    _train(config, run, trainee, context, objective)


def _aligned(config: DistillConfig, run: Run, trainee: Trainee, context: int, sources: Sequence[Source]) -> None:
    plan = make_plan(config, run, trainee, sources)
    _check(config, run, trainee, sources, plan.running)
    _calibrate(config, run, sources, plan.running)
    chosen = _chosen(config, run, trainee, sources[0], plan.running[0])
    plan.config = chosen
    extend = make_extend(plan, run, trainee, context)
    _train(chosen, run, trainee, context, lambda device: _objective(plan, trainee, device), extend)
    for line in say_alignment(plan) if is_main() else ():
        logger.warning("%s", line)


def _objective(plan: LessonPlan, trainee: Trainee, device: torch.device) -> Objective:
    aligned = plan.objective(device)
    if not plan.config.on_policy.share:
        return aligned
    listeners = [Listener(taught, side.teacher_context, side.packed) for taught, side in zip(plan.taught, plan.sides)]
    return OnPolicy(aligned, listeners, plan.config.on_policy, trainee.vocabulary, plan.config.seed)


def _sentences(config: DistillConfig, run: Run, trainee: Trainee, context: int, source: Source) -> None:
    """The student trains on what the teacher writes."""
    options = config.training
    teacher = _read_teacher(config, source)
    _check(config, run, trainee, [source], [teacher])
    _calibrate(config, run, [source], [teacher])
    run.metrics["loss"] = ["sentence (as configured)"]
    tokens = config.sentence.tokens or options.steps * options.batch_size * options.accumulation * context
    with main_first():
        written = write_corpus(config, run.work, teacher, source.vocabulary, tokens)
    own = config.training.model_copy(update={"heldout_share": 0.0, "domain_weights": {}, "language_weights": {}})
    config = config.model_copy(update={"corpus": [str(written)], "training": own})
    _train(config, run, trainee, context, lambda _: cross_entropy)


def _train(
    config: DistillConfig,
    run: Run,
    trainee: Trainee,
    context: int,
    objective: Callable[[torch.device], Objective],
    extend: Extend | None = None,
) -> None:
    blocks = read_blocks(config, run, trainee, context, extend)
    parts = [Part("everything", config.training.steps, config.learning_rate, SELECTIONS[config.train])]
    train_parts(config, run, trainee, blocks, parts, objective)


def _read_teacher(config: DistillConfig, source: Source) -> RunningTeacher:
    assert source.folder is not None
    device = pick_device(config.device)
    dtype = config.teacher_dtype or config.dtype
    return read_teacher(source.folder, source.vocabulary, dtype, config.teacher_device, config.teacher_offload, device)


def _check(
    config: DistillConfig,
    run: Run,
    trainee: Trainee,
    sources: Sequence[Source],
    running: Sequence[RunningTeacher | None],
) -> None:
    if config.check_teacher and is_main():
        run.metrics.update(check_teachers(config, trainee, sources, running))


def _calibrate(
    config: DistillConfig, run: Run, sources: Sequence[Source], running: Sequence[RunningTeacher | None]
) -> None:
    """Every rank by itself: the sample is the same on all. A cache is what it was made to be."""
    if not config.calibrate_teacher:
        return
    for source, teacher in zip(sources, running):
        if source.cache is not None and is_main():
            source.cache.say_calibration()
        if teacher is not None and not teacher.own:
            device = pick_device(config.device)
            moved = calibrate(config.corpus, config.training, teacher, source.vocabulary, device)
            run.metrics.setdefault("teacher_calibration", []).append(moved)


def _chosen(
    config: DistillConfig, run: Run, trainee: Trainee, source: Source, teacher: RunningTeacher | None
) -> DistillConfig:
    """The configuration with the corpus that difference sampling leaves."""
    if config.difference_sampling.keep == 1:
        return config
    if teacher is None:
        raise ModelError("difference_sampling scores documents with a teacher that is run here: leave the cache out.")
    reference = (trainee.model, trainee.vocabulary)
    if config.difference_sampling.reference is not None:
        folder = resolve(config.difference_sampling.reference)
        device = pick_device(config.device)
        model = load_model(folder, dtype=pick_dtype(config.dtype, device), device=device)
        reference = (model, load_vocabulary(folder))
    with main_first():
        path = choose_documents(config, run.work, (teacher.model, source.vocabulary), reference, trainee.vocabulary)
    own = config.training.model_copy(update={"heldout_share": 0.0, "domain_weights": {}, "language_weights": {}})
    return config.model_copy(update={"corpus": [str(path)], "training": own})


def _describe(config: DistillConfig, trainee: Trainee, sources: Sequence[Source]) -> str:
    names = " and ".join(f"`{Path(source.name).name}`" for source in sources)
    if config.distillation_weight == 0:
        return f"Trained by vocabalign from `{trainee.folder.name}` without a teacher: a distillation's control."
    return f"Distilled by vocabalign from {names} into `{trainee.folder.name}`."


def _clip_context(config: DistillConfig, context: int, source: Source) -> int:
    """Sequences no longer than the teacher can read; the control clips alike, to see the same blocks.

    Raises:
        ModelError: the configuration asks for longer ones, or the teacher cannot be read.
    """
    from transformers import AutoConfig

    assert source.folder is not None
    try:
        settings = AutoConfig.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{source.folder} cannot be read as a model: {' '.join(str(error).split())[:300]}") from error
    limit = context_length(SimpleNamespace(config=settings))  # type: ignore[arg-type]
    clipped = check_teacher_context(config.training.context, context, limit, source.folder)
    if clipped < context:
        logger.warning("The teacher was made for %d tokens: sequences are cut to that.", clipped)
    return clipped
