"""How often documents are read in an epoch, and in which order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.train.mixing import Epochs


@given(st.lists(st.floats(0.05, 4), min_size=1, max_size=12), st.integers(0, 99))
def test_over_many_epochs_each_document_is_read_as_its_weight_says(weights, seed):
    epochs = Epochs(np.full(len(weights), 7), np.array(weights, np.float32), 5, seed)
    total = sum(epochs.times(epoch) for epoch in range(50))
    assert np.all(np.abs(total - 50 * np.array(weights)) < 1.01)
    for epoch in range(3):
        order = epochs.order(epoch)
        assert (np.bincount(order, minlength=len(weights)) == epochs.times(epoch)).all()
        assert (order == Epochs(epochs.lengths, epochs.weights, 5, seed).order(epoch)).all()


@given(st.lists(st.floats(0.3, 2), min_size=2, max_size=6), st.integers(2, 9))
def test_blocks_are_numbered_through_all_epochs(weights, context):
    epochs = Epochs(np.full(len(weights), 20), np.array(weights, np.float32), context, 0)
    places = [epochs.locate(number) for number in range(60)]
    assert places == sorted(set(places)) and [epochs.locate(number) for number in (59, 3)] == [places[59], places[3]]
    for epoch, number in places:
        assert (number + 1) * context + 1 <= int((epochs.lengths * epochs.times(epoch)).sum())


def test_without_weights_an_epoch_is_the_text_once():
    epochs = Epochs(np.array([5, 6, 7]), None, 4, 1)
    assert sorted(epochs.order(3)) == [0, 1, 2] and epochs.blocks_per_epoch == 4
    assert [epochs.locate(number) for number in (3, 4)] == [(0, 3), (1, 0)]
