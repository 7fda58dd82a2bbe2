"""Pieces of aligned documents: every chunk is predicted once, by rows that have read the same."""

import numpy as np
import pytest

from vocabalign.losses.aligned import Document, aligned_chunks, aligned_starts
from vocabalign.text.alignment import align_tokens
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.pieces import ENDLESS, cut_pieces

TEXT = "Once upon a time there was a little girl who lived in a small house near the wood. " * 6


@pytest.fixture(scope="module")
def whole(byte_level_folder, metaspace_folder):
    student, teacher = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    ids = np.array([student.roles["bos"], *student.encode(TEXT), student.roles["bos"]])
    others = np.array([teacher.roles["bos"], *teacher.encode(TEXT), teacher.roles["eos"]])
    alignment = align_tokens(student, ids, teacher, others, TEXT)
    assert alignment is not None and alignment.refused[0] == 0
    return Document(alignment, ids, others, same_opening=False)


def predicted(pieces, side):
    """Token numbers of the chunks of pieces on one side, in order."""
    found = []
    for piece in pieces:
        a = piece.document.alignment
        starts, ends = (a.cs_start, a.cs_end) if side == 0 else (a.ct_start, a.ct_end)
        for first, last in zip(starts, ends):
            found += range(first, last)
    return found


@pytest.mark.parametrize("context", [None, 200, 40, 17])
def test_windows_predict_every_chunk_once(whole, context):
    pieces = list(cut_pieces(whole, 0, len(whole.student_ids), len(whole.student_ids), context))
    assert predicted(pieces, 0) == list(range(1, len(whole.student_ids)))
    assert predicted(pieces, 1) == list(range(1, len(whole.teacher_ids)))
    for piece in pieces:
        a = piece.document.alignment
        assert context is None or piece.teacher_last - piece.teacher_first <= context
        # Every token is predicted by a row of its window, from the second window on with half of it before.
        assert a.ct_start[0] > piece.teacher_first and a.ct_end[-1] <= piece.teacher_last + 1
        if piece.teacher_first and context:
            assert a.ct_start[0] - piece.teacher_first >= context // 2
    assert (len(pieces) > 1) == (context is not None and context < len(whole.teacher_ids))


@pytest.mark.parametrize("size", [7, 30, 64])
def test_blocks_of_the_student_miss_only_what_has_nothing_before_it(whole, size):
    length = len(whole.student_ids)
    found = []
    for first in range(0, length - 1, size):
        last = min(length, first + size + 1)
        pieces = list(cut_pieces(whole, first, last, min(length, first + size), None))
        tokens = predicted(pieces, 0)
        assert all(first < token < last for token in tokens)
        found += tokens
        for piece in pieces:
            placed = piece.placed(1000, 5000)
            starts = aligned_starts([placed.document]).numpy()
            assert ((starts[:, 0] >= 1000) & (starts[:, 0] < 1000 + size)).all() if len(starts) else True
            assert (starts[:, 1] >= 5000).all() and (starts[:, 1] < 5000 + len(whole.teacher_ids)).all()
            ends = placed.ends()
            assert (ends[:, 0] < 1000 + size).all()
            chunks = aligned_chunks([placed.document])
            assert int(chunks.num_bytes.sum()) == piece.document.alignment.num_bytes
    assert len(found) == len(set(found)) and len(found) > 0.6 * length


def test_a_cache_has_read_the_document_from_its_beginning(whole):
    (piece,) = cut_pieces(whole, 50, 90, 89, ENDLESS)
    assert piece.teacher_first == 0
    assert predicted([piece], 0) == list(range(predicted([piece], 0)[0], predicted([piece], 0)[-1] + 1))
