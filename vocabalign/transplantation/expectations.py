"""What a head expects to follow: streamed over positions, so that no positions × vocabulary is ever held whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK_POSITIONS = 1024


@dataclass(frozen=True)
class Head:
    """What turns hidden states into logits; T tokens.

    Attributes:
        rows: (T, H) in any floating dtype.
        bias: (T,), or None.
        scale: what the model multiplies the products by.
        soft_cap: logits are ``cap * tanh(logits / cap)``; 0 for none.
        device: where products are made.
    """

    rows: Tensor
    bias: Tensor | None
    scale: float
    soft_cap: float
    device: torch.device

    @torch.no_grad()
    def expect(self, states: Tensor) -> Tensor:
        """(T,) float64 sum over positions of each token's probability, for (N, H) states."""
        rows, bias = self._moved()
        total = torch.zeros(len(rows), dtype=torch.float64, device=self.device)
        for begin in range(0, len(states), _BLOCK_POSITIONS):
            logits = self._logits(states[begin : begin + _BLOCK_POSITIONS], rows, bias)
            total += logits.softmax(dim=1).sum(0)
        return total.cpu()

    @torch.no_grad()
    def nats(self, states: Tensor, followers: Tensor) -> float:
        """Nats of the (N,) tokens that follow (N, H) states."""
        rows, bias = self._moved()
        nats = 0.0
        for begin in range(0, len(states), _BLOCK_POSITIONS):
            block = slice(begin, begin + _BLOCK_POSITIONS)
            logits = self._logits(states[block], rows, bias)
            chosen = logits.gather(1, followers[block, None].to(self.device))
            nats += float((logits.logsumexp(1, keepdim=True) - chosen).sum())
        return nats

    @torch.no_grad()
    def moments(self, states: Tensor) -> tuple[Tensor, Tensor, float]:
        """How often each token is expected, and behind which states.

        Args:
            states: (N, H) float32.

        Returns:
            (T,) float32 sum over positions of each token's probability, (T, H) float32 the states weighted by these
            and added up, and the sum over positions of the logarithm of the normaliser.
        """
        rows, bias = self._moved()
        total = torch.zeros(len(rows), device=self.device)
        sums = torch.zeros(rows.shape, device=self.device)
        norms = 0.0
        for begin in range(0, len(states), _BLOCK_POSITIONS):
            block = states[begin : begin + _BLOCK_POSITIONS].to(self.device)
            logits = self._logits(block, rows, bias)
            norm = logits.logsumexp(1, keepdim=True)
            norms += float(norm.double().sum())
            shares = logits.sub_(norm).exp_()
            total += shares.sum(0)
            sums.addmm_(shares.T, block)
        return total.cpu(), sums.cpu(), norms

    @torch.no_grad()
    def probabilities(self, states: Tensor) -> Tensor:
        """(N, T) float32 for (N, H) states, all at once."""
        return self._logits(states, *self._moved()).softmax(dim=1)

    @torch.no_grad()
    def log_probabilities(self, states: Tensor) -> Tensor:
        """(N, T) float32 for (N, H) states, all at once, where products are made."""
        return self._logits(states, *self._moved()).log_softmax(dim=1)

    def _moved(self) -> tuple[Tensor, Tensor | None]:
        """Rows and bias where products are made."""
        bias = None if self.bias is None else self.bias.to(self.device, torch.float32)
        return self.rows.to(self.device, torch.float32), bias

    def _logits(self, states: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
        logits = states.to(self.device) @ rows.T
        if bias is not None:
            logits += bias
        logits *= self.scale
        return self.soft_cap * torch.tanh(logits / self.soft_cap) if self.soft_cap else logits
