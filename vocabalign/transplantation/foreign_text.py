"""A corpus of another domain than the model's: the model writes text of its own, and both are counted on.

Counts tell which of the tokens with a common first piece is meant. Where the model's own domain has a token that the
corpus never uses, they tell it wrongly, and calibrated rows are worse than others. So the text is measured
(``surprise``), and where it is of another domain the source model writes some of its own: what it is about. Counts of
both are added up so that neither outweighs the other, and rows are fitted to documents of both in turn.
Where writing would take too long, nothing is counted: the order of the target's ids is safer (``rank_shift``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.calibration import CorpusCounts, count_corpus
from vocabalign.transplantation.checkpoint import Checkpoint
from vocabalign.transplantation.own_text import write_texts
from vocabalign.transplantation.source_states import SourceStates, find_source_states

logger = logging.getLogger("vocabalign")

CORPUS, BOTH, NOTHING = "corpus", "corpus and own text", "nothing"
# The most tokens of the corpus for each of the model's own text.
CORPUS_SHARE = 1.0
# Uses of each family beside those counted: what a model writes is little and not quite its domain.
IMAGINED = 30.0
# Of own text; not more than the corpus has, unless that is less than this.
LEAST_TOKENS = 4_000


@dataclass(frozen=True)
class CountedText:
    """What rows are calibrated and fitted by.

    Attributes:
        counts: of both vocabularies; None where nothing is to be counted.
        states: of the source; None where it is not run.
        what: ``CORPUS``, ``BOTH``, or ``NOTHING``.
    """

    counts: CorpusCounts | None
    states: SourceStates | None
    what: str = CORPUS


@dataclass(frozen=True)
class WriteOwnText:
    """How the source writes text of its own.

    Attributes:
        allowed: where not, the corpus is counted on whatever it is.
        seed: of what is written.
        device: where the model runs.
        dtype: of its arithmetic.
    """

    allowed: bool
    seed: int
    device: torch.device
    dtype: torch.dtype


def text_to_count_on(
    checkpoint: Checkpoint,
    source: Vocabulary,
    target: Vocabulary,
    counts: CorpusCounts,
    states: SourceStates,
    write: WriteOwnText,
) -> CountedText:
    """The corpus, where it is of the model's domain; else what the model writes beside it, or nothing.

    Args:
        checkpoint: the source model.
        source: its vocabulary.
        target: the wanted one.
        counts: of the corpus.
        states: of the source on the corpus.
        write: how text of its own is written.

    Raises:
        ModelError: the model cannot be loaded.
    """
    surprise = states.surprise
    if surprise is None or not surprise.foreign:
        return CountedText(counts, states)
    told = "The corpus is of another domain than the model's (%.2f nats a token where it expects %.2f): %s"
    if not write.allowed:
        what = "it is counted on all the same, as own_text is off."
        logger.warning(told, surprise.found, surprise.expected, what)
        return CountedText(counts, states)
    most = max(LEAST_TOKENS, int(counts.source.sum()))
    texts = write_texts(checkpoint.folder, source, dtype=write.dtype, device=write.device, seed=write.seed, most=most)
    if not texts:
        what = "nothing is counted, as the model would take too long here to write text of its own. With own_text: "
        logger.warning(told, surprise.found, surprise.expected, what + "false the corpus is counted on all the same.")
        return CountedText(None, states, NOTHING)
    what = "the model has written text of its own, and rows are counted and fitted on both."
    logger.warning(told, surprise.found, surprise.expected, what)
    own = count_corpus(source, target, texts)
    read = find_source_states(checkpoint, source, replace(own, fitting=[]), write.device, write.dtype)
    if read is not None:
        text, everything = torch.cat([read.text, states.text]), torch.cat([read.text, states.everything])
        states = SourceStates(text, everything, surprise)
    return CountedText(counted_together(own, counts), states, BOTH)


def counted_together(own: CorpusCounts, corpus: CorpusCounts) -> CorpusCounts:
    """Counts of both, those of the corpus scaled down to as many tokens as the own text has; documents in turn."""
    scale = min(1.0, CORPUS_SHARE * float(own.target.sum()) / max(1.0, float(corpus.target.sum())))
    return CorpusCounts(
        own.source + scale * corpus.source,
        own.target + scale * corpus.target,
        [*own.sample, *corpus.sample],
        own.num_documents + corpus.num_documents,
        in_turn(own.fitting, corpus.fitting),
        IMAGINED,
    )


def in_turn(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Both lists in one, each in its order, so that of every beginning about half of the bytes are of either."""
    places = [np.cumsum([len(text.encode()) for text in texts]) for texts in (first, second)]
    order = np.argsort(np.concatenate(places), kind="stable")
    return [[*first, *second][number] for number in order]
