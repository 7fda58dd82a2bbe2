"""Whether a text is of the model's own domain: does it surprise the model more than the model expects?

The entropy of a prediction is how many nats the model expects the next token to cost. Where the text is of the kind
that the model has learned from, it costs about as much on average, and on text that the model writes itself exactly
so much. So the difference needs no other model, no second text and no idea of what the model's domain is. On four
models it is -0.05 to 0.44 nats a token where the text is of their domain (stories; Python's own documentation, and
Python code of others), and 1.58 to 19 where it is not (Wikipedia, a course, news in three languages, Go).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vocabalign.transplantation.expectations import Head

# Nats a token above what is expected, from which a text is of another domain: between 0.44 and 1.58, in logarithms.
FOREIGN_NATS = 0.8
# Of the tokens; a model that cannot write a text has not learned from such. 0 and up to 6 % were found, and 44 %.
MOST_UNKNOWN = 0.1
_BLOCK_POSITIONS = 1024


@dataclass(frozen=True)
class Surprise:
    """What a text costs the model.

    Attributes:
        found: nats a token of the text; unknown tokens are left out.
        expected: mean entropy of the predictions there, nats.
        unknown: share of tokens that the model's tokenizer cannot write.
    """

    found: float
    expected: float
    unknown: float = 0.0

    @property
    def foreign(self) -> bool:
        """The text is of another domain than the model's."""
        return self.found - self.expected > FOREIGN_NATS or self.unknown > MOST_UNKNOWN


@torch.no_grad()
def measure_surprise(texts: Iterable[tuple[Tensor, Tensor]], head: Head, unknown_id: int | None = None) -> Surprise:
    """What texts cost the model, and what it expected.

    Args:
        texts: of each (L,) int64 ids and (L, H) float32 final states behind them.
        head: of the model.
        unknown_id: of the token that stands for what the tokenizer cannot write.
    """
    found = expected = 0.0
    num_tokens = num_known = 0
    for ids, states in texts:
        num_tokens += max(0, len(ids) - 1)
        followers = ids[1:]
        known = torch.ones(len(followers), dtype=torch.bool) if unknown_id is None else followers != unknown_id
        behind, followers = states[:-1][known], followers[known]
        num_known += len(followers)
        for begin in range(0, len(followers), _BLOCK_POSITIONS):
            block = slice(begin, begin + _BLOCK_POSITIONS)
            logs = head.log_probabilities(behind[block])
            found -= float(logs.gather(1, followers[block, None].to(logs.device)).double().sum())
            expected += float(torch.special.entr(logs.exp()).sum(1).double().sum())  # 0 for what can never follow
    count = max(1, num_known)
    return Surprise(found / count, expected / count, 1 - num_known / num_tokens if num_tokens else 0.0)
