"""Event classes: the fixed point against a slow reference, symmetry, special tokens, and what real tokenizers give."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.toy import LARGE, SMALL, vocabulary
from vocabalign.losses.classes import (
    EventClasses,
    class_of_pair,
    common_classes,
    identity_classes,
    shared_token_classes,
)
from vocabalign.text.segmentation import segment_bytes
from vocabalign.text.tokenizers import load_vocabulary

TOKENS = st.lists(st.text("ab ", min_size=2, max_size=4).map(str.encode), max_size=8, unique=True).map(
    lambda more: [b"a", b"b", b" ", *more]
)


def slow_class(token, first, second):
    """Alternate ``first`` and ``second`` until both leave the string alone."""
    tables = [{t for t in v.token_bytes if t} for v in (first, second)]
    for _ in range(50):
        for v in (first, second):
            ids = segment_bytes(v, token)
            new = v.token_bytes[ids[0]] if ids else b""
            both_idle = token in tables[0] & tables[1] and all(
                v.token_bytes[segment_bytes(v, token)[0]] != token for v in (first, second)
            )
            token = token if both_idle else new
    return token


def names(classes, student, teacher):
    """Class -> byte strings on both sides."""
    result = {}
    for side, v in ((classes.student, student), (classes.teacher, teacher)):
        for token, number in zip(v.token_bytes, side, strict=True):
            if token:
                result.setdefault(int(number), set()).add(token)
    return result


@settings(max_examples=25, deadline=None)
@given(TOKENS, TOKENS)
def test_fixed_point_against_the_reference(first, second):
    student, teacher = vocabulary(first), vocabulary(second)
    classes = common_classes(student, teacher)
    mine = {t: int(c) for t, c in zip(student.token_bytes, classes.student) if t}
    theirs = {t: int(c) for t, c in zip(teacher.token_bytes, classes.teacher) if t}
    # The teacher cuts a student's token first, and the other way round.
    for token, number in mine.items():
        assert number == mine[slow_class(token, teacher, student)] >= 0
    for token, number in theirs.items():
        target = slow_class(token, student, teacher)
        assert number == theirs[target] == mine[target]


@settings(max_examples=20, deadline=None)
@given(TOKENS, TOKENS)
def test_symmetric_and_every_class_on_both_sides(first, second):
    student, teacher = vocabulary(first), vocabulary(second)
    one, other = common_classes(student, teacher), common_classes(teacher, student).swapped()
    pairs = set(zip([*one.student, *one.teacher], [*other.student, *other.teacher], strict=True))
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    assert set(one.student) - {-1} == set(one.teacher) - {-1} == set(range(one.num_classes))
    assert one.num_classes <= len(set(first) & set(second)) + 4


@given(TOKENS)
@settings(max_examples=20, deadline=None)
def test_one_vocabulary_is_the_identity(tokens):
    # Also with unreachable and duplicate tokens, gaps and special tokens.
    v = vocabulary([*tokens, b"a", b"abab"])
    assert common_classes(v, v).identity and shared_token_classes(v, v).identity
    assert identity_classes(3).identity


def test_example():
    student, teacher = vocabulary(SMALL), vocabulary(LARGE)
    found = names(common_classes(student, teacher), student, teacher)
    assert sorted(sorted(group) for group in found.values()) == [
        [b" ", b" a", b" ab"],
        [b"a", b"ab", b"aba"],
        [b"b", b"ba", b"bb"],
    ]


def test_special_tokens_meet_by_role_and_eos_first():
    student, teacher = vocabulary(SMALL), vocabulary(LARGE, eos=False)
    # One token that begins and ends, as in GPT-2: it is the end that a model must predict.
    teacher = replace(teacher, roles={"bos": len(LARGE) + 1, "eos": len(LARGE) + 1, "unk": len(LARGE)})
    classes = common_classes(student, teacher)
    eos, bos, unk = (student.roles[role] for role in ("eos", "bos", "unk"))
    assert classes.student[eos] == classes.teacher[len(LARGE) + 1] >= 0
    assert classes.student[unk] == classes.teacher[len(LARGE)] >= 0
    # The teacher has nothing left for the student's BOS: it takes no part, like a row that only pads.
    assert classes.student[bos] == -1 and classes.other is None


def test_bytes_of_one_side_only_and_gaps():
    student = vocabulary([*SMALL, b"c", b"ca"])
    teacher = vocabulary([*LARGE, b"d"])
    classes = common_classes(student, teacher)
    assert classes.other is not None
    assert classes.student[4] == classes.student[5] == classes.teacher[8] == classes.other
    gap = replace(student, special_ids=student.special_ids - {student.roles["unk"]}, roles={})
    assert common_classes(gap, teacher).student[student.roles["unk"]] == -1


def test_strings_that_are_not_whole_characters():
    student = vocabulary([b"\xd0", b"\xd0\xb0", b"\xb0", b"\xb0\xd0", b"\xd0\xb0\xd0", b"a"])
    teacher = vocabulary([b"\xd0", b"\xb0", b"\xd0\xb0", b"a"])
    found = names(common_classes(student, teacher), student, teacher)
    assert {b"\xd0\xb0", b"\xd0\xb0\xd0"} in found.values() and {b"\xb0", b"\xb0\xd0"} in found.values()


def test_shared_tokens():
    student, teacher = vocabulary(SMALL), vocabulary(LARGE)
    classes = shared_token_classes(student, teacher)
    other = {b"ab", b" a", b"ba", b" ab", b"aba", b"bb"}
    found = names(classes, student, teacher)
    assert found[classes.other] == other
    assert sorted(map(len, found.values())) == [1, 1, 1, 6]


def test_observed_pairs():
    classes = EventClasses(np.array([0, 1, -1]), np.array([1, 0]), 2, None)
    assert class_of_pair(classes, np.array([0, 0, 1, 2]), np.array([1, 0, 0, 0])).tolist() == [True, False, True, False]


@pytest.mark.parametrize("side", [np.array([0, 2]), np.array([0, 0]), np.array([-2, 1]), np.zeros((2, 1), int)])
def test_bad_classes_are_refused(side):
    with pytest.raises(ValueError):
        EventClasses(side, np.array([0, 1]), 2, None)


def test_leading_spaces_of_real_tokenizers(material):
    """``Ġthe`` and ``▁the`` are one event, which GOLD never sees."""
    student = load_vocabulary(material / "tokenizers/tinystories-bpe_16384")
    teacher = load_vocabulary(material / "models/stories3M-hf")
    classes = common_classes(student, teacher)
    mine = {raw: classes.student[i] for i, raw in enumerate(student.raw_tokens)}
    theirs = {raw: classes.teacher[i] for i, raw in enumerate(teacher.raw_tokens)}
    assert mine["Ġthe"] == theirs["▁the"] != mine["t"] == theirs["t"]
    # Every token of text has a class: nothing is lost.
    text = np.array([token is not None for token in student.token_bytes])
    assert (classes.student[text] >= 0).all() and classes.num_classes > 1500
