"""Cross-entropy and the divergence from a teacher with longer tokens, from one set of logits.

At every start of a student's token that the teacher knows of, ``prefix_loss`` has a distribution over the student's
tokens. Mixed with the label that is there it is one target, and one softmax serves both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vocabalign.losses.checks import check_labels, check_numbers
from vocabalign.losses.divergences import Divergence, named
from vocabalign.losses.logits import Head
from vocabalign.losses.marginal import PrefixMerge
from vocabalign.losses.other_labels import stream_with_other_labels
from vocabalign.losses.pairs import Pair, normalise_
from vocabalign.losses.positions import IGNORE, check_finite
from vocabalign.losses.prefix_targets import PrefixProbabilities
from vocabalign.losses.prefixes import PrefixRows

__all__ = ["prefix_mixture_loss"]

# Where less than this of the teacher's probability is known of, the text alone is believed.
LEAST_KNOWN = 1e-4


def prefix_mixture_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Head,
    rows: PrefixRows,
    prefixes: PrefixMerge,
    rest_log_probs: Tensor,
    *,
    cross_entropy: float = 1.0,
    prefix: float = 1.0,
    divergence: str | Divergence = "forward-kl",
    num_items: Tensor | float,
    block_bytes: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``sum over labels i of (w_ce CE_i + w_p D(p~_i, q_i)) / num_items``; CE_i for D where the teacher says nothing.

    p~ is the distribution of ``prefix_loss``, given that the text goes on inside the teacher's token where it does. The
    factor R of that loss is left out: places at which a token of the teacher could have ended and did not are in the
    text as often as they should be, and weighing them by R once more would teach that tokens end too often.

    Args:
        hidden: (N, H) all hidden states of the student.
        head: (V, H); rows beyond the vocabulary are in the softmax of the cross-entropy alone.
        labels: (N,) int64, -100 for none.
        teacher_hidden: (P, Ht) the teacher's at ``rows.pairs[:, 1]``.
        teacher_head: (Vt, Ht).
        rows: from ``prefix_rows``, each row of the student once at most; those without a label are passed over.
        prefixes: of the two vocabularies.
        rest_log_probs: (M,) as for ``prefix_loss``.
        cross_entropy: w_ce.
        prefix: w_p.
        divergence: a name in ``divergences.DIVERGENCES``, or one with other settings; see ``prefix_loss``.
        num_items: divide by this.
        block_bytes: memory of a block of logits.

    Returns:
        The loss, which carries the gradient; cross-entropy, and the second sum, each divided by ``num_items``.

    Raises:
        ValueError: as ``prefix_loss``; labels outside the head.
    """
    check_finite(teacher_hidden, teacher_head.weight)
    check_labels(labels, len(hidden), head.num_rows, "student")
    check_numbers(rest_log_probs, "teacher's log-probabilities")
    if len(teacher_hidden) != len(rows.pairs):
        raise ValueError(f"The teacher has {len(teacher_hidden)} hidden states for {len(rows.pairs)} starts of tokens.")
    targets = PrefixProbabilities(rows, prefixes, rest_log_probs, teacher_hidden, teacher_head)
    at = rows.pairs[targets.order, 0]
    row_loss = _MixtureRows(labels[at], targets, named(divergence), cross_entropy, prefix)
    together, rest, parts = stream_with_other_labels(
        row_loss, 3, hidden, head, labels, at, num_items=num_items, block_bytes=block_bytes
    )
    parts = parts + rest.detach()
    return together + (cross_entropy + prefix) * rest, parts[1], parts[2]


class _MixtureRows:
    """Values, cross-entropy and divergence of a few rows; the logits become the gradient."""

    def __init__(
        self, labels: Tensor, targets: PrefixProbabilities, divergence: Divergence, cross_entropy: float, prefix: float
    ) -> None:
        self.labels, self.targets, self.divergence = labels, targets, divergence
        self.entropy, self.prefix = cross_entropy, prefix

    def __call__(self, logits: Sequence[Tensor], rows: slice, gradient: bool) -> Tensor:
        z, labels = logits[0], self.labels[rows]
        labelled = (labels != IGNORE).to(z.dtype)
        index = labels.clamp(min=0)[:, None]
        p, known = self.targets(rows)
        width = p.shape[1]
        taught = labelled * (known > LEAST_KNOWN)
        if width == z.shape[1]:
            pair = Pair.from_target(z, p)
            q, log_q = pair.q, z
        else:
            pair = Pair.from_target(z[:, :width].clone(), p)
            q, log_q = normalise_(z), z
        entropy = -log_q.gather(1, index).squeeze(1) * labelled
        value, towards = self.divergence(pair)
        # Where nothing is taught the label stands for it.
        value = torch.where(taught > 0, value, entropy)
        from_label = self.entropy * labelled + self.prefix * (labelled - taught)
        if gradient:
            towards *= (self.prefix * taught)[:, None]
            torch.mul(q, from_label[:, None], out=z)
            z[:, :width] += towards
            z.scatter_add_(1, index, -from_label[:, None])
        return torch.stack([self.entropy * entropy + self.prefix * value, entropy, value])
