"""The Triton kernel against the eager code: in Triton's interpreter, or on a GPU where there is one."""

import os

import pytest
import torch

from tests.losses.plain import case
from vocabalign.losses.divergences import DIVERGENCES, ForwardKL, JensenShannon, SkewedKL
from vocabalign.losses.fused import Head, fused_loss
from vocabalign.losses.mixture import MixtureRows

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before triton compiles anything
pytest.importorskip("triton")
from vocabalign.losses import triton_rows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SUPPORTED = {
    **{name: divergence for name, divergence in DIVERGENCES.items() if triton_rows.kind_of(divergence)},
    "skew 0.5": SkewedKL(0.5),
    "beta 0.1": JensenShannon(0.1),
    "beta 0": JensenShannon(0.0),
}


def rows(divergence, n=5, weight=0.6, temperature=1.0, shared=150, coefficient=1.0):
    labels = torch.arange(n, device=DEVICE) * 7
    return MixtureRows(labels, ((divergence, coefficient),), weight, temperature, 1.3, 2.0, False, shared, None)


def logits(seed, n, v, spread):
    return (spread * torch.randn(n, v, generator=torch.Generator().manual_seed(seed))).to(DEVICE)


def by_kernel(row_loss, z, t, gradient):
    return row_loss.by_kernel(z, t, slice(0, len(z)), gradient, triton_rows.kind_of(row_loss.terms[0][0]))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(triton_rows, "BLOCK", 64)
    monkeypatch.setattr(triton_rows, "WARPS", 1)


def test_all_but_the_adaptive_kl_have_a_branch():
    assert {*DIVERGENCES} - {*SUPPORTED} == {"adaptive-kl"}


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("spread", [0.3, 100.0])
@pytest.mark.parametrize("weight,temperature,shared", [(0.6, 1.0, 150), (0.3, 0.7, 130)])
def test_values_and_gradient_are_those_of_the_eager_code(name, spread, weight, temperature, shared):
    row_loss = rows(SUPPORTED[name], weight=weight, temperature=temperature, shared=shared, coefficient=1.7)
    z, t = logits(0, 5, 150, spread), logits(1, 5, shared, spread)
    z[:, 40], t[:, 41] = -1e30, -1e30
    for gradient in (False, True):
        mine, theirs = z.clone(), z.double()
        values = by_kernel(row_loss, mine, t.clone(), gradient)
        expected = row_loss([theirs, t.double()], slice(0, 5), gradient)
        finite = expected.isfinite()
        torch.testing.assert_close(values.double()[finite], expected[finite], rtol=1e-4, atol=1e-4)
        usable = expected[-1].isfinite() if gradient else slice(0, 0)
        torch.testing.assert_close(mine.double()[usable], theirs[usable], rtol=1e-3, atol=3e-5 * max(1, spread / 10))


@pytest.mark.parametrize("name", SUPPORTED)
def test_identity_is_exactly_zero(name):
    row_loss = MixtureRows(
        torch.zeros(4, dtype=torch.int64, device=DEVICE),
        ((SUPPORTED[name], 1.0),),
        1.0,
        2.0,
        1.0,
        4.0,
        False,
        150,
        None,
    )
    for spread in (0.1, 100.0):
        z = logits(2, 4, 150, spread)
        values = by_kernel(row_loss, z, z.clone(), True)
        assert not values[0].any() and not values[2].any() and not z.any()


def test_a_label_outside_the_vocabulary_gives_no_number():
    row_loss = MixtureRows(
        torch.tensor([150, -1, 3], device=DEVICE), ((ForwardKL(), 1.0),), 0.5, 1.0, 1.0, 1.0, False, 150, None
    )
    z = logits(2, 3, 150, 1.0)
    values = by_kernel(row_loss, z, z.clone(), False)
    assert values[0].isnan().tolist() == [True, True, False]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SUPPORTED)
def test_on_a_gpu_the_whole_loss_agrees_with_the_cpu(name):
    hidden, head, labels, teacher_hidden, teacher_head = case(n=70, h=32, ht=48, v=5000, vt=5000, dtype=torch.float32)

    def run(device):
        x, w = hidden.to(device).requires_grad_(), (head.weight / 6).to(device).requires_grad_()
        loss = fused_loss(
            x,
            Head(w),
            labels.to(device),
            teacher_hidden=teacher_hidden.to(device),
            teacher_head=Head((teacher_head.weight / 6).to(device)),
            divergence=SUPPORTED[name],
            weight=0.5,
        ).loss
        return [value.cpu() for value in (loss, *torch.autograd.grad(loss, [x, w]))]

    torch.backends.cuda.matmul.allow_tf32 = False
    for a, b in zip(run("cuda"), run("cpu")):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
