"""Learning rates of single rows: a multiple for all of them, and less for tokens that text seldom uses.

Adam divides by the size of past gradients, so a row that is used once in a hundred steps moves as far at that one step
as a frequent row does after averaging over many, and a head row that is never used moves at every step in whatever
direction the softmax pushes it. What a step adds to a row is therefore multiplied afterwards. For AdamW that is the
same as another learning rate; nothing is kept between steps, so a run that goes on needs to know nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

from vocabalign.errors import ConfigError
from vocabalign.train.data import Blocks
from vocabalign.train.head import embedding_rows, read_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerControl, TrainerState, TrainingArguments

__all__ = ["RowRates", "row_factors"]

_COUNTED = 1 << 24


def row_factors(blocks: Blocks, tokens_per_step: int, num_rows: int, factor: float, power: float) -> Tensor:
    """(V, 1) float32: ``factor * min(1, uses in a step) ** power`` for each row.

    Args:
        blocks: the text; uses are counted over all of it, with the weights of documents left aside.
        tokens_per_step: tokens of an optimizer step over all ranks.
        num_rows: V.
        factor: of all rows.
        power: 0 for the same rate for all; 1 for rates in proportion to the uses.
    """
    if not power:
        return torch.full((num_rows, 1), factor)
    ids, counts = blocks.documents.ids, np.zeros(num_rows, dtype=np.int64)
    for start in range(0, len(ids), _COUNTED):
        counts += np.bincount(ids[start : start + _COUNTED], minlength=num_rows)[:num_rows]
    uses = counts * (tokens_per_step / max(1, len(ids)))
    return torch.from_numpy(factor * np.minimum(1.0, uses) ** power).float()[:, None]


class RowRates(TrainerCallback):
    """Multiplies what each step adds to embedding and head rows.

    Args:
        factors: (V, 1) of each row; rows of a matrix beyond V keep the rate.
    """

    def __init__(self, factors: Tensor) -> None:
        self.factors = factors
        self.before: list[tuple[Tensor, Tensor]] = []
        self.handles: list[Any] = []

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        """Hang on to the optimizer's steps.

        Raises:
            ConfigError: rows are spread over ranks.
        """
        if args.fsdp or args.deepspeed:
            raise ConfigError(
                "Rates of single rows need whole matrices on each rank: leave rows_rate_factor and rare_rows_power "
                "at their defaults with FSDP or DeepSpeed."
            )
        inner = getattr(optimizer, "optimizer", optimizer)
        rows = trained_rows(getattr(model, "module", model))
        self.handles = [
            inner.register_step_pre_hook(lambda *_: self._keep(rows)),
            inner.register_step_post_hook(lambda *_: self._scale()),
        ]

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let go."""
        for handle in self.handles:
            handle.remove()
        self.handles, self.before = [], []

    def _keep(self, rows: list[Tensor]) -> None:
        self.before = [(matrix, matrix.detach().clone()) for matrix in rows]

    @torch.no_grad()
    def _scale(self) -> None:
        for matrix, old in self.before:
            count = min(len(matrix), len(self.factors))
            factors = self.factors[:count].to(matrix.device)
            matrix[:count] = old[:count] + factors * (matrix[:count] - old[:count])
        self.before = []


def trained_rows(model: PreTrainedModel) -> list[Tensor]:
    """Embedding and head rows that are trained; a tied matrix once."""
    matrices = {id(matrix): matrix for matrix in (embedding_rows(model), read_head(model).weight)}
    return [matrix for matrix in matrices.values() if matrix.requires_grad]
