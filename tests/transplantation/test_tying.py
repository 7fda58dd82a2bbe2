import pytest
import torch
from scipy import sparse

from vocabalign.transplantation.calibration import second_moments
from vocabalign.transplantation.tying import tie

WEIGHTS = sparse.identity(6, dtype="float32", format="csr")


def matrices():
    draw = torch.Generator().manual_seed(0)
    inputs, heads = torch.randn(6, 4, generator=draw), torch.randn(6, 4, generator=draw)
    heads[2] = inputs[2]
    return inputs, heads, torch.randn(50, 4, generator=draw) * torch.tensor([3.0, 1.0, 0.1, 0.0])


@pytest.mark.parametrize("weight", [0.1, 0.5, 2.0])
def test_no_row_near_the_tied_one_is_better(weight):
    inputs, heads, states = matrices()
    moments = second_moments(states)

    def cost(rows):
        return (weight * (rows - inputs).square().sum() + ((rows - heads) @ moments * (rows - heads)).sum()).item()

    tied = tie(inputs, heads, WEIGHTS, WEIGHTS, states, weight)
    draw = torch.Generator().manual_seed(1)
    for _ in range(20):
        assert cost(tied + 0.05 * torch.randn(tied.shape, generator=draw)) > cost(tied)


def test_a_row_that_is_the_same_for_both_uses_stays_bit_for_bit():
    inputs, heads, states = matrices()
    assert torch.equal(tie(inputs, heads, WEIGHTS, WEIGHTS, states, 0.5)[2], inputs[2])
    assert torch.equal(tie(inputs, heads, WEIGHTS, WEIGHTS, None, 0.5), heads)
    half = tie(inputs, heads, WEIGHTS, 2 * WEIGHTS, None, 0.5)
    assert torch.equal(half[2], inputs[2])
    torch.testing.assert_close(half, (inputs + heads) / 2)


def test_the_more_the_input_weighs_the_nearer_the_row_is_to_it():
    inputs, heads, states = matrices()
    away = [(tie(inputs, heads, WEIGHTS, WEIGHTS, states, weight) - inputs).norm() for weight in (0.1, 0.5, 1.0, 2.0)]
    assert away == sorted(away, reverse=True)
