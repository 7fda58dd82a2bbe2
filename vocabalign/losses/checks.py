"""What the losses across tokenizers refuse in the same words."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vocabalign.losses.logits import Head
from vocabalign.losses.positions import check_finite
from vocabalign.losses.streaming import Side


def cut_head(head: Head, num_tokens: int, name: str) -> Head:
    """The head without the rows that only pad it.

    Raises:
        ValueError: it has fewer rows than the vocabulary has tokens.
    """
    if head.num_rows < num_tokens:
        raise ValueError(f"The {name}'s head has {head.num_rows} rows but the vocabulary {num_tokens} tokens.")
    return head if head.num_rows == num_tokens else replace(head, rows=num_tokens)


def both_sides(
    hidden: Tensor, head: Head, teacher_hidden: Tensor, teacher_head: Head, num_tokens: tuple[int, int]
) -> tuple[Side, Side]:
    """The student's side, and the teacher's without a gradient, both over their vocabularies alone.

    Args:
        hidden: (N, H) of the student.
        head: (V, H) of the student.
        teacher_hidden: (N, Ht).
        teacher_head: (Vt, Ht).
        num_tokens: of the two vocabularies.

    Raises:
        ValueError: NaN in the teacher, or a head with fewer rows than its vocabulary has tokens.
    """
    check_finite(teacher_hidden, teacher_head.weight)
    mine = Side(hidden, cut_head(head, num_tokens[0], "student"))
    return mine, Side(teacher_hidden, cut_head(teacher_head, num_tokens[1], "teacher"), trained=False)


def check_temperature(temperature: float) -> float:
    """Refuse a temperature that is not a positive number."""
    if not 0 < temperature < float("inf"):
        raise ValueError(f"The temperature is {temperature}; expected a positive number.")
    return temperature


def check_labels(labels: Tensor, count: int, num_rows: int, name: str) -> None:
    """Refuse labels of another number than the rows, or outside the vocabulary; negative ones stand for none.

    Raises:
        ValueError: they do not fit. Outside the CPU the values are not looked at, which would wait for the device.
    """
    if labels.shape != (count,):
        raise ValueError(f"The {name}'s labels have shape {tuple(labels.shape)} but there are {count} rows.")
    if labels.device.type == "cpu" and count and int(labels.max()) >= num_rows:
        raise ValueError(
            f"A label of the {name} is outside the vocabulary: ids to {int(labels.max())}, {num_rows} rows."
        )


def check_numbers(values: Tensor, name: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: there is one.
    """
    if not bool(values.isfinite().all()):
        bad = int((~values.isfinite()).sum())
        raise ValueError(f"The {name} hold {bad} of {values.numel()} numbers that are NaN or infinite.")
