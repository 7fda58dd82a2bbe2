import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.transplantation.expectations import Head
from vocabalign.transplantation.head_wishes import LEAST_AGREEMENT, SOURCE_SHARE, find_wishes
from vocabalign.transplantation.running import Document

CPU = torch.device("cpu")
NUM_SOURCES, NUM_TARGETS, HIDDEN = 7, 9, 4


def setting(lengths, seed):
    """Documents whose cuts meet at random places, with random states, and the source's head."""
    draw = np.random.default_rng(seed)
    documents, states, of_source = [], [], []
    for length in lengths:
        sizes = length + 1, int(draw.integers(2, length + 3))
        meets = int(draw.integers(1, min(sizes)))
        ends = [np.sort(draw.choice(np.arange(1, size), meets, replace=False)) for size in sizes]
        target, source = draw.integers(NUM_TARGETS, size=sizes[0]), draw.integers(NUM_SOURCES, size=sizes[1])
        documents.append(Document(source, target, ends[1], ends[0], 10))
        states.append(torch.from_numpy(draw.normal(size=(sizes[0], HIDDEN))).float())
        of_source.append(torch.from_numpy(draw.normal(size=(sizes[1], HIDDEN))).float())
    rows = torch.from_numpy(draw.normal(size=(NUM_SOURCES, HIDDEN))).float()
    return documents, states, of_source, Head(rows, None, 1.0, 0.0, CPU)


def slow_wishes(documents, states, of_source, head):
    """(T,) uses and (T, H) sums, place by place."""
    begins = np.zeros((NUM_SOURCES, NUM_TARGETS))
    for document in documents:
        for t, s in zip([0, *document.target_ends], [0, *document.source_ends], strict=True):
            if t + 1 < len(document.target) and s + 1 < len(document.source):
                begins[document.source[s + 1], document.target[t + 1]] += 1
    known = [row.sum() > 0 and row.max() >= LEAST_AGREEMENT * row.sum() for row in begins]
    uses, sums = np.zeros(NUM_TARGETS), np.zeros((NUM_TARGETS, HIDDEN))
    for document, rows, source_rows in zip(documents, states, of_source, strict=True):
        meets = dict(zip([0, *document.target_ends], [0, *document.source_ends], strict=True))
        for place, follower in enumerate(document.target[1:]):
            wish = np.zeros(NUM_TARGETS)
            if place in meets and meets[place] + 1 < len(document.source):
                opinion = (source_rows[meets[place]] @ head.rows.T).softmax(0).numpy()
                for s in np.flatnonzero(known):
                    wish += SOURCE_SHARE * opinion[s] * begins[s] / begins[s].sum()
            wish[follower] += 1 - wish.sum()
            uses += wish
            sums += wish[:, None] * rows[place].numpy()
    return uses, sums


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 1000))
def test_wishes_are_those_of_a_loop_over_places(lengths, seed):
    documents, states, of_source, head = setting(lengths, seed)
    found = find_wishes(documents, states, of_source, head)
    uses, sums = slow_wishes(documents, states, of_source, head)
    assert found.ids.tolist() == sorted({int(i) for d in documents for i in d.target[1:]})
    assert found.uses.sum().item() == pytest.approx(sum(lengths), rel=1e-5)
    torch.testing.assert_close(found.uses, torch.from_numpy(uses).float()[found.ids], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.sums, torch.from_numpy(sums).float()[found.ids], rtol=1e-4, atol=1e-4)


def test_a_token_of_many_beginnings_is_left_to_the_text():
    """One source token, of which two target tokens begin in turn: only followers count."""
    target = np.array([0, 1, 2, 1, 2])
    document = Document(np.zeros(5, np.int64), target, np.arange(1, 5), np.arange(1, 5), 4)
    states = [torch.eye(5)[:, :4]]
    found = find_wishes([document], states, states, Head(torch.zeros(1, 4), None, 1.0, 0.0, CPU))
    assert found.uses.tolist() == [2.0, 2.0]
    assert found.sums.tolist() == [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
