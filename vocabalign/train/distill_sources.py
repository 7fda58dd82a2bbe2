"""What a run of distillation learns from: model folders, the student itself, a cache; and what each is good for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vocabalign.errors import ConfigError, ModelError
from vocabalign.models import read_model_config, resolve
from vocabalign.stages import DistillConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.cache_reading import TargetCache
from vocabalign.train.coverage import Coverage, same_ids
from vocabalign.train.loss_choice import AUTO, SENTENCE, TOKEN, LossChoice, check_known, choose_loss, parse_loss
from vocabalign.train.run import Trainee

logger = logging.getLogger("vocabalign")
SELF = "self"


@dataclass(frozen=True)
class Source:
    """One teacher of a run.

    Attributes:
        name: for people.
        vocabulary: of its tokenizer.
        kind: what of it is known; a key of ``loss_choice.LOSSES_OF_KIND``.
        share: of all teachers.
        one_vocabulary: every id means the same as the student's.
        folder: of a model that is run; None for ``self`` and for caches.
        cache: where nothing is run.
    """

    name: str
    vocabulary: Vocabulary
    kind: str
    share: float
    one_vocabulary: bool
    folder: Path | None = None
    cache: TargetCache | None = None


def is_server(reference: str) -> bool:
    """Whether a teacher is behind a URL."""
    return reference.startswith(("http://", "https://"))


def check_config(config: DistillConfig) -> None:
    """Refuse settings that contradict each other, before anything is loaded.

    Raises:
        ConfigError: no teacher and no cache, both with more than one teacher, weights of another number or none above
            zero, an unknown loss, or a loss of the teacher's distribution with an option that excludes it.
    """
    teachers, terms = config.teachers, parse_loss(config.loss)
    if not teachers and config.cache is None:
        raise ConfigError("There is no teacher: give --teacher, or --cache with targets that were made before.")
    if config.cache is not None and len(teachers) > 1:
        raise ConfigError("A cache holds the targets of one teacher: leave the other teachers out, or the cache.")
    weights = config.teacher_weights
    if weights and (len(weights) != len(teachers) or min(weights) < 0 or not sum(weights)):
        raise ConfigError(
            f"teacher_weights has {len(weights)} numbers for {len(teachers)} teachers: give one for each, none below 0 "
            "and not all 0."
        )
    sentence = terms and terms[0][0] == SENTENCE
    if sentence and (len(teachers) != 1 or config.cache is not None or is_server(teachers[0])):
        raise ConfigError(
            "The loss 'sentence' needs one teacher that can write here: a model folder, no cache or server."
        )
    if config.on_policy.share and (config.cache is not None or sentence or any(map(is_server, teachers))):
        raise ConfigError(
            "on_policy.share needs teachers that are run here, for the student's text is new at every step: leave out "
            "the cache, the server or the loss 'sentence', or set it to 0."
        )


def read_sources(config: DistillConfig, trainee: Trainee) -> list[Source]:
    """The teachers of a run and their vocabularies; no weights are read.

    Raises:
        ModelError, TokenizerError: a folder is no model, or its tokenizer cannot be loaded.
        ArtifactError: the cache is not whole, or of another teacher.
    """
    if config.cache is not None:
        return [_cached(config, trainee)]
    weights = config.teacher_weights or [1.0] * len(config.teachers)
    return [
        _running(reference, weight / sum(weights), trainee)
        for reference, weight in zip(config.teachers, weights, strict=True)
    ]


def _running(reference: str, share: float, trainee: Trainee) -> Source:
    if reference == SELF:
        return Source(SELF, trainee.vocabulary, "online", share, True)
    folder = resolve(reference)
    read_model_config(folder)  # also where the teacher is never run
    vocabulary = load_vocabulary(folder)
    return Source(str(folder), vocabulary, "online", share, same_ids(trainee.vocabulary, vocabulary), folder)


def _cached(config: DistillConfig, trainee: Trainee) -> Source:
    assert config.cache is not None
    cache = TargetCache(config.cache)
    if config.teachers and not is_server(config.teachers[0]):
        cache.check_teacher(resolve(config.teachers[0]))
    if cache.from_server:  # of its tokens only the bytes are known
        return Source(str(config.cache), trainee.vocabulary, cache.kind, 1.0, False, None, cache)
    one = same_ids(trainee.vocabulary, cache.vocabulary)
    return Source(str(config.cache), cache.vocabulary, cache.kind, 1.0, one, None, cache)


def is_unified(config: DistillConfig, sources: Sequence[Source]) -> bool:
    """Whether one teacher reads the student's own tokens, so that nothing need be lined up.

    Raises:
        ModelError: the loss ``token`` is asked for and the vocabularies differ.
    """
    terms = parse_loss(config.loss)
    if [name for name, _ in terms] == [TOKEN] or config.loss == AUTO:
        wanted = config.loss != AUTO
        for source in sources:
            if wanted and not source.one_vocabulary:
                raise ModelError(_difference(config.student, source))
        own = config.train == "lora" and config.student in config.teachers  # adapters off: it is run by itself
        return len(sources) == 1 and sources[0].one_vocabulary and sources[0].folder is not None and not own
    return False


def _difference(student: str, source: Source) -> str:
    return (
        f"{student} and {source.name} have other vocabularies, and the loss 'token' needs one: take --loss auto, or "
        "transplant the teacher's tokenizer into the student first (vocabalign transplant)."
    )


def warn_of_looks(trainee: Trainee, source: Source) -> None:
    """Say where two vocabularies have one size and are two nevertheless."""
    mine, theirs = trainee.vocabulary, source.vocabulary
    if theirs is mine:  # a server, whose vocabulary is not known
        return
    if source.one_vocabulary or len(mine) != len(theirs):
        return
    differ = sum(a != b for a, b in zip(mine.token_bytes, theirs.token_bytes))
    what = f"{differ:,} ids stand for other tokens" if differ else "their special tokens differ"
    logger.warning(
        "The student's and the teacher's vocabulary (%s) both have %s tokens, but %s: they are lined up by bytes, not "
        "by ids.",
        source.name,
        f"{len(mine):,}",
        what,
    )


def choose(config: DistillConfig, source: Source, coverage: Coverage) -> LossChoice:
    """The losses of one teacher, as configured or by coverage; the reason is logged.

    Raises:
        ConfigError: a configured loss that something is missing for.
    """
    terms = parse_loss(config.loss)
    lexicon = config.lexicon is not None
    if terms:
        check_known(terms, source.kind, source.one_vocabulary, lexicon)
        return LossChoice(terms, "as configured")
    choice = choose_loss(coverage, source.kind, lexicon=lexicon)
    logger.info("Loss for %s: %s, because %s.", source.name, choice, choice.reason)
    return choice
