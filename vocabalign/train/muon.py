"""Muon: the momentum of a matrix, made orthogonal before it is added.

A step of Adam on a matrix is mostly a few large directions; the orthogonal factor of the momentum gives all of them the
same length, so that the rare ones are learned too. It is for the matrices of the body alone. Embedding and head rows,
of which a step uses some, and vectors (norms, biases) keep AdamW.

References:
    Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks" (the iteration, its coefficients);
    Liu et al. (2025), "Muon is scalable for LLM training", section 2.2 (an update as large as Adam's, so that both
    take the same learning rate).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vocabalign.train.head import embedding_rows, read_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["MuonWithAdamW", "body_matrices", "make_optimizer", "orthogonalised"]

MOMENTUM = 0.95
ITERATIONS = 5
# Of the quintic x -> a x + b x^3 + c x^5 that brings singular values near 1: steep at 0 rather than exact at 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# Root mean square of an update of Adam's by experience.
ADAMS_SIZE = 0.2


def orthogonalised(matrices: Tensor) -> Tensor:
    """The orthogonal factors of some matrices, nearly: singular values between 0.7 and 1.2.

    Args:
        matrices: (N, A, B); bfloat16 on CUDA is enough, as in the reference.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None]
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def body_matrices(model: PreTrainedModel) -> list[nn.Parameter]:
    """Matrices that are trained and neither embeddings of any kind nor the head."""
    rows = {id(embedding_rows(model)), id(read_head(model).weight)}
    rows |= {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return [p for p in model.parameters() if p.requires_grad and p.ndim == 2 and id(p) not in rows]


class MuonWithAdamW(Optimizer):
    """One optimizer with two ways: Muon for some matrices, AdamW for all else; both at the same learning rate.

    Args:
        groups: of parameters, each with its ``weight_decay`` and ``orthogonal``: whether its parameters are matrices
            for Muon.
        lr: learning rate.
        betas: AdamW's moments.
        fused: AdamW in one kernel, where the device has it.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, *, betas: tuple[float, float], fused: bool = False
    ) -> None:
        super().__init__([{"lr": lr, **group} for group in groups if group["params"]], {})
        self._adam: AdamW | None = None
        others = [group for group in self.param_groups if not group["orthogonal"]]
        if others:
            self._adam = AdamW(others, lr=lr, betas=betas, fused=fused or None)
            for group, complete in zip(others, self._adam.param_groups, strict=True):
                group.update(complete)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Add an update to every parameter that has a gradient."""
        for group in self.param_groups:
            if group["orthogonal"]:
                self._step_matrices(group)
        if self._adam is not None:
            # One state and one schedule for both, also after a checkpoint was read.
            self._adam.state = self.state
            self._adam.param_groups = [group for group in self.param_groups if not group["orthogonal"]]
            self._adam.step()

    def _step_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                alike.setdefault(tuple(parameter.shape), []).append(parameter)
        for shape, parameters in alike.items():
            updates = orthogonalised(
                torch.stack([self._momentum(parameter, parameter.grad) for parameter in parameters])
            )
            size = ADAMS_SIZE * max(shape) ** 0.5
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * size)

    def _momentum(self, parameter: Tensor, gradient: Tensor | None) -> Tensor:
        """Nesterov's: the gradient and what came before it."""
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(MOMENTUM).add_(gradient)
        return gradient.add(momentum, alpha=MOMENTUM)


def make_optimizer(
    model: PreTrainedModel,
    decayed: Iterable[str],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    fused: bool = False,
) -> MuonWithAdamW:
    """The optimizer of all that is trained; ``decayed`` names the parameters with weight decay."""
    matrices = {id(parameter) for parameter in body_matrices(model)}
    names = frozenset(decayed)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in matrices, name in names), []).append(parameter)
    described = [
        {"params": group, "orthogonal": orthogonal, "weight_decay": weight_decay if decays else 0.0}
        for (orthogonal, decays), group in groups.items()
    ]
    return MuonWithAdamW(described, lr, betas=betas, fused=fused)
