"""Head calibration by counting: no gradient, only counts and the source model's own final hidden states.

A head row competes. The source's row says how likely its *piece* is next; of the target tokens that begin
with this piece only one is meant, and how often which one is a matter of counting. If p(token) =
p(first piece) * count(token) / count(all target tokens that begin with this piece), the token's logit is the
piece's logit plus the logarithm of that share (``count_shift`` has the form that was measured best). Where there
is no bias, a constant is added to a logit by adding to the row a multiple of a direction on which all final
hidden states have the same projection, 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from vocabalign.text.batches import in_batches
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.drawing import SAMPLE_CHARACTERS, Draw, parts_of
from vocabalign.transplantation.rows import Pieces, mean_row

TARGET_SMOOTHING, SOURCE_SMOOTHING = 0.02, 1.0
# Of ranks; 100, 300 and 3,000 were tried, which is nearly the same.
RANK_OFFSET = 100.0
_BLOCK_ROWS = 8192
SAMPLE_BYTES = 20_000
# Text to fit rows on, at most; how much of it is read depends on the model.
FITTING_BYTES = 400_000
_RIDGE = 1e-3
# Logits below the least likely token; the projection of a hidden state is rarely under a tenth of its mean.
PADDING_DEPTH = 40.0
# Of the hidden states on the direction; elsewhere a row far down might come out far up.
LEAST_PROJECTION, MOST_SPREAD = 0.2, 0.15


@dataclass(frozen=True)
class CorpusCounts:
    """What is counted in one pass over the corpus.

    Attributes:
        source: (S',) uses of each source token, whole numbers but where texts are weighed; S' is the source
            vocabulary's length.
        target: (T,) uses of each target token.
        sample: the beginnings of the first documents, about ``SAMPLE_BYTES``.
        num_documents: documents read; an EOS is counted at the end of each.
        fitting: documents, long ones in parts, from all over the corpus, about ``FITTING_BYTES``.
        imagined: uses of each family of tokens with the same first piece, beside those that were counted, shared out
            by the order of the ids: how little the counts are to be believed.
    """

    source: np.ndarray
    target: np.ndarray
    sample: list[str]
    num_documents: int
    fitting: list[str] = field(default_factory=list)
    imagined: float = 0.0


def count_corpus(source: Vocabulary, target: Vocabulary, texts: Iterable[str]) -> CorpusCounts:
    """Count both vocabularies' tokens in running text.

    Args:
        source: the model's vocabulary.
        target: the wanted one.
        texts: documents, read once.
    """
    counts = {name: np.zeros(len(voc), np.int64) for name, voc in (("source", source), ("target", target))}
    sample: list[str] = []
    num_documents = 0
    room = SAMPLE_BYTES
    drawn = Draw(FITTING_BYTES)
    for batch in in_batches(texts):
        num_documents += len(batch)
        for name, vocabulary in (("source", source), ("target", target)):
            ids = np.fromiter((i for row in vocabulary.encode_batch(batch) for i in row), np.int64)
            counts[name] += np.bincount(ids, minlength=len(vocabulary))
        for text in batch:
            for part in parts_of(text):
                drawn.add(part)
            if room > 0:
                sample.append(text[:SAMPLE_CHARACTERS])
                room -= len(sample[-1].encode())
    for name, vocabulary in (("source", source), ("target", target)):
        if "eos" in vocabulary.roles:
            counts[name][vocabulary.roles["eos"]] += num_documents
    return CorpusCounts(counts["source"], counts["target"], sample, num_documents, drawn.texts())


def count_shift(pieces: Pieces, counts: CorpusCounts) -> np.ndarray:
    """Logarithm of how often a token is used, relative to how often its first source piece is.

    The reference is the piece's own count in the source's tokenisation. The count of all target tokens with the
    same first piece, which is the other obvious one, cannot know that the source says " there" in one token
    where the target says " the" and "re". Bits per byte on four pairs: 1.84, 2.03, 1.60, 1.00 by the family;
    1.68, 1.90, 1.68, 0.96 by the source with both smoothed by 0.02; 1.68, 1.89, 1.51, 0.95 as it is here, where a
    piece that the source hardly uses is not made much of.

    The source never uses some pieces at all in this text, and then the ratio says nothing but how much text there is.
    Such a piece counts as one of average use: the shift is positive only where the token is used more than the
    source's tokens are on average, and by that ratio of frequencies, which more text does not raise.

    Where the counts are of little belief, uses are imagined beside those counted, shared out in each family as
    ``rank_shift`` has it (a Dirichlet prior): a token that the text lacks is not ruled out then.

    A token that is alone in its family and used as often as its piece gets exactly no shift, so the same tokens in
    another order keep their head rows bit for bit. Tokens without pieces get none either.

    Args:
        pieces: source pieces of T target tokens, in the order of the text.
        counts: of both vocabularies.

    Returns:
        (T,) float32.
    """
    known = pieces.lengths > 0
    first = pieces.ids[pieces.starts[:-1][known]]
    uses, references = counts.target[known], counts.source[first]
    alone = np.bincount(first, minlength=len(counts.source))[first] == 1
    added, to_all = np.full(len(uses), TARGET_SMOOTHING), SOURCE_SMOOTHING
    if counts.imagined:
        added, to_all = counts.imagined * np.exp(_rank_logs(known, first)), counts.imagined
    logs = np.log((uses + added) / (references + to_all))
    average = max(1.0, float(counts.source.sum() / max(1, np.count_nonzero(counts.source))))
    most = np.maximum(0, np.log((uses + TARGET_SMOOTHING) / average))
    logs = np.where(references == 0, np.minimum(logs, most), logs)
    shift = np.zeros(len(pieces), np.float32)
    shift[known] = np.where(alone & (uses == references), 0, logs)
    return shift


def rank_shift(pieces: Pieces, new: np.ndarray) -> np.ndarray:
    """What stands for ``count_shift`` where there is no text: how often a token is used follows from its id.

    Tokenizers number their tokens in the order in which they were merged or by frequency, and frequencies fall about as
    1 / rank (Zipf). The shift is the logarithm of a token's share among all tokens with its first piece. Bits per byte
    of 16 stories without any text, decaying head rows without and steep ones with it: 1.846 and 1.678 (tlm-833K to
    llama2), 2.128 and 2.002 (stories260K to tlm-833K's), 2.703 and 2.405 (to llama2).

    Args:
        pieces: source pieces of T target tokens, in the order of the text.
        new: (T,) bool, tokens without a twin; the others get no shift, so that copies stay copies.

    Returns:
        (T,) float32, at most 0.
    """
    known = pieces.lengths > 0
    shift = np.zeros(len(pieces), np.float32)
    shift[known] = _rank_logs(known, pieces.ids[pieces.starts[:-1][known]])
    return np.where(new, shift, 0).astype(np.float32)


def _rank_logs(known: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(N,) logarithm of the share of each of N known tokens among those with its first piece (N,), by its id."""
    frequencies = 1 / (np.flatnonzero(known) + RANK_OFFSET)
    return np.log(frequencies / np.bincount(first, frequencies)[first])


def constant_direction(states: torch.Tensor) -> torch.Tensor:
    """The direction d on which all hidden states have nearly the same projection, about 1.

    Least squares of ``states @ d = 1``. The mean state over its squared length does it too, but with three
    to four times the spread (0.33 to 0.57 against 0.10 to 0.19 on the models of the trials).

    Args:
        states: (N, H) float32.

    Returns:
        (H,) float32, scaled so that the mean projection is 1.
    """
    moments = (states.T.double() @ states.double()) / len(states)
    mean = states.double().mean(dim=0)
    ridge = _RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=torch.float64)
    direction = torch.linalg.solve(moments + ridge, mean)
    return (direction / (direction @ mean)).float()


def second_moments(states: torch.Tensor) -> torch.Tensor:
    """(H, H) float32 mean of h hᵀ, scaled to a mean diagonal of 1: what a change of a head row costs in logits."""
    moments = (states.T.double() @ states.double()) / len(states)
    return (moments / moments.diagonal().mean()).float()


def padding_row(
    head: torch.Tensor, direction: torch.Tensor | None, states: torch.Tensor | None, logit_scale: float = 1.0
) -> torch.Tensor:
    """A head row that can never be the most likely.

    The mean of all rows has the mean of all logits, which is never above the greatest. Where hidden states are
    known, and all lie on one side, the least likely row (at the mean state) is taken instead, far down along the
    constant direction: then it is below the least likely token as well.

    Args:
        head: (T, H) new rows.
        direction: (H,) float32 of :func:`constant_direction`.
        states: (N, H) float32 final hidden states, of ordinary and of odd text.
        logit_scale: what the model multiplies the head's products by.

    Returns:
        (H,) float32.
    """
    if direction is None or states is None:
        return mean_row(head)
    projections = states @ direction
    if float(projections.min()) < LEAST_PROJECTION or float(projections.std()) > MOST_SPREAD:
        return mean_row(head)
    mean_state = states.mean(dim=0)
    logits = torch.cat([block.float() @ mean_state for block in head.split(_BLOCK_ROWS)])
    return head[int(logits.argmin())].float() - PADDING_DEPTH / logit_scale * direction
