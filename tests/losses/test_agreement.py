"""Agreement with TRL's and Liger's own functions, where those are installed."""

import pytest
import torch
import torch.nn.functional as F

from tests.losses.plain import case
from vocabalign.losses.divergences import JensenShannon
from vocabalign.losses.fused import IGNORE, Head, fused_loss

BETAS = [0.0, 0.1, 0.5, 0.9, 1.0]


def ours(x, w, labels, teacher_hidden, teacher_head, beta, temperature, **more):
    return fused_loss(
        x,
        Head(w),
        labels,
        teacher_hidden=teacher_hidden,
        teacher_head=teacher_head,
        divergence=JensenShannon(beta),
        temperature=temperature,
        **{"weight": 1.0, **more},
    ).loss


def setting(dtype):
    hidden, head, labels, teacher_hidden, teacher_head = case(vt=17, dtype=dtype)
    x, w = hidden.clone().requires_grad_(), head.weight.clone().requires_grad_()
    return x, w, labels, teacher_hidden, teacher_head


def compare(loss, other, wanted, **tolerance):
    torch.testing.assert_close(loss, other.reshape(()), **tolerance)
    for a, b in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(other, wanted)):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gkd_of_trl(beta, temperature):
    trainer = pytest.importorskip("trl.experimental.gkd.gkd_trainer")
    x, w, labels, teacher_hidden, teacher_head = setting(torch.float64)
    theirs = trainer.GKDTrainer.generalized_jsd_loss(
        (x @ w.T)[None], (teacher_hidden @ teacher_head.weight.T)[None], labels[None], beta, temperature
    )
    mine = ours(x, w, labels, teacher_hidden, teacher_head, beta, temperature, squared_temperature=False)
    compare(mine, theirs, [x, w], rtol=1e-6, atol=1e-8)  # TRL's beta is float32 in its logarithms


@pytest.mark.parametrize("beta", BETAS)
def test_chunked_divergence_of_trl(beta):
    trainer = pytest.importorskip("trl.trainer.distillation_trainer")
    x, w, labels, teacher_hidden, teacher_head = setting(torch.float32)
    theirs, *_ = trainer._chunked_divergence_loss(
        x[None],
        teacher_hidden[None],
        w,
        teacher_head.weight,
        (labels != IGNORE)[None],
        beta,
        num_items_in_batch=7,
        student_final_logit_softcapping=5.0,
        teacher_final_logit_softcapping=5.0,
        student_logit_scale=0.5,
        temperature=2.0,
    )
    mine = fused_loss(
        x,
        Head(w, scale=0.5, softcap=5.0),
        labels,
        num_items=7,
        teacher_hidden=teacher_hidden,
        teacher_head=Head(teacher_head.weight, softcap=5.0),
        divergence=JensenShannon(beta),
        weight=1.0,
        temperature=2.0,
        squared_temperature=False,
    ).loss
    compare(mine, theirs, [x, w], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_chunked_jensen_shannon_of_liger(beta, temperature):
    liger = pytest.importorskip("liger_kernel.chunked_loss.jsd_loss")
    x, w, labels, teacher_hidden, teacher_head = setting(torch.float32)
    loss = liger.LigerFusedLinearJSDLoss(0.4, 0.6, beta, temperature=temperature, compiled=False)
    theirs = loss(x, w, teacher_hidden, teacher_head.weight, labels)
    hard = F.cross_entropy(x @ w.T, labels)
    # Liger multiplies by no T^2.
    mine = ours(x, w, labels, teacher_hidden, teacher_head, beta, temperature, weight=0.6, squared_temperature=False)
    assert mine > 0.4 * hard
    compare(mine, theirs, [x, w], rtol=1e-4, atol=1e-6)
