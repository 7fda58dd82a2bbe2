"""Classes of tokens that two vocabularies can be compared by: which ids of both sides are the same next event.

The next token of one vocabulary and the next token of another are different events. They become the same event when
each is taken to the longest piece that both sides would write first: ``φ(x)`` is the fixed point of
``x <- first_S(first_T(x))``, where ``first_V(x)`` is the first token when V's tokenizer cuts x in running text.
A fixed point is one token on both sides, so the classes are common tokens and what begins with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vocabalign.text.roles import ROLE_NAMES, roles_of
from vocabalign.text.segmentation import segment_many
from vocabalign.text.token_text import is_text
from vocabalign.text.vocabulary import Vocabulary

__all__ = [
    "EventClasses",
    "class_of_pair",
    "common_classes",
    "identity_classes",
    "same_vocabulary",
    "shared_token_classes",
    "special_pairs",
]

EXCLUDED = -1
# What a model must predict comes first: one id may have several roles, and each id is used once.
_FIRST_ROLES = ("eos", "bos", "pad", "unk", "mask")


@dataclass(frozen=True, eq=False)
class EventClasses:
    """φ of both sides; K classes.

    Attributes:
        student: (Vs,) int64, class of each id; -1 for ids that take no part (gaps, and tokens that the other side can
            neither write nor answer): they are left out of the softmax like rows that only pad a head.
        teacher: (Vt,) int64, the same.
        num_classes: K; every class has ids on both sides.
        other: the class of everything without a counterpart (⊥), or None where a side has none.
    """

    student: np.ndarray
    teacher: np.ndarray
    num_classes: int
    other: int | None

    def __post_init__(self) -> None:
        for name, side in (("student", self.student), ("teacher", self.teacher)):
            if side.ndim != 1 or not len(side) or side.min() < EXCLUDED or side.max() >= self.num_classes:
                raise ValueError(
                    f"The {name}'s classes have shape {side.shape} and reach from {side.min(initial=0)} to "
                    f"{side.max(initial=0)}; expected one number from -1 to {self.num_classes - 1} for each id."
                )
            present = np.bincount(side[side >= 0], minlength=self.num_classes)
            if not present.all():
                raise ValueError(
                    f"Class {int(present.argmin())} has no id on the {name}'s side; every class needs one."
                )

    @property
    def identity(self) -> bool:
        """Whether both sides are the same vocabulary: id k is class k."""
        return all(len(s) == self.num_classes and (s == np.arange(len(s))).all() for s in (self.student, self.teacher))

    def swapped(self) -> EventClasses:
        """The same classes with student and teacher exchanged."""
        return EventClasses(self.teacher, self.student, self.num_classes, self.other)


def identity_classes(num_tokens: int) -> EventClasses:
    """Every id is its own class: two models of one vocabulary."""
    ids = np.arange(num_tokens, dtype=np.int64)
    return EventClasses(ids, ids, num_tokens, None)


def common_classes(student: Vocabulary, teacher: Vocabulary) -> EventClasses:
    """The common canonical classes of two vocabularies; seconds for the largest ones.

    Strings are cut as in running text, so that ``Ġthe``, ``▁the`` and `` the`` are one class. A string that is not
    whole characters goes to the longest token of both sides that it begins with. Special tokens meet by role (EOS
    first), then by how they are written; those left over, and bytes that only one side can write, are the class ⊥,
    unless a side has nothing but special tokens for it: then they take no part.
    A token of both sides that neither tokenizer would ever choose is a class of its own; so one vocabulary on both
    sides gives the identity.

    Args:
        student: one vocabulary.
        teacher: the other; exchanging them exchanges the two sides of the result and nothing else.

    Reference:
        event-KL is new here; no published method takes both sides to a fixed point.
    """
    if same_vocabulary(student, teacher):
        return identity_classes(len(student))
    strings = {token: None for side in (student, teacher) for token in side.token_bytes if token}
    index = {token: number for number, token in enumerate(strings)}
    fixed = _fixed_points(student, teacher, list(strings), index)
    sides = []
    for vocabulary, targets in ((student, fixed[0]), (teacher, fixed[1])):
        numbers = np.array([index[token] if token else -2 for token in vocabulary.token_bytes], dtype=np.int64)
        sides.append(np.where(numbers >= 0, targets[numbers], numbers))
    return _number(student, teacher, sides)


def shared_token_classes(student: Vocabulary, teacher: Vocabulary) -> EventClasses:
    """One class for each byte string that is a token of both sides, and ⊥ for all other tokens.

    The event space of methods that match tokens as they are written (GOLD), on bytes instead of strings and with
    special tokens by role. For comparison: ``common_classes`` gives far fewer tokens to ⊥.
    """
    if same_vocabulary(student, teacher):
        return identity_classes(len(student))
    shared = {token for token in student.token_bytes if token} & {token for token in teacher.token_bytes if token}
    index = {token: number for number, token in enumerate(sorted(shared))}
    sides = [
        np.array([index.get(token, EXCLUDED) if token else -2 for token in side.token_bytes], dtype=np.int64)
        for side in (student, teacher)
    ]
    return _number(student, teacher, sides)


def class_of_pair(classes: EventClasses, student_ids: np.ndarray, teacher_ids: np.ndarray) -> np.ndarray:
    """(N,) bool: whether what was observed on both sides is one event.

    At the few starts where it is not, the two tokenisations of this text differ from what the tokenizers do with the
    token alone; such rows may be given weight 0.
    """
    mine, theirs = classes.student[student_ids], classes.teacher[teacher_ids]
    return (mine == theirs) & (mine >= 0)


def same_vocabulary(student: Vocabulary, teacher: Vocabulary) -> bool:
    """Whether an id means the same on both sides."""
    return student.token_bytes == teacher.token_bytes and student.fingerprint == teacher.fingerprint


def _fixed_points(
    student: Vocabulary, teacher: Vocabulary, strings: Sequence[bytes], index: Mapping[bytes, int]
) -> tuple[np.ndarray, np.ndarray]:
    """For each string its class as a number of a string or -1, beginning with the other side's cut.

    The first array is for tokens of the student (the teacher cuts first), the second for those of the teacher.
    """
    tables = [{token for token in side.token_bytes if token} for side in (student, teacher)]
    shared = tables[0] & tables[1]
    longest = max(map(len, shared), default=0)
    prefixes = np.array([_longest_prefix(token, shared, longest, index) for token in strings], dtype=np.int64)
    whole = np.array([is_text(token) for token in strings], dtype=bool)
    numbers = np.arange(len(strings))
    first = []
    for vocabulary in (student, teacher):
        cuts = segment_many(vocabulary, strings)
        pieces = np.array([index[vocabulary.token_bytes[cut[0]] or b""] if cut else -1 for cut in cuts], dtype=np.int64)
        first.append(np.where(whole & (pieces >= 0), pieces, prefixes))
    both = np.array([token in shared for token in strings], dtype=bool)
    idle = both & (first[0] != numbers) & (first[1] != numbers)
    for pieces in first:
        pieces[idle] = numbers[idle]
    by_student, by_teacher = (np.append(pieces, -1) for pieces in first)
    return _iterate(by_student[by_teacher]), _iterate(by_teacher[by_student])


def _iterate(step: np.ndarray) -> np.ndarray:
    """Follow ``step`` to its fixed points; -1, its last entry, is one. Strings only get shorter, so there are some."""
    while True:
        further = step[step]
        if (further == step).all():
            return step[:-1]
        step = further


def _longest_prefix(token: bytes, shared: set[bytes], longest: int, index: Mapping[bytes, int]) -> int:
    return next((index[token[:n]] for n in range(min(longest, len(token)), 0, -1) if token[:n] in shared), -1)


def _number(student: Vocabulary, teacher: Vocabulary, sides: Sequence[np.ndarray]) -> EventClasses:
    """Number the classes in the order of the student's ids: -1 becomes ⊥, -2 a special token's class or nothing."""
    mine, theirs = (side.copy() for side in sides)
    # Classes so far are numbers of strings; those of special tokens come behind them, ⊥ is the last.
    base = 1 + max(int(mine.max(initial=0)), int(theirs.max(initial=0)))
    special = [sorted(side.special_ids) for side in (student, teacher)]
    bottom = base + len(special[0])
    for side, ids in zip((mine, theirs), special, strict=True):
        side[side == EXCLUDED] = bottom
        side[ids] = bottom
    for number, (a, b) in enumerate(special_pairs(student, teacher)):
        mine[a] = theirs[b] = base + number
    for side, ids in zip((mine, theirs), special, strict=True):
        if not np.setdiff1d(np.flatnonzero(side == bottom), ids).size:
            # Nothing that is ever written: to expect padding where the other side expects a line end is no answer.
            mine[mine == bottom] = theirs[theirs == bottom] = EXCLUDED
    common = np.intersect1d(mine[mine >= 0], theirs[theirs >= 0])
    # What can only be on one side: a class of strings ends in a token of both, so this is ⊥ without a counterpart.
    mine, theirs = (np.where(np.isin(side, common), side, EXCLUDED) for side in (mine, theirs))
    found, at = np.unique(mine, return_index=True)
    order = found[np.argsort(at)]
    order = order[order >= 0]
    rank = np.full(bottom + 2, EXCLUDED, dtype=np.int64)
    rank[order] = np.arange(len(order))
    return EventClasses(rank[mine], rank[theirs], len(order), int(rank[bottom]) if rank[bottom] >= 0 else None)


def special_pairs(student: Vocabulary, teacher: Vocabulary) -> list[tuple[int, int]]:
    """Special tokens that mean the same: by main role, by how they are written, by other roles; each id in one pair."""
    pairs: list[tuple[int, int]] = []
    free = [{i for i in side.special_ids if side.token_bytes[i] is None} for side in (student, teacher)]

    def pair(candidates: Iterable[tuple[Sequence[int], Sequence[int]]]) -> None:
        for mine, theirs in candidates:
            a = next((i for i in mine if i in free[0]), None)
            b = next((i for i in theirs if i in free[1]), None)
            if a is not None and b is not None:
                pairs.append((a, b))
                free[0].remove(a)
                free[1].remove(b)

    mine, theirs = _ids_by_role(student), _ids_by_role(teacher)
    pair((mine.get(role, ()), theirs.get(role, ())) for role in _FIRST_ROLES)
    raw = {teacher.raw_tokens[i]: i for i in free[1] if teacher.raw_tokens[i]}
    pair(([i], [raw[student.raw_tokens[i]]]) for i in sorted(free[0]) if student.raw_tokens[i] in raw)
    pair((mine.get(role, ()), theirs.get(role, ())) for role in ROLE_NAMES if role != "reserved")
    return pairs


def _ids_by_role(vocabulary: Vocabulary) -> dict[str, list[int]]:
    """Ids of each role: first those that the tokenizer's settings name, then by number."""
    result: dict[str, list[int]] = {}
    for token_id, roles in sorted(roles_of(vocabulary).items(), key=lambda item: item[0]):
        for role in roles:
            result.setdefault(role, []).append(token_id)
    for role, token_id in vocabulary.roles.items():
        if token_id in result.get(role, ()):
            result[role] = [token_id, *(i for i in result[role] if i != token_id)]
    return result
