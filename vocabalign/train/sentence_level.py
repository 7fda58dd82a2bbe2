"""Sentence-level distillation: the student trains on what the teacher writes, and on nothing else of it.

For comparison, and for students that can share nothing with the teacher but text. The teacher goes on from the
beginnings of the corpus's documents, so that what it writes is of the same kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from vocabalign.errors import TrainingError
from vocabalign.models import context_length
from vocabalign.progress import progress
from vocabalign.stages import DistillConfig
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.documents import boundary_ids
from vocabalign.train.teachers import RunningTeacher
from vocabalign.train.texts import training_texts
from vocabalign.train.writing import ends_of, text_of, write_tokens

WRITTEN = "written.jsonl"
TEXTS_AT_ONCE = 32
LONGEST = 512
MOST_BATCHES_WITHOUT_TEXT = 20


def write_corpus(
    config: DistillConfig, folder: Path, teacher: RunningTeacher, vocabulary: Vocabulary, num_tokens: int
) -> Path:
    """What the teacher writes, as a JSON-lines file; an interrupted run goes on behind the last whole batch.

    Args:
        config: of the stage.
        folder: of the run's work.
        teacher: that writes, by its head as it is here, corrected to the corpus or not.
        vocabulary: of the teacher.
        num_tokens: of the teacher to write, about.

    Returns:
        The file.

    Raises:
        TrainingError: the teacher writes no text.
    """
    done = folder / WRITTEN
    if done.is_file():
        return done
    parts = folder / f"{WRITTEN}.parts"
    batches = [json.loads(line) for line in _whole_lines(parts)]
    written = sum(batch["tokens"] for batch in batches)
    prompts = _prompts(config, vocabulary)
    length = min(LONGEST, context_length(teacher.model) or LONGEST)
    empty = 0
    with parts.open("a", encoding="utf-8") as file, progress("the teacher writes", num_tokens) as bar:
        for number in range(10**9):
            batch = torch.tensor([next(prompts) for _ in range(TEXTS_AT_ONCE)])
            if written >= num_tokens:
                break
            if number < len(batches):
                continue
            texts, size = _write(config, teacher, vocabulary, batch, length, number)
            empty = 0 if texts else empty + 1
            if empty > MOST_BATCHES_WITHOUT_TEXT:
                raise TrainingError(
                    "The teacher writes no text from the beginnings of the corpus: is it a language model?"
                )
            file.write(json.dumps({"texts": texts, "tokens": size}, ensure_ascii=False) + "\n")
            file.flush()
            written += size
            bar.advance(size)
    new = folder / f"{WRITTEN}.new"
    with new.open("w", encoding="utf-8") as file:
        for line in _whole_lines(parts):
            file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in json.loads(line)["texts"])
    new.replace(done)
    return done


def _whole_lines(path: Path) -> list[str]:
    """Lines of a file that a killed run may have left cut off; the file is cut to them."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="ignore")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return whole.splitlines()


def _prompts(config: DistillConfig, vocabulary: Vocabulary) -> Iterator[list[int]]:
    """Beginnings of documents, all of one length, over and over in an order of the seed's."""
    begin, _ = boundary_ids(vocabulary)
    before = [] if begin is None else [begin]
    size = len(before) + config.sentence.prompt_tokens
    found = []
    for item in training_texts(config.corpus, config.training, vocabulary, apart=config.heldout):
        ids = vocabulary.encode(item.text[: 40 * config.sentence.prompt_tokens])
        if len(ids) >= config.sentence.prompt_tokens:
            found.append([*before, *ids][:size])
    if not found:
        raise TrainingError(
            f"No document of the corpus has {config.sentence.prompt_tokens} tokens to go on from: set a smaller "
            "sentence.prompt_tokens."
        )
    epoch = 0
    while True:
        for number in np.random.default_rng([config.seed, epoch]).permutation(len(found)):
            yield found[number]
        epoch += 1


def _write(
    config: DistillConfig,
    teacher: RunningTeacher,
    vocabulary: Vocabulary,
    prompts: torch.Tensor,
    length: int,
    number: int,
) -> tuple[list[str], int]:
    generator = torch.Generator(teacher.device).manual_seed(config.seed * 1_000_003 + number)
    ids = write_tokens(
        teacher.model,
        prompts.to(teacher.device),
        length - prompts.shape[1],
        temperature=config.sentence.temperature,
        generator=generator,
        num_tokens=len(vocabulary),
        ends=ends_of(vocabulary),
        head=teacher.head(teacher.device),
    ).tolist()
    begin, _ = boundary_ids(vocabulary)
    found = [text_of(row if begin is None else row[1:], vocabulary) for row in ids]
    texts = [text for text in found if text]
    return texts, sum(len(vocabulary.encode(text)) for text in texts)
