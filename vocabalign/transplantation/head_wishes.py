"""What a head should say behind each place of a text: what the source expects there, and what really follows.

Where a target token and a source token end at the same byte, the source model has an opinion about what comes next:
a distribution over its own tokens. Counting on the text says with which target token the text of a source token
begins (` Lily` may be cut ` L`, `ily`, so what expects ` Lily` must expect ` L`). Where this is one and the same
target token nearly always, the opinion is carried over: it tells more than the one token that follows, and it is the
source's, whatever the text is about. Elsewhere, and for places inside a source token, only the follower is known.

A head is log-linear in its hidden states, so of all this just two sums for each token matter (the sufficient
statistics of a multinomial logistic regression): how often it is wanted, and the sum of the states behind which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from vocabalign.transplantation.expectations import Head
from vocabalign.transplantation.running import Document

# Weight of what the source expects beside what follows; 0, 0.5, 0.7, 0.9 and 1 were tried.
SOURCE_SHARE = 0.7
# The share of a source token's uses that begin with the same target token, from which its expectation is carried over.
LEAST_AGREEMENT = 0.9
_BLOCK_POSITIONS = 1024


@dataclass(frozen=True)
class Wishes:
    """What is wanted of K target tokens at N places.

    Attributes:
        ids: (K,) int64, the tokens that follow somewhere, ascending.
        uses: (K,) float32, how often each is wanted; they add up to about N.
        sums: (K, H) float32, the states behind which it is wanted, added up.
    """

    ids: Tensor
    uses: Tensor
    sums: Tensor


def find_wishes(
    documents: Sequence[Document], states: Sequence[Tensor], source_states: Sequence[Tensor], source_head: Head
) -> Wishes:
    """Sum up what is wanted.

    Args:
        documents: with places where both cuts meet.
        states: for each document (Lt, H) float32 final states over the target's cut.
        source_states: (Ls, H) float32 of the untouched source over its own.
        source_head: of the source model, S tokens.
    """
    followers = torch.cat([torch.from_numpy(document.target[1:]) for document in documents])
    behind = torch.cat([rows[:-1] for rows in states])
    ids, follower = followers.unique(return_inverse=True)
    meets = [_meetings(document) for document in documents]
    offsets = np.cumsum([0, *(len(document.target) - 1 for document in documents)])
    places = torch.from_numpy(np.concatenate([m[0] + o for m, o in zip(meets, offsets, strict=False)]))
    openers = np.concatenate([d.source[m[1] + 1] for d, m in zip(documents, meets, strict=True)])
    opinions = torch.cat([rows[torch.from_numpy(m[1])] for rows, m in zip(source_states, meets, strict=True)])
    carried = _carried(openers, follower[places].numpy(), len(source_head.rows), len(ids))
    wanted = np.zeros(len(source_head.rows), np.float32)
    seen = torch.zeros(len(source_head.rows), behind.shape[1])
    weights = torch.ones(len(followers))
    certain = torch.from_numpy(np.asarray(carried.sum(axis=1), dtype=np.float32).ravel())
    for begin in range(0, len(opinions), _BLOCK_POSITIONS):
        block = slice(begin, begin + _BLOCK_POSITIONS)
        shares = source_head.probabilities(opinions[block]).cpu()
        wanted += shares.sum(dim=0).numpy()
        seen.addmm_(shares.T, behind[places[block]])
        weights[places[block]] = 1 - SOURCE_SHARE * (shares @ certain)
    uses = torch.from_numpy(np.asarray(carried.T @ wanted, dtype=np.float32)) * SOURCE_SHARE
    sums = torch.from_numpy(np.asarray(carried.T @ seen.numpy(), dtype=np.float32)) * SOURCE_SHARE
    uses.index_add_(0, follower, weights)
    sums.index_add_(0, follower, behind * weights[:, None])
    return Wishes(ids, uses, sums)


def _meetings(document: Document) -> tuple[np.ndarray, np.ndarray]:
    """(N,) places of the target and of the source behind which both cuts go on from the same byte."""
    target, source = np.r_[0, document.target_ends], np.r_[0, document.source_ends]
    goes_on = (target + 1 < len(document.target)) & (source + 1 < len(document.source))
    return target[goes_on], source[goes_on]


def _carried(openers: np.ndarray, firsts: np.ndarray, num_sources: int, num_targets: int) -> sparse.csr_matrix:
    """(S, K) share of each source token's uses that begin with each target token; empty where they do not agree."""
    counts = sparse.csr_matrix((np.ones(len(openers), np.float32), (openers, firsts)), shape=(num_sources, num_targets))
    counts.sum_duplicates()
    totals = np.asarray(counts.sum(axis=1)).ravel()
    most = np.asarray(counts.max(axis=1).todense()).ravel()
    agrees = most >= np.maximum(LEAST_AGREEMENT * totals, 1)
    scale = np.divide(agrees, totals, out=np.zeros(num_sources), where=totals > 0)
    return sparse.csr_matrix(sparse.diags(scale) @ counts, dtype=np.float32)
