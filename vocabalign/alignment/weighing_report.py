"""What each kind of evidence is worth: held-out log-loss with it, without it and of it alone, by script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vocabalign.alignment.mixture import Events, MixtureWeights, bits, learn_weights
from vocabalign.alignment.weighing import beliefs, joined
from vocabalign.lexicon import Evidence

ALL = "all"
# Scripts with fewer running tokens than this are not told on the terminal.
FEWEST_TOLD, MOST_TOLD = 50, 6


def weighing_report(
    halves: Sequence[Events], weights: MixtureWeights, kinds: Sequence[Evidence], names: Sequence[str]
) -> dict[str, Any]:
    """Log-losses in bits for each running target token without an identical twin.

    Each half of the held-out documents is judged by weights learned on the other, so the figures are of text that
    neither layers nor weights have seen. ``alone`` is one kind with the background, ``without`` all others.

    Args:
        halves: events of the two halves.
        weights: as learned from both.
        kinds: of the layers, in their order.
        names: of the scripts.

    Returns:
        For each script, the commonest first, and ``all``: ``tokens``, ``bits``, ``bits_alone``, ``bits_without`` and
        ``weights`` (mean over running tokens) by kind of evidence.
    """
    ways = {"": list(range(len(kinds)))}
    ways |= {f"alone {kind.name.lower()}": [place] for place, kind in enumerate(kinds)}
    ways |= {
        f"without {kind.name.lower()}": [p for p in range(len(kinds)) if p != place] for place, kind in enumerate(kinds)
    }
    events = joined(halves)
    costs = {way: np.concatenate(_costs(halves, places, kinds)) for way, places in ways.items()}
    costs["alone background"] = np.concatenate(_costs(halves, [], kinds))
    given = weights.of(events.cells, events.scripts) * events.tokens[:, None]
    shares = {kind.name.lower(): given[:, place] for place, kind in enumerate(kinds)} | {"background": given[:, -1]}
    report = {}
    tokens = np.bincount(events.scripts, events.tokens, len(names))
    for script in [-1, *np.argsort(-tokens, kind="stable")[: int((tokens > 0).sum())]]:
        part = slice(None) if script < 0 else events.scripts == script
        total = float(events.tokens[part].sum())

        def mean(values: np.ndarray, part: Any = part, total: float = total) -> float:
            return round(float(values[part].sum()) / max(total, 1e-9), 4)

        report[ALL if script < 0 else names[script]] = {
            "tokens": round(total),
            "bits": mean(costs[""]),
            "bits_alone": {way.split()[1]: mean(cost) for way, cost in costs.items() if way.startswith("alone")},
            "bits_without": {way.split()[1]: mean(cost) for way, cost in costs.items() if way.startswith("without")},
            "weights": {name: mean(values) for name, values in shares.items()},
        }
    return report


def _costs(halves: Sequence[Events], places: Sequence[int], kinds: Sequence[Evidence]) -> list[np.ndarray]:
    """Bits of every event of each half, by weights of the layers at these places learned on the other half."""
    prior = beliefs(kinds)
    silent = [place for place in range(len(kinds)) if place not in places]
    prior[:, silent] = 0
    prior /= prior.sum(axis=1, keepdims=True)
    result = []
    for half, other in zip(halves, reversed(halves), strict=True):
        learned = learn_weights(other, prior)
        result.append(bits(half, learned.of(half.cells, half.scripts)))
    return result


def told(report: dict[str, Any]) -> list[str]:
    """Sentences for the terminal: one for all target tokens and one for each common script."""
    sentences = []
    for name, row in list(report.items())[: MOST_TOLD + 1]:
        if not row["tokens"] or (name != ALL and row["tokens"] < FEWEST_TOLD):
            continue
        alone = {kind: value for kind, value in row["bits_alone"].items() if kind != "background"}
        best = min(alone, key=alone.__getitem__)
        weights = ", ".join(f"{kind} {share:.2f}" for kind, share in row["weights"].items() if share >= 0.005)
        without = ", ".join(f"{kind} {value:.2f}" for kind, value in row["bits_without"].items())
        sentences.append(
            f"{name}: {row['bits']:.2f} bits on {row['tokens']:,} held-out tokens without a twin, by {best} alone "
            f"{alone[best]:.2f}; weights: {weights}" + (f"; bits without: {without}" if name == ALL else "")
        )
    return sentences
