"""The student's own text, as teachers read it."""

import numpy as np
import pytest

from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.on_policy import align_written


@pytest.fixture(scope="module")
def two(byte_level_folder, metaspace_folder):
    return load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)


def spelled(vocabulary, ids):
    return b"".join(vocabulary.token_bytes[token] or b"" for token in ids)


@pytest.mark.parametrize("prompt", [1, 4, 9])
def test_only_what_was_written_is_scored(two, prompt):
    student, teacher = two
    for mine, theirs in ((student, teacher), (teacher, student), (student, student)):
        ids = np.array([mine.roles["bos"], *mine.encode("The cat sat on the mat, and the dog lay by the door.")])
        whole = align_written(mine, ids, theirs, prompt)
        a = whole.alignment
        assert a.cs_start[0] >= prompt and a.cs_end[-1] == len(ids)
        for c in range(len(a)):
            chunk = spelled(mine, whole.student_ids[a.cs_start[c] : a.cs_end[c]])
            other = spelled(theirs, whole.teacher_ids[a.ct_start[c] : a.ct_end[c]])
            assert chunk == other or a.cs_start[c] == 1  # the opening may have a space of its own
        assert (a.start_pairs[:, 1] >= prompt - 1).all()


def test_where_the_student_ends_the_teacher_is_asked_whether_it_would(two):
    student, teacher = two
    ids = np.array([0, *student.encode("The cat sat."), 0, *student.encode("And more")])
    whole = align_written(student, ids, teacher, 2)
    assert whole.student_ids[-1] == 0 and whole.teacher_ids[-1] == teacher.roles["eos"]
    a = whole.alignment
    assert a.cs_end[-1] == len(whole.student_ids) and a.ct_end[-1] == len(whole.teacher_ids)


def test_bytes_that_are_no_text_end_what_is_read(two):
    student, teacher = two
    broken = next(i for i, token in enumerate(student.token_bytes) if token == b"\xff")
    ids = np.array([0, *student.encode("The cat sat on the mat."), broken, *student.encode(" lost")])
    whole = align_written(student, ids, teacher, 1)
    assert spelled(teacher, whole.teacher_ids).strip() == b"The cat sat on the mat."
