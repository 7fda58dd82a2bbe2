"""The teachers' sides of the training text: their tokens, or rows of a cache, for each of the student's documents."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from vocabalign.models import context_length
from vocabalign.stages import DistillConfig
from vocabalign.text.alignment import Cut
from vocabalign.text.roles import SPECIAL, role_bit
from vocabalign.train.cache_reading import TargetCache
from vocabalign.train.cross_tokenizer import Taught, TeacherSides
from vocabalign.train.data import Documents, tokenize
from vocabalign.train.distill_sources import Source
from vocabalign.train.lesson_plan import LessonPlan
from vocabalign.train.run import Run, Trainee, is_main, main_first
from vocabalign.train.teacher_side import OwnTokens, TeacherSide
from vocabalign.train.teachers import reads_packed
from vocabalign.train.text_store import TextStore, store_texts
from vocabalign.train.texts import training_texts

logger = logging.getLogger("vocabalign")


def make_extend(plan: LessonPlan, run: Run, trainee: Trainee, context: int) -> Callable[[Documents], TeacherSides]:
    """What ``read_blocks`` calls with the student's documents.

    Raises:
        ArtifactError: a cache that does not have these documents.
    """

    def extend(documents: Documents) -> TeacherSides:
        config = plan.config
        store = _store(config, run, trainee, "student")
        for number, (source, taught) in enumerate(zip(plan.sources, plan.taught)):
            plan.sides.append(_side(plan, run, trainee, source, taught, number, documents, store, context))
        return TeacherSides(plan.sides)

    return extend


def _store(config: DistillConfig, run: Run, trainee: Trainee, name: str) -> TextStore:
    with main_first():
        return store_texts(
            training_texts(config.corpus, config.training, trainee.vocabulary, apart=config.heldout), run.work, name
        )


def _side(
    plan: LessonPlan,
    run: Run,
    trainee: Trainee,
    source: Source,
    taught: Taught,
    number: int,
    documents: Documents,
    store: TextStore,
    context: int,
) -> TeacherSide:
    config, cache, model = plan.config, source.cache, plan.running[number]
    chat = documents.unscored is not None
    options: dict[str, Any] = {"text_of": None if chat else store.__getitem__}
    if cache is not None and cache.from_server:
        rows = cache.rows_of(store)
        cuts = _ServerCuts(cache, store)
        return TeacherSide(
            documents, trainee.vocabulary, None, trainee.vocabulary, context, taught.prepare(),
            row_of=_row_of(rows), cut_of_teacher=cuts, **options,
        )  # fmt: skip
    with main_first():
        texts = training_texts(config.corpus, config.training, source.vocabulary, apart=config.heldout)
        theirs = OwnTokens(tokenize(texts, source.vocabulary, run.work, f"teacher-{number}"))
    if cache is not None:
        named = store
        if chat:  # each side's template writes another text
            with main_first():
                texts = training_texts(config.corpus, config.training, source.vocabulary, apart=config.heldout)
                named = store_texts(texts, run.work, f"teacher-{number}-texts")
        options["row_of"] = _row_of(cache.rows_of(named))
    elif model is not None:
        limit = context_length(model.model)
        options |= {"teacher_context": limit, "packed": reads_packed(model)}
        if limit is not None and limit < context and is_main():
            logger.warning(
                "The teacher %s was made for %d tokens and the student's sequences have %d: it reads them in windows "
                "that overlap by half, with less before each token than the student has.",
                source.name, limit, context,
            )  # fmt: skip
    return TeacherSide(documents, trainee.vocabulary, theirs, source.vocabulary, context, taught.prepare(), **options)


def _row_of(rows: np.ndarray) -> Callable[[int], int | None]:
    return lambda document: int(rows[document]) if rows[document] >= 0 else None


class _ServerCuts:
    """Where a server's tokens end in a document."""

    def __init__(self, cache: TargetCache, store: TextStore) -> None:
        self.cache, self.store = cache, store

    def __call__(self, document: int) -> Cut | None:
        ends = self.cache.ends_of(self.store[document])
        if not len(ends):
            return None
        masks = np.zeros(len(ends), dtype=np.uint32)
        if ends[0] == 0:  # something without bytes stood before the first token
            masks[0] = SPECIAL | role_bit("bos")
        return Cut(ends, masks)
