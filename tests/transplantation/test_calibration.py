import numpy as np
import torch

from vocabalign.transplantation.calibration import CorpusCounts, count_shift, padding_row, rank_shift
from vocabalign.transplantation.rows import Pieces


def shifts(source, target, scale=1):
    pieces = Pieces.from_lists([[0], [0], [1, 2], [2], [2]])
    return count_shift(pieces, CorpusCounts(np.array(source) * scale, np.array(target) * scale, [], 1))


def test_a_piece_that_was_never_seen_counts_as_one_of_average_use():
    counts = [0, 10, 30], [2000, 0, 10, 7, 5]
    shift = shifts(*counts)
    np.testing.assert_allclose(shift[:2], [np.log(2000.02 / 20), np.log(0.02)], rtol=1e-5)
    np.testing.assert_allclose(shift[3], np.log(7.02 / 31), rtol=1e-5)
    # More of the same text is no more evidence.
    np.testing.assert_allclose(shifts(*counts, scale=1000)[0], shift[0], atol=1e-4)
    assert shifts([0, 10, 30], [15, 0, 10, 7, 5])[0] == 0


def test_padding_is_as_deep_in_logits_whatever_the_scale():
    head, states = torch.randn(5, 3), torch.tensor([[1.0, 0.2, 0.1], [1.0, -0.1, 0.3]])
    direction = torch.tensor([1.0, 0.0, 0.0])
    depths = [(padding_row(head, direction, states, s) - padding_row(head, direction, states, 1e9)) for s in (1, 0.125)]
    torch.testing.assert_close(depths[0][0] * 8, depths[1][0])


def test_by_rank_new_tokens_share_what_their_first_piece_has_and_copies_stay():
    pieces = Pieces.from_lists([[0], [1, 2], [0, 2], [], [0, 1], [1]])
    new = np.array([False, True, True, False, True, False])
    shift = rank_shift(pieces, new)
    assert not shift[~new].any()
    every = np.exp(rank_shift(pieces, np.ones(6, bool)))
    np.testing.assert_allclose([every[[0, 2, 4]].sum(), every[[1, 5]].sum()], 1, rtol=1e-6)
    assert shift[2] > shift[4]  # the earlier id is the commoner token
    np.testing.assert_allclose(np.exp(shift[[1, 2, 4]]), every[[1, 2, 4]], rtol=1e-6)


def test_imagined_uses_lead_from_counts_to_the_order_of_ids():
    """None are the counts alone, very many the ranks alone; a family's shares add up to about 1 in between."""
    pieces = Pieces.from_lists([[0], [0, 1], [0, 2], [1], [1, 0], [2]])
    source, target = np.array([60.0, 40, 7]), np.array([30.0, 30, 0, 40, 0, 7])

    def shift(imagined):
        return count_shift(pieces, CorpusCounts(source, target, [], 1, imagined=imagined))

    counted, ranked = shift(0.0), rank_shift(pieces, np.ones(6, bool))
    np.testing.assert_allclose(shift(1e9)[:5], ranked[:5], atol=1e-5)
    assert counted[5] == shift(30.0)[5] == 0  # alone in its family and used as often as its piece
    for imagined in (1.0, 30.0, 1000.0):
        shares = np.exp(shift(imagined))
        np.testing.assert_allclose([shares[:3].sum(), shares[3:5].sum()], 1, rtol=1e-6)
        # A token that the text lacks is the better believed the less the text is.
        assert counted[2] < shift(imagined)[2] < ranked[2]
    unused = count_shift(pieces, CorpusCounts(np.array([0.0, 40, 7]), target, [], 1, imagined=30.0))
    assert unused[0] <= np.log(30.02 / 23.5) + 1e-6  # a piece of average use stands for one that was never seen
