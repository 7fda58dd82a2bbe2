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
    def expect(self, states: Tensor, followers: Tensor | None = None) -> tuple[Tensor, float]:
        """What the head expects, and how well it does.

        Args:
            states: (N, H) float32.
            followers: (N,) the tokens that really follow; None where only expectations are asked for.

        Returns:
            (T,) float64 sum over positions of each token's probability, and the nats of the followers.
        """
        rows = self.rows.to(self.device, torch.float32)
        bias = None if self.bias is None else self.bias.to(self.device, torch.float32)
        total = torch.zeros(len(rows), dtype=torch.float64, device=self.device)
        nats = 0.0
        for begin in range(0, len(states), _BLOCK_POSITIONS):
            block = slice(begin, begin + _BLOCK_POSITIONS)
            logits = states[block].to(self.device) @ rows.T
            if bias is not None:
                logits += bias
            logits *= self.scale
            if self.soft_cap:
                logits = self.soft_cap * torch.tanh(logits / self.soft_cap)
            norm = logits.logsumexp(1, keepdim=True)
            if followers is not None:
                nats += float((norm - logits.gather(1, followers[block, None].to(self.device))).sum())
            total += logits.sub_(norm).exp_().sum(0)
        return total.cpu(), nats
