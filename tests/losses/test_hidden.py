"""Hidden-state matching."""

import pytest
import torch

from vocabalign.losses.hidden import MEASURES, hidden_loss

NAMES = sorted(MEASURES)


def states(rows=6, width=5, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_values():
    a, b = states(), states(seed=1)
    relative = ((a - b) ** 2).sum() / (b**2).sum()
    torch.testing.assert_close(hidden_loss(a, b), relative)
    cosine = 1 - torch.nn.functional.cosine_similarity(a, b).mean()
    torch.testing.assert_close(hidden_loss(a, b, measure="cosine"), cosine)
    assert hidden_loss(torch.zeros_like(b), b) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck_with_a_projector(name):
    a, b = states().requires_grad_(), states(width=4, seed=1)
    projector = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, p: hidden_loss(x, b, measure=name, projector=p), (a, projector))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_identity_is_exactly_zero(name, dtype):
    a = states().to(dtype).requires_grad_()
    loss = hidden_loss(a, a.detach(), measure=name)
    loss.backward()
    assert loss == 0 and not a.grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_weights_order_and_rotation(name):
    a, b = states(), states(seed=1)
    expected = hidden_loss(a, b, measure=name)
    order = torch.randperm(6)
    rotation = torch.linalg.qr(states(5, 5, 2))[0]
    torch.testing.assert_close(hidden_loss(a[order], b[order], measure=name), expected)
    torch.testing.assert_close(hidden_loss(a @ rotation, b @ rotation, measure=name), expected)
    torch.testing.assert_close(hidden_loss(a, b, measure=name, weights=torch.ones(6)), expected)
    torch.testing.assert_close(hidden_loss(a, b, measure=name, num_items=torch.tensor(12)) * 2, expected)


def test_no_places_and_no_gradient_of_the_teacher():
    a, b = states().requires_grad_(), states(seed=1).requires_grad_()
    loss = hidden_loss(a[:0], b[:0])
    loss.backward()
    assert loss == 0 and not a.grad.any()
    hidden_loss(a, b).backward()
    assert a.grad.any() and b.grad is None
    zero = hidden_loss(a, b, weights=torch.zeros(6))
    assert zero == 0


@pytest.mark.parametrize(
    "teacher,more",
    [
        (states(5), {}),
        (states(6, 4), {}),
        (states(), dict(measure="nonsense")),
        (states(), dict(projector=torch.zeros(4, 5))),
        (states(), dict(weights=torch.ones(5))),
        (states() * torch.nan, {}),
    ],
)
def test_bad_input_is_refused(teacher, more):
    with pytest.raises(ValueError):
        hidden_loss(states(), teacher, **more)
