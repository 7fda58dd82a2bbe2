"""The card of a transplant: which rows are new, and what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocabalign.model_card import corpus_languages, write_card
from vocabalign.provenance import COUNTED_ON
from vocabalign.stages import TransplantConfig

CLASS_NAMES = {
    "identical": "copied from the token with the same bytes",
    "role": "copied from the special token with the same role",
    "lexicon": "made from a lexicon",
    "segmentation": "made from the source's own cut of the token",
    "mean": "that are the mean of all, since nothing is known",
    "padding": "that stand for no token",
    "similarity": "made from similar tokens",
    "fitted": "fitted to the source model's hidden states",
    "drawn": "drawn at random, or zero",
}


def write_transplant_card(folder: Path, config: TransplantConfig, target: str, metrics: Mapping[str, Any]) -> None:
    """Write ``README.md``.

    Args:
        folder: the model folder.
        config: of the stage.
        target: the target tokenizer, as its vocabulary is called.
        metrics: of ``transplant_model``.
    """
    source, target = Path(str(config.source)).name, Path(target).name
    by = {"counts": "by counting", "ranks": "by the order of the target's ids"}
    known = by.get(metrics.get("calibrated_by") or "counts")
    calibrated = f"calibrated {known}" if metrics["head_calibrated"] else "not calibrated"
    ties = "one matrix for both (tied)" if metrics["tied"] else "two matrices"
    done = [
        f"The embedding and head rows of `{source}` were made anew for the tokenizer of `{target}` by "
        "[vocabalign](https://pypi.org/project/vocabalign/); all other weights are the source's, byte for byte.",
        f"Embedding rows: {metrics['input_rows']}; head rows: {metrics['head_rows']}, {calibrated}; {ties}.",
    ]
    if metrics.get("corpus_of_another_domain"):
        nats = metrics["corpus_nats_per_token"]
        done.append(
            f"The corpus is of another domain than the source model's (a token costs it {nats['found']:.2f} nats where "
            f"it expects {nats['expected']:.2f}). Counted on: {COUNTED_ON[metrics['counted_on']]}."
        )
    if config.keep_layers:
        done.append(f"Of the source's layers these were kept: {config.keep_layers}.")
    counts = metrics["classes"]
    measures = [("rows", metrics["rows"]), ("tokens", metrics["tokens"])]
    measures += [(f"rows {CLASS_NAMES.get(name, name)}", count) for name, count in counts.items() if count]
    if "corpus_share_copied" in metrics:
        measures.append(("share of running tokens whose rows are copied", f"{metrics['corpus_share_copied']:.2%}"))
    fitted = metrics.get("fitted") or {}
    if fitted.get("held_out_bits_per_byte"):
        scores = fitted["held_out_bits_per_byte"]
        measures.append(("bits per byte of documents not fitted on, before fitting", f"{scores['plain']:.4f}"))
        measures.append(("bits per byte of documents not fitted on, after it", f"{min(scores.values()):.4f}"))
    if fitted.get("tying_cost_bits_per_byte") is not None:
        measures.append(("of which one matrix for both costs", f"{fitted['tying_cost_bits_per_byte']:+.4f}"))
    write_card(
        folder,
        config.source,
        title=f"{source} with the vocabulary of {target}",
        done=done,
        measures=measures,
        notes=[
            "`provenance.json` says for every token where its rows came from; `verification.json` what was checked.",
            "A transplant that nothing was trained on top of is a start: fine-tune it before serious use.",
            "The licences of both the source model and the target tokenizer apply.",
        ],
        languages=corpus_languages(config.corpus),
    )
