"""What the losses across two vocabularies look up, made once for a pair of them and only where it is needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from vocabalign.errors import ArtifactError
from vocabalign.losses.class_sums import ClassSums
from vocabalign.losses.classes import EventClasses, common_classes, identity_classes, shared_token_classes
from vocabalign.losses.events import EventMerge
from vocabalign.losses.likelihood import word_starts
from vocabalign.losses.marginal import PrefixMerge
from vocabalign.losses.prefixes import PrefixMap
from vocabalign.losses.projection import LexiconProjection
from vocabalign.text.vocabulary import Vocabulary


class Tables:
    """Of one student and one teacher.

    Args:
        student: its vocabulary.
        teacher: its vocabulary.
        device: where the losses run.
        one_vocabulary: every id means the same on both sides, however it is written.
        lexicon: folder of a lexicon between the two, for the projection.
    """

    def __init__(
        self,
        student: Vocabulary,
        teacher: Vocabulary,
        device: torch.device,
        *,
        one_vocabulary: bool = False,
        lexicon: Path | None = None,
    ) -> None:
        self.student, self.teacher, self.device, self.lexicon = student, teacher, device, lexicon
        self.one_vocabulary = one_vocabulary

    @cached_property
    def classes(self) -> EventClasses:
        """Events that both can tell apart."""
        return (
            identity_classes(len(self.student)) if self.one_vocabulary else common_classes(self.student, self.teacher)
        )

    @cached_property
    def events(self) -> EventMerge:
        """``classes`` on the device."""
        return EventMerge(self.classes, self.device)

    @cached_property
    def _sums(self) -> dict[int, ClassSums]:
        return {}

    def class_sums(self, num_rows: int) -> ClassSums:
        """``classes`` as sums of probabilities, for a student's head of so many rows."""
        if num_rows not in self._sums:
            self._sums[num_rows] = ClassSums(self.classes, num_rows, self.device)
        return self._sums[num_rows]

    @cached_property
    def teacher_classes(self) -> Tensor:
        """(Vt,) int64 class of each of the teacher's tokens, -1 for none; on the device."""
        return torch.from_numpy(self.classes.teacher).to(self.device)

    @cached_property
    def shared(self) -> EventClasses:
        """Tokens of both sides, and everything else."""
        return (
            identity_classes(len(self.student))
            if self.one_vocabulary
            else shared_token_classes(self.student, self.teacher)
        )

    @cached_property
    def shared_events(self) -> EventMerge:
        """``shared`` on the device."""
        return EventMerge(self.shared, self.device)

    @cached_property
    def prefixes(self) -> PrefixMap:
        """From the teacher's tokens to the student's that they begin with."""
        return PrefixMap(self.student, self.teacher)

    @cached_property
    def prefix_merge(self) -> PrefixMerge:
        """``prefixes`` on the device."""
        return PrefixMerge(self.prefixes, self.device)

    @cached_property
    def projection(self) -> LexiconProjection:
        """The lexicon as a matrix from the student's tokens to the teacher's.

        Raises:
            ArtifactError: it belongs to other vocabularies.
        """
        from vocabalign.lexicon_files import load_lexicon

        assert self.lexicon is not None  # the choice of the loss has seen to it
        lexicon = load_lexicon(self.lexicon, lambda: self.teacher, self.student)
        made_for = (lexicon.source_fingerprint, lexicon.target_fingerprint)
        if made_for != (self.teacher.fingerprint, self.student.fingerprint):
            raise ArtifactError(
                f"The lexicon {self.lexicon} was made for other tokenizers than the teacher '{self.teacher.name}' and "
                f"the student '{self.student.name}': make it with 'vocabalign align --source TEACHER --target STUDENT'."
            )
        return LexiconProjection(lexicon.source_ids, lexicon.weights, len(self.teacher), self.device)

    @cached_property
    def _starts(self) -> dict[tuple[str, int], Tensor]:
        return {}

    def word_starts(self, side: str, num_rows: int) -> Tensor:
        """(num_rows,) bool: which rows of the ``student``'s or ``teacher``'s head begin a word."""
        key = (side, num_rows)
        if key not in self._starts:
            self._starts[key] = word_starts(getattr(self, side), num_rows)[:num_rows].to(self.device)
        return self._starts[key]
