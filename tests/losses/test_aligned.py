"""Rows of a batch: what they predict, and merging of chunks."""

import numpy as np
import pytest
import torch

from tests.losses.toy import LARGE, SMALL, document, texts, vocabulary
from vocabalign.losses.aligned import aligned_chunks, aligned_ends, aligned_starts, observed_at, start_bytes

STUDENT, TEACHER = vocabulary(SMALL), vocabulary(LARGE)
TEXTS = list(texts(5))[::11]


def batch():
    """Documents one after the other, as in a packed batch."""
    from dataclasses import replace

    made, at = [], [0, 0]
    for text in TEXTS:
        d = document(STUDENT, TEACHER, text)
        made.append(replace(d, student_at=at[0], teacher_at=at[1]))
        at = [at[0] + len(d.student_ids), at[1] + len(d.teacher_ids)]
    return made


def flat(documents, side):
    return np.concatenate([getattr(d, f"{side}_ids") for d in documents])


def test_rows_predict_the_tokens_of_their_chunks():
    documents = batch()
    chunks = aligned_chunks(documents)
    ids = {side: flat(documents, side) for side in ("student", "teacher")}
    tables = {"student": STUDENT.token_bytes, "teacher": TEACHER.token_bytes}
    joined = {}
    for side in ("student", "teacher"):
        rows = getattr(chunks, side)
        kept = rows.labels >= 0
        assert (ids[side][rows.positions[kept] + 1] == rows.labels[kept].numpy()).all()
        joined[side] = [
            b"".join(tables[side][i] or b"" for i in rows.labels[a:b])
            for a, b in zip(rows.starts.tolist(), rows.stops.tolist(), strict=True)
        ]
        # The row behind a chunk has read its last token.
        for stop, after in zip(rows.stops.tolist(), rows.after.tolist(), strict=True):
            assert after == -1 or rows.positions[after] == rows.positions[stop - 1] + 1
    assert joined["student"] == joined["teacher"]
    assert [len(text) for text in joined["student"]] == chunks.num_bytes.tolist()
    # Everything but BOS is predicted, and the EOS too: a chunk of no bytes.
    assert sum(map(len, joined["student"])) == sum(len(text) for text in TEXTS)
    assert (chunks.num_bytes == 0).sum() == len(TEXTS)
    assert chunks.weights("bytes").min() == 1
    assert chunks.weights("tokens").sum() == sum(len(d.student_ids) - 1 for d in documents)


def test_starts_and_ends():
    documents = batch()
    starts, observed, ends = aligned_starts(documents), observed_at(documents), aligned_ends(documents)
    for column, side in ((0, "student"), (1, "teacher")):
        ids = flat(documents, side)
        assert (ids[starts[:, column] + 1] == observed[:, column].numpy()).all()
    tables = STUDENT.token_bytes, TEACHER.token_bytes
    last = 0
    for row in ends.tolist():
        assert (
            len({bool(table[flat(documents, s)[i]]) for table, s, i in zip(tables, ("student", "teacher"), row)}) == 1
        )
        last += 1
    assert last == len(aligned_chunks(documents)) + len(TEXTS)  # the BOS of each text ends too
    assert len(starts) == len(aligned_chunks(documents))


def test_bytes_to_the_next_start():
    documents = batch()
    chunks, found = aligned_chunks(documents), start_bytes(documents)
    # Every chunk begins at an aligned start here, so its bytes are those to the next one.
    assert found.tolist() == chunks.num_bytes.clamp(min=1).tolist()


def test_first_start_is_left_out_where_one_side_puts_a_space():
    from dataclasses import replace

    whole = document(STUDENT, TEACHER, "ab a")
    assert len(aligned_starts([whole])) == len(aligned_starts([replace(whole, same_opening=False)])) + 1


def test_merging():
    chunks = aligned_chunks(batch())
    none = chunks.merged(torch.ones(len(chunks), dtype=torch.bool))
    assert none.num_bytes.tolist() == chunks.num_bytes.tolist()
    assert torch.equal(none.student.starts, chunks.student.starts)
    merged = chunks.merged(torch.zeros(len(chunks), dtype=torch.bool))
    # One chunk for each text and one for each EOS: neither special tokens nor ends of texts are crossed.
    assert merged.num_bytes.tolist() == [size for text in TEXTS for size in (len(text), 0)]
    assert merged.student.stops[-1] == chunks.student.stops[-1]
    assert merged.teacher.after[-1] == -1
    with pytest.raises(ValueError):
        chunks.merged(torch.ones(3, dtype=torch.bool))


def test_nothing():
    chunks = aligned_chunks([])
    assert len(chunks) == 0 and len(chunks.merged(torch.zeros(0, dtype=torch.bool))) == 0
    assert aligned_starts([]).shape == aligned_ends([]).shape == observed_at([]).shape == (0, 2)


def test_unknown_weights():
    with pytest.raises(ValueError):
        aligned_chunks([]).weights("words")
