import pytest
import torch

from vocabalign.transplantation.expectations import Head

CPU = torch.device("cpu")


@pytest.mark.parametrize("soft_cap", [0.0, 3.0])
def test_expectations_are_sums_of_the_softmax(soft_cap):
    torch.manual_seed(0)
    states, rows, bias, followers = torch.randn(30, 8), torch.randn(11, 8), torch.randn(11), torch.randint(11, (30,))
    head = Head(rows, bias, 0.5, soft_cap, CPU)
    expected, nats = head.expect(states), head.nats(states, followers)
    logits = (states @ rows.T + bias) * 0.5
    logits = soft_cap * torch.tanh(logits / soft_cap) if soft_cap else logits
    torch.testing.assert_close(expected, logits.softmax(1).sum(0).double(), rtol=1e-5, atol=1e-6)
    assert nats == pytest.approx(torch.nn.functional.cross_entropy(logits, followers, reduction="sum").item(), rel=1e-5)


def test_moments_are_the_softmax_with_the_states_and_the_normaliser():
    torch.manual_seed(0)
    states, rows, bias = torch.randn(30, 8), torch.randn(11, 8), torch.randn(11)
    head = Head(rows, bias, 0.5, 0.0, CPU)
    expected, sums, norm = head.moments(states)
    logits = (states @ rows.T + bias) * 0.5
    torch.testing.assert_close(head.probabilities(states), logits.softmax(1))
    torch.testing.assert_close(expected, logits.softmax(1).sum(0))
    torch.testing.assert_close(sums, logits.softmax(1).T @ states)
    assert norm == pytest.approx(logits.logsumexp(1).sum().item(), rel=1e-5)
