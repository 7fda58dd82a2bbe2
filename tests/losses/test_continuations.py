"""The trie of continuations against the cuts of its tokens, and rows against the bytes that were read."""

import torch

from tests.losses.toy import LARGE, SMALL, document, texts, vocabulary
from vocabalign.losses.continuations import Continuations
from vocabalign.text.segmentation import segment_many

STUDENT, TEACHER = vocabulary([*LARGE, b"abab"]), vocabulary(SMALL)
TRIE = Continuations(STUDENT, TEACHER)


def cuts():
    """Student id -> the teacher's pieces."""
    tokens = [(i, token) for i, token in enumerate(STUDENT.token_bytes) if token]
    return {i: cut for (i, _), cut in zip(tokens, segment_many(TEACHER, [token for _, token in tokens]), strict=True)}


def prefixes():
    """Node -> prefix, by what is below each: the longest prefix that all members have in common and that is inside."""
    table, found = cuts(), {}
    for node in range(len(TRIE)):
        members = [table[int(i)] for i in TRIE.members[TRIE.members_at[node] : TRIE.members_at[node + 1]]]
        wanted = [
            tuple(member[:size])
            for member in members
            for size in range(1, len(member))
            if sorted(i for i, cut in table.items() if cut[:size] == member[:size])
            == sorted(TRIE.members[TRIE.members_at[node] : TRIE.members_at[node + 1]].tolist())
        ]
        found[node] = set(wanted)
    return found


def test_every_inner_node_is_there_once():
    table = cuts()
    inner = {tuple(cut[:size]) for cut in table.values() for size in range(1, len(cut))}
    assert len(TRIE) == len(inner)
    assert all(found <= inner and found for found in prefixes().values())


def test_rows_are_where_the_teacher_is_inside_a_token():
    documents, expected = [], 0
    for text in texts(5):
        if len(documents) < 200:
            found = document(STUDENT, TEACHER, text)
            documents.append(found)
            expected += int(((found.alignment.ct_end - found.alignment.ct_start) > 1).sum())
            rows = TRIE.rows([found])
            for mine, theirs, node in rows.tolist():
                token = int(found.student_ids[mine + 1])
                before = b"".join(STUDENT.token_bytes[i] or b"" for i in found.student_ids[: mine + 1].tolist())
                read = b"".join(TEACHER.token_bytes[i] or b"" for i in found.teacher_ids[: theirs + 1].tolist())
                inside = read[len(before) :]
                assert 0 < len(inside) <= len(STUDENT.token_bytes[token])
                assert STUDENT.token_bytes[token].startswith(inside)
                pieces = [int(i) for i in TRIE.members[TRIE.members_at[node] : TRIE.members_at[node + 1]]]
                assert token in pieces
                assert all(STUDENT.token_bytes[i].startswith(inside) for i in pieces)
    assert 0 < len(TRIE.rows(documents))


def test_rows_of_a_batch_are_those_of_its_documents_where_they_are():
    one, two = (document(STUDENT, TEACHER, text) for text in ("abab", " ab"))
    from dataclasses import replace

    moved = replace(two, student_at=10, teacher_at=20)
    rows = TRIE.rows([one, moved])
    assert torch.equal(rows, torch.cat([TRIE.rows([one]), TRIE.rows([two]) + torch.tensor([10, 20, 0])]))


def test_one_vocabulary_has_no_continuations():
    trie = Continuations(TEACHER, TEACHER)
    assert len(trie) == 0 and len(trie.rows([document(TEACHER, TEACHER, "ab a")])) == 0
