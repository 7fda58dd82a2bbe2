"""Difference sampling: train on the documents that the teacher likes more than a small model does.

Both models score every document; what the teacher finds likelier by the most bits a byte is kept. That favours text in
which there is something to learn over text that is easy for both and over noise that is hard for both. Scores are in
bytes, so the two may have any tokenizers.

Reference:
    Gu et al. (2025), MiniPLM: Knowledge Distillation for Pre-Training Language Models (difference sampling).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vocabalign.errors import ConfigError
from vocabalign.losses.fused import fused_loss
from vocabalign.models import context_length
from vocabalign.progress import progress
from vocabalign.stages import DistillConfig
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.data import boundary_ids
from vocabalign.train.head import hidden_states, read_head
from vocabalign.train.texts import TrainingText, training_texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger("vocabalign")
CHOSEN = "chosen.jsonl"
GROUP = 64
LONGEST = 1024


def choose_documents(
    config: DistillConfig,
    folder: Path,
    teacher: tuple[PreTrainedModel, Vocabulary],
    reference: tuple[PreTrainedModel, Vocabulary],
    vocabulary: Vocabulary,
) -> Path:
    """The kept documents as a JSON-lines file in their old order; an earlier result is taken as it is.

    Args:
        config: of the stage.
        folder: of the run's work.
        teacher: model and vocabulary.
        reference: model and vocabulary that it is compared with.
        vocabulary: of the student, which decides nothing but how the corpus is read.

    Returns:
        The file.

    Raises:
        ConfigError: the corpus holds conversations.
    """
    done = folder / CHOSEN
    if done.is_file():
        return done
    scores = folder / f"{CHOSEN}.scores"
    known = [float(line) for line in scores.read_text().split("\n")[:-1]] if scores.is_file() else []
    texts = training_texts(config.corpus, config.training, vocabulary, apart=config.heldout)
    with scores.open("a") as file, progress("scoring documents") as bar:
        for number, group in enumerate(_groups(texts)):
            if (number + 1) * GROUP <= len(known):
                continue
            if any(item.scored is not None for item in group):
                raise ConfigError("difference_sampling scores text, and the corpus holds conversations: set keep=1.")
            sides = [_bits(*side, [item.text for item in group]) for side in (reference, teacher)]
            fresh = [(a - b) / max(1, len(item.text.encode())) for a, b, item in zip(*sides, group)]
            fresh = fresh[max(0, len(known) - number * GROUP) :]
            file.writelines(f"{value!r}\n" for value in fresh)
            file.flush()
            known += fresh
            bar.advance(len(group), f"{len(known):,} documents")
    threshold = float(np.quantile(known, 1 - config.difference_sampling.keep))
    kept = 0
    new = done.with_suffix(".new")
    with new.open("w", encoding="utf-8") as out:
        for item, value in zip(training_texts(config.corpus, config.training, vocabulary, apart=config.heldout), known):
            if value >= threshold:
                kept += 1
                out.write(json.dumps({"text": item.text}, ensure_ascii=False) + "\n")
    logger.info("Difference sampling keeps %s of %s documents.", f"{kept:,}", f"{len(known):,}")
    new.replace(done)
    return done


def _groups(texts: Iterator[TrainingText]) -> Iterator[list[TrainingText]]:
    group: list[TrainingText] = []
    for item in texts:
        group.append(item)
        if len(group) == GROUP:
            yield group
            group = []
    if group:
        yield group


@torch.no_grad()
def _bits(model: PreTrainedModel, vocabulary: Vocabulary, texts: Sequence[str]) -> list[float]:
    """Bits that a model needs for each text; of long ones in windows without overlap."""
    window = min(LONGEST, context_length(model) or LONGEST)
    begin, _ = boundary_ids(vocabulary)
    before = [] if begin is None else [begin]
    result = [0.0] * len(texts)
    windows = []
    for number, ids in enumerate(vocabulary.encode_batch(list(texts))):
        stream = [*before, *ids]
        windows += [(number, stream[at : at + window + 1]) for at in range(0, len(stream) - 1, window)]
    head = read_head(model)
    for number, ids in windows:
        tokens = torch.tensor([ids], device=head.weight.device)
        hidden = hidden_states(model, tokens[:, :-1], None)
        result[number] += float(fused_loss(hidden, head, tokens[:, 1:], num_items=1.0).loss) / math.log(2)
    return result
