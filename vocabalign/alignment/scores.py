"""What a lexicon is worth before any model is touched: BLEU-1 both ways, coverage, hubs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.text.batches import in_batches
from vocabalign.text.vocabulary import Vocabulary


def one_best(lexicon: Lexicon) -> np.ndarray:
    """(T,) int64: the heaviest source token of each target token, or -1."""
    return lexicon.source_ids[:, 0].astype(np.int64)


def one_best_reverse(lexicon: Lexicon, num_sources: int, target_counts: np.ndarray | None = None) -> np.ndarray:
    """(S,) int64: for each source token the target token that most likely stands where it stood, or -1.

    Where the lexicon has counted it (``auto``), that is taken. Else the lexicon is turned round by Bayes' rule: it
    says which source tokens a target token is made of, so a source token goes to the target token with the largest
    weight times count, where the counts are those of the text that the lexicon was made from. Among target tokens
    which that text lacks (or without any counts), weight times confidence decides, and of equals the one that is used
    more: a character before its byte token.

    Args:
        lexicon: T target tokens.
        num_sources: S.
        target_counts: (T,) how often target tokens are used, for ties of a lexicon that has no counts of its own.
    """
    targets, columns = np.nonzero(lexicon.source_ids >= 0)
    sources, weights = lexicon.source_ids[targets, columns], lexicon.weights[targets, columns].astype(np.float64)
    known = np.zeros(len(targets)) if lexicon.target_counts is None else lexicon.target_counts[targets]
    used = np.zeros(len(targets)) if target_counts is None else target_counts[targets]
    order = np.lexsort((-targets, used, weights * lexicon.confidence[targets], weights * known))
    result = np.full(num_sources, -1, dtype=np.int64)
    # The last assignment wins.
    result[sources[order]] = targets[order]
    return result if lexicon.reverse is None else np.where(lexicon.reverse >= 0, lexicon.reverse, result)


def bleu1(references: Iterable[Sequence[int]], hypotheses: Iterable[Sequence[int]]) -> float:
    """BLEU with single tokens: clipped precision over all documents times the brevity penalty, in [0, 1].

    Reference:
        Papineni et al. (2002); as a measure of a token map: TokAlign++ (2605.13429) section 5.
    """
    matched = num_hypothesis = num_reference = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        matched += (Counter(reference) & Counter(token for token in hypothesis if token >= 0)).total()
        num_hypothesis += len(hypothesis)
        num_reference += len(reference)
    if not matched:
        return 0.0
    return matched / num_hypothesis * float(np.exp(min(0.0, 1 - num_reference / num_hypothesis)))


def bleu1_both_ways(lexicon: Lexicon, source: Vocabulary, target: Vocabulary, texts: Iterable[str]) -> dict[str, float]:
    """BLEU-1 of text cut by one tokenizer and carried over by the lexicon, against the text cut by the other.

    Returns:
        ``bleu1_target_to_source`` (the lexicon as it is) and ``bleu1_source_to_target`` (turned round).
    """
    in_source: list[list[int]] = []
    in_target: list[list[int]] = []
    for batch in in_batches(texts):
        in_source += source.encode_batch(batch)
        in_target += target.encode_batch(batch)
    counts = np.bincount(np.array([i for ids in in_target for i in ids], dtype=np.int64), minlength=len(target))
    forward, backward = one_best(lexicon), one_best_reverse(lexicon, len(source), counts)
    return {
        "bleu1_target_to_source": bleu1(in_source, (forward[ids].tolist() for ids in _arrays(in_target))),
        "bleu1_source_to_target": bleu1(in_target, (backward[ids].tolist() for ids in _arrays(in_source))),
    }


def _arrays(documents: Iterable[Sequence[int]]) -> Iterable[np.ndarray]:
    return (np.asarray(ids, dtype=np.int64) for ids in documents)


def take_text(texts: Iterable[str], max_bytes: int) -> list[str]:
    """The first documents up to this much UTF-8 text; the last one is cut at a character."""
    taken: list[str] = []
    left = max_bytes
    for text in texts:
        encoded = text.encode()
        taken.append(text if len(encoded) <= left else encoded[:left].decode("utf-8", "ignore"))
        left -= len(encoded)
        if left <= 0:
            break
    return taken


def coverage(lexicon: Lexicon, target_counts: np.ndarray) -> dict[str, dict[str, Any]]:
    """Evidence classes by number of target tokens, and by share of running tokens of the text.

    Args:
        lexicon: T target tokens.
        target_counts: (T,) how often each stands in the text.
    """
    total = max(1, int(target_counts.sum()))
    share = {kind.name.lower(): float(target_counts[lexicon.evidence == kind].sum() / total) for kind in Evidence}
    return {"evidence_counts": lexicon.evidence_counts(), "running_token_shares": share}


def hub_statistics(lexicon: Lexicon) -> dict[str, float]:
    """How evenly target tokens without an identical twin are spread over source tokens (one-best).

    Returns:
        ``hub_share_top3``: share of them that the three commonest sources take; ``distinct_sources``
        of ``hub_targets`` tokens.
    """
    other = (lexicon.evidence != Evidence.IDENTICAL) & (lexicon.source_ids[:, 0] >= 0)
    _, counts = np.unique(one_best(lexicon)[other], return_counts=True)
    top = np.sort(counts)[::-1][:3].sum()
    return {
        "hub_share_top3": float(top / max(1, other.sum())),
        "distinct_sources": len(counts),
        "hub_targets": int(other.sum()),
    }


def precision_at(found: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Share of rows whose true id is among the first k found; ``found`` (Q, K), ``truth`` (Q,)."""
    return float((found[:, :k] == truth[:, None]).any(axis=1).mean()) if len(truth) else float("nan")
