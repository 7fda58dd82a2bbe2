"""What a transplant tells of itself: the metrics of its manifest."""

from __future__ import annotations

from typing import Any

from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.calibration import CorpusCounts
from vocabalign.transplantation.checkpoint import Checkpoint
from vocabalign.transplantation.foreign_text import CountedText
from vocabalign.transplantation.matrices import NewRows


def transplant_metrics(
    checkpoint: Checkpoint, target: Vocabulary, rows: NewRows, counts: CorpusCounts | None, text: CountedText
) -> dict[str, Any]:
    """Sizes, ways, what was counted on, what fitting gave.

    Args:
        checkpoint: the source model.
        target: the target vocabulary.
        rows: what was made.
        counts: of the corpus; None without one.
        text: what rows were calibrated by.
    """
    provenance = rows.provenance
    metrics: dict[str, Any] = {
        "rows": len(provenance.classes),
        "source_rows": checkpoint.num_rows,
        "tokens": len(target),
        "tied": provenance.tied,
        "classes": provenance.class_counts(),
        "input_rows": provenance.methods["input"],
        "head_rows": provenance.methods["head"],
        "head_calibrated": provenance.shift is not None,
        "calibrated_by": None if provenance.shift is None else "counts" if text.counts is not None else "ranks",
        "least_certain": provenance.least_certain(target, 10),
    }
    if rows.fitted is not None:
        fitted = rows.fitted
        metrics["fitted"] = {
            "inputs": fitted.inputs is not None,
            "head": fitted.shift is not None,
            "head_rows": 0 if fitted.heads is None else len(fitted.heads.ids),
            "tokens": fitted.num_tokens,
            "held_out_bits_per_byte": fitted.bits_per_byte,
            "tying_cost_bits_per_byte": fitted.tying_cost,
        }
    if counts is not None:
        uses = counts.target.sum()
        covered = counts.target[provenance.confidence[: len(target)] >= 1].sum()
        metrics |= {"corpus_documents": counts.num_documents, "corpus_tokens": int(uses)}
        metrics["corpus_share_copied"] = round(float(covered / max(1, uses)), 4)
    surprise = None if text.states is None else text.states.surprise
    if surprise is not None:
        metrics["counted_on"] = text.what
        metrics["corpus_nats_per_token"] = {"found": round(surprise.found, 4), "expected": round(surprise.expected, 4)}
        metrics["corpus_of_another_domain"] = surprise.foreign
    return metrics
