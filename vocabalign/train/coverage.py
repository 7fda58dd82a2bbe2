"""How much two tokenizers have in common on a text, and which loss that speaks for.

Everything here comes from tokenizers and text; no weights are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vocabalign.losses.aligned import Document, observed_at
from vocabalign.losses.classes import class_of_pair, common_classes, same_vocabulary
from vocabalign.losses.prefixes import PrefixMap, prefix_rows
from vocabalign.text.alignment import align_tokens
from vocabalign.text.batches import in_batches
from vocabalign.text.vocabulary import Vocabulary

CHUNK_LENGTHS = (1, 2, 3, 4)
SAMPLE_BYTES = 200_000


@dataclass(frozen=True)
class Coverage:
    """What a student's and a teacher's tokenizer share; counted without special tokens.

    Attributes:
        student: its name.
        teacher: its name.
        sizes: tokens of the student's and of the teacher's vocabulary.
        one_vocabulary: whether every id means the same on both sides.
        equal_sizes_only: the vocabularies have one size but their ids mean different things.
        ids_differ: ids that stand for other tokens, where the sizes are equal.
        texts: texts that were lined up.
        texts_refused: texts that are not the same bytes on both sides.
        num_bytes: bytes of the texts.
        student_tokens: tokens of the student.
        teacher_tokens: tokens of the teacher.
        starts: places where a token of both sides begins.
        exact_agreement: share of the starts at which the next tokens are the same bytes.
        prefix_agreement: the same for the student token that the teacher's token begins with.
        event_agreement: the same for the classes of ``common_classes``.
        prefix_starts: starts of student tokens at which the teacher's distribution can be marginalised.
        classes: events that both vocabularies can tell apart.
        chunks: runs of tokens that are the same bytes on both sides.
        chunk_tokens: share of the chunks that are 1, 2, 3, 4 or more tokens of the student; the same for the teacher.
        one_to_one: share of the chunks that are one token on both sides.
    """

    student: str
    teacher: str
    sizes: tuple[int, int]
    one_vocabulary: bool
    equal_sizes_only: bool
    ids_differ: int
    texts: int
    texts_refused: int
    num_bytes: int
    student_tokens: int
    teacher_tokens: int
    starts: int
    exact_agreement: float
    prefix_agreement: float
    event_agreement: float
    prefix_starts: int
    classes: int
    chunks: int
    chunk_tokens: tuple[tuple[float, ...], tuple[float, ...]]
    one_to_one: float

    @property
    def alignment_rate(self) -> float:
        """Aligned starts for each of the student's tokens."""
        return self.starts / max(1, self.student_tokens)

    @property
    def prefix_rate(self) -> float:
        """Places where cuts of the teacher's tokens tell the student's next token, for each of its tokens."""
        return self.prefix_starts / max(1, self.student_tokens)

    @property
    def bytes_per_chunk(self) -> float:
        """Mean length of a chunk."""
        return self.num_bytes / max(1, self.chunks)

    @property
    def texts_share(self) -> float:
        """Share of the texts that are the same bytes on both sides."""
        return self.texts / max(1, self.texts + self.texts_refused)

    def as_json(self) -> dict[str, Any]:
        """Everything, the derived numbers too."""
        return asdict(self) | {
            "alignment_rate": self.alignment_rate,
            "prefix_rate": self.prefix_rate,
            "bytes_per_chunk": self.bytes_per_chunk,
            "bytes_per_student_token": self.num_bytes / max(1, self.student_tokens),
            "bytes_per_teacher_token": self.num_bytes / max(1, self.teacher_tokens),
        }


def measure_coverage(
    student: Vocabulary, teacher: Vocabulary, texts: Iterable[str], *, max_bytes: int = SAMPLE_BYTES
) -> Coverage:
    """Line up both tokenisations of a sample of text and count.

    Args:
        student: vocabulary of the model that is to learn.
        teacher: vocabulary of the model that teaches.
        texts: any text, best of the kind that is trained on.
        max_bytes: how much of it is read.
    """
    documents: list[Document] = []
    at, num_bytes, refused = [0, 0], 0, 0
    same_opening = student.dummy_prefix == teacher.dummy_prefix
    for text, mine, theirs in _encoded(student, teacher, _first_bytes(texts, max_bytes)):
        alignment = align_tokens(student, mine, teacher, theirs, text)
        if alignment is None:
            refused += 1
            continue
        documents.append(Document(alignment, mine, theirs, at[0], at[1], same_opening))
        at = [at[0] + len(mine), at[1] + len(theirs)]
        num_bytes += alignment.num_bytes
    mine, theirs = observed_at(documents).numpy().T
    prefixes = PrefixMap(student, teacher)
    classes = common_classes(student, teacher)
    sizes = [
        np.concatenate([np.zeros(0, np.int64), *(getattr(d.alignment, f"c{s}_end") - getattr(d.alignment, f"c{s}_start")
                                                 for d in documents)])
        for s in "st"
    ]  # fmt: skip
    carried = prefixes.whole[theirs]
    table, their_table = student.token_bytes, teacher.token_bytes
    one = same_ids(student, teacher)
    differ = sum(a != b for a, b in zip(student.token_bytes, teacher.token_bytes))
    return Coverage(
        student=student.name,
        teacher=teacher.name,
        sizes=(len(student), len(teacher)),
        one_vocabulary=one,
        equal_sizes_only=not one and len(student) == len(teacher) and differ > 0,
        ids_differ=differ,
        texts=len(documents),
        texts_refused=refused,
        num_bytes=num_bytes,
        student_tokens=at[0],
        teacher_tokens=at[1],
        starts=len(mine),
        exact_agreement=_share([table[a] == their_table[b] for a, b in zip(mine, theirs)]),
        prefix_agreement=_share((carried == mine).tolist()),
        event_agreement=_share(class_of_pair(classes, mine, theirs).tolist()),
        prefix_starts=len(prefix_rows(documents, prefixes).pairs),
        classes=classes.num_classes,
        chunks=len(sizes[0]),
        chunk_tokens=(_histogram(sizes[0]), _histogram(sizes[1])),
        one_to_one=_share(((sizes[0] == 1) & (sizes[1] == 1)).tolist()),
    )


def same_ids(student: Vocabulary, teacher: Vocabulary) -> bool:
    """Whether every id means the same on both sides, however the tokenizers are written; equal sizes prove nothing."""
    if same_vocabulary(student, teacher):
        return True
    return (
        student.token_bytes == teacher.token_bytes
        and student.roles == teacher.roles
        and student.special_ids == teacher.special_ids
    )


def _encoded(student: Vocabulary, teacher: Vocabulary, texts: Iterable[str]) -> Iterable[tuple[str, Any, Any]]:
    for batch in in_batches(texts):
        sides = (student.encode_batch(batch), teacher.encode_batch(batch))
        for text, mine, theirs in zip(batch, *sides):
            yield text, np.array(mine, dtype=np.int64), np.array(theirs, dtype=np.int64)


def _first_bytes(texts: Iterable[str], max_bytes: int) -> Iterable[str]:
    for text in texts:
        if max_bytes <= 0:
            return
        piece = text.encode()[:max_bytes].decode(errors="ignore")
        max_bytes -= len(piece.encode())
        if piece:
            yield piece


def _share(hits: list[bool]) -> float:
    return float(np.mean(hits)) if hits else 0.0


def _histogram(sizes: np.ndarray) -> tuple[float, ...]:
    """Shares of 1, 2, 3, and 4 or more."""
    counts = np.bincount(np.minimum(sizes, CHUNK_LENGTHS[-1]), minlength=CHUNK_LENGTHS[-1] + 1)[1:]
    return tuple((counts / max(1, counts.sum())).round(4).tolist())
