"""Bits per byte right after a transplant, without any training: ours beside the rivals' ways of making rows.

python benchmarks/transplant_rows.py                       # every pair, all held-out documents
python benchmarks/transplant_rows.py --pairs stories260K:llama2 stories3M:llama2 --methods ours FVT
python benchmarks/transplant_rows.py --table               # the same as Markdown, for BENCHMARKS.md
python benchmarks/transplant_rows.py --fits                # ours with and without fitting, on text of another domain
python benchmarks/transplant_rows.py --only-rivals         # whether re-derived rivals agree with their programs

Text, models and tokenizers are the material's (VOCABALIGN_MATERIAL); the demo model is scored on its own held-out
part of the standard library. Ours is ``auto``: with a head of its own (``--untie`` where the source is tied), tied,
not fitted, with text of another domain (which the model notices, and with own_text off counted as it is), with text
that the model wrote itself, and without text.
Rivals make their rows as they are published, matched by bytes; those "as shipped" are the programs re-derived, with
their own matching. The gap is bits per byte above the untouched source. Cells are kept in
build/rows, so that what did not change is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import rival_rows
from row_cells import (
    MATERIAL,
    OURS_CODE,
    RIVAL_CODE,
    SHIPPED_CODE,
    Pair,
    score_matrices,
    score_model,
    scored,
    transplanted,
)

from vocabalign.evaluation.bits_per_byte import DocumentScores
from vocabalign.lexicon import Lexicon
from vocabalign.models import resolve
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.row_plans import Spaces

PAIRS = (
    "stories260K:tlm-833K",
    "stories260K:llama2",
    "tlm-833K:llama2",
    "stories3M:llama2",
    "stories3M:tinystories-bpe_16384",
    "stories3M:gpt2",
    "demo:llama2",
    "demo:pythia-neox",
)
SHIPPED_PAIRS = PAIRS[:3]
FEW_DOCUMENTS = 25
# Figures of the rivals' programs (crashes patched) on all documents, and of a trial on the first 25, made with a
# scorer of its own. TokAlign++ has no public code: a range over its open choices.
PROGRAMS: dict[str, dict[str, float | tuple[float, float]]] = {
    "stories260K:tlm-833K": {
        "transplant-vocab as shipped": 2.53, "FVT": 2.73, "copy + mean": 3.76, "mergekit sub-word as shipped": 2.78,
        "FOCUS as shipped": 3.46, "TokAlign++": (3.67, 4.20), "TokAlign as shipped": 3.81,
        "mergekit OMP as shipped": 6.89,
    },
    "stories260K:llama2": {
        "transplant-vocab as shipped": 3.22, "FVT": 3.28, "copy + mean": 4.08, "mergekit sub-word as shipped": 3.64,
        "FOCUS as shipped": 4.16, "TokAlign++": (3.91, 5.04), "TokAlign as shipped": 4.64,
    },
    "tlm-833K:llama2": {
        "FVT": 2.11, "copy + mean": 1.68, "mergekit sub-word as shipped": 3.09, "FOCUS as shipped": 2.08,
        "TokAlign++": (1.63, 2.32), "TokAlign as shipped": 2.32,
    },
}  # fmt: skip
TRIAL: dict[str, dict[str, float]] = {
    "stories260K:tlm-833K": {"source": 0.84, "decay": 2.23, "FVT": 2.47, "copy + mean": 3.36},
    "stories260K:llama2": {"source": 0.84, "decay": 2.82, "FVT": 3.04, "copy + mean": 3.70},
    "tlm-833K:llama2": {"source": 1.01, "decay": 2.06, "FVT": 2.04, "copy + mean": 1.99},
    "stories3M:llama2": {"source": 0.40, "decay": 1.17, "FVT": 1.17, "copy + mean": 1.21},
    "stories3M:tinystories-bpe_16384": {"source": 0.40, "decay": 0.69, "FVT": 0.72, "copy + mean": 1.01},
    "stories3M:gpt2": {"source": 0.40, "FVT": 1.02, "copy + mean": 1.16},
}
TOLERANCE = 0.03
SHIPPED = " as shipped"


Score = Callable[[], DocumentScores]


def ours(pair: Pair) -> dict[str, Score]:
    """Ways of ours."""
    train, other = pair.text("train"), str(MATERIAL / "corpora" / "wikitext-2" / "valid.txt")
    ways: dict[str, dict[str, object] | None] = {
        "ours": {"corpus": [train], "untie": pair.tied},
        "ours, not fitted": {"corpus": [train], "untie": pair.tied, "fit_rows": False},
        "ours, tied": {"corpus": [train]} if pair.tied else None,
        "ours, wikitext-2": {"corpus": [other], "untie": pair.tied},
        "ours, wikitext-2, not fitted": {"corpus": [other], "untie": pair.tied, "fit_rows": False},
        "ours, wikitext-2 as it is": {
            "corpus": [other], "untie": pair.tied, "fit_rows": False, "own_text": False,
        },
        "ours, own text": {"own_text": True, "untie": pair.tied},
        "ours, no text": {"untie": pair.tied},
    }  # fmt: skip

    def way(values: dict[str, object]) -> Score:
        return lambda: score_model(lambda folder: transplanted(pair, values, folder), pair.text("heldout"))

    return {name: way(values) for name, values in ways.items() if values is not None}


def rivals(pair: Pair) -> dict[str, Score]:
    """The rivals' ways on tokens matched by bytes, and their programs as they are shipped.

    Rows that are the same on both sides stay tied where the source is, as the programs leave them.
    """
    seen = rival_rows.Pair(str(resolve(pair.source)), pair.target, [pair.text("train")], pair.owner)
    text = pair.text("heldout")

    def rows(inputs: str, heads: str | None = None, spaces: Callable[[], Spaces] = Spaces) -> Score:
        return lambda: score_matrices(seen, rival_rows.published(seen, inputs, heads or inputs, spaces()), text)

    def shipped(function: Callable[[rival_rows.Pair], rival_rows.Matrices]) -> Score:
        return lambda: score_matrices(seen, function(seen), text)

    def tokalign() -> DocumentScores:
        known = replace(seen, lexicon=Lexicon.load(Path(pair.tokalign())))
        return score_matrices(known, rival_rows.published(known, "lexicon-one", "lexicon-one"), text)

    made = {
        "transplant-vocab": rows("last", "decay"),
        "decay": rows("decay"),
        "FVT": rows("fvt"),
        "copy + mean": rows("mean"),
        "FOCUS": rows("focus", spaces=lambda: Spaces(pair.vectors("target"))),
        "WECHSEL": rows("wechsel", spaces=lambda: Spaces(pair.vectors("target"), pair.vectors("source"))),
    }
    if pair.owner:
        owner = open_checkpoint(pair.owner)
        made["OMP"] = rows("omp", spaces=lambda: Spaces(owner=lambda _: owner.read(owner.embedding)))
    if pair.name in SHIPPED_PAIRS:
        made["TokAlign++"] = tokalign
        for name, function in rival_rows.SHIPPED.items():
            if name != "mergekit OMP" or pair.owner:
                made[name + SHIPPED] = shipped(function)
    return made


def measure_pair(name: str, only: Sequence[str] | None, with_ours: bool, fresh: bool) -> dict[str, DocumentScores]:
    """Scores by document of the source and of every method."""
    pair = Pair(name)
    cells = {
        "source": scored((name, "source"), (), lambda: score_model(lambda _: pair.source, pair.text("heldout")), fresh)
    }
    for ways, code in ((ours(pair) if with_ours else {}, OURS_CODE), (rivals(pair), RIVAL_CODE)):
        for method, score in ways.items():
            if only is None or method in only:
                decided_by = SHIPPED_CODE if method.endswith(SHIPPED) else code
                cells[method] = scored((name, method), decided_by, score, fresh)
    return cells


def first(scores: DocumentScores, documents: int | None) -> float:
    """Bits per byte of the first documents."""
    return scores.select(slice(documents)).bits_per_byte  # type: ignore[arg-type]


def show(name: str, cells: dict[str, DocumentScores], documents: int | None) -> None:
    """A pair's table; the ratio is our gap over the best rival's."""
    untouched = first(cells["source"], documents)
    best = min(
        (first(score, documents) - untouched, method) for method, score in cells.items() if is_rival(method)
    ) if any(map(is_rival, cells)) else None  # fmt: skip
    num_documents = len(cells["source"].nats[:documents])
    print(f"\n{name}: untouched source {untouched:.4f} ({num_documents} documents)")
    for method, scores in cells.items():
        if method == "source":
            continue
        score = first(scores, documents)
        ratio = f"  ratio {(score - untouched) / best[0]:5.2f} to {best[1]}" if best and not is_rival(method) else ""
        print(f"  {method:<30}{score:8.4f}  gap {score - untouched:7.4f}{ratio}", flush=True)


def is_rival(method: str) -> bool:
    """Whether it is neither ours nor the source."""
    return method != "source" and not method.startswith("ours")


def check(name: str, cells: dict[str, DocumentScores]) -> None:
    """Our re-derivations beside the figures of the programs."""
    for documents, figures in ((None, PROGRAMS.get(name, {})), (FEW_DOCUMENTS, TRIAL.get(name, {}))):
        for method, figure in figures.items():
            if method not in cells:
                continue
            score = first(cells[method], documents)
            low, high = figure if isinstance(figure, tuple) else (figure, figure)
            away = 0.0 if low <= score <= high else min((score / low - 1, score / high - 1), key=abs)
            told = f"{low}" if low == high else f"{low}-{high}"
            inside = "agrees" if abs(away) <= TOLERANCE else "DIFFERS"
            which = "all" if documents is None else f"first {documents}"
            print(f"  {inside} {name} {which:<9}{method:<30}{score:7.3f} against {told} ({away:+.1%})", flush=True)


def table(results: dict[str, dict[str, DocumentScores]]) -> str:
    """Markdown: a row for each pair; our gap over the best rival's in the last columns."""
    methods = list(dict.fromkeys(method for cells in results.values() for method in cells))
    named = [method for method in methods if method not in ("source",)]
    head = ["", "untouched", *named, "best rival", "ratio", "ratio, tied"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, cells in results.items():
        untouched = cells["source"].bits_per_byte
        gaps = {method: score.bits_per_byte - untouched for method, score in cells.items()}
        best = min((method for method in gaps if is_rival(method)), key=gaps.__getitem__, default=None)
        ratios = [f"{gaps[m] / gaps[best]:.2f}" if best and m in gaps else "" for m in ("ours", "ours, tied")]
        values = [f"{cells[method].bits_per_byte:.3f}" if method in cells else "" for method in named]
        row = [name.replace(":", " → "), f"{untouched:.3f}", *values, best or "", *ratios]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


# Rows like ours without text, uncalibrated.
UNCALIBRATED = "transplant-vocab"
FITS = (
    "ours", "ours, not fitted", "ours, wikitext-2", "ours, wikitext-2, not fitted", "ours, wikitext-2 as it is",
    "ours, own text", "ours, no text", UNCALIBRATED,
)  # fmt: skip


def fits_table(results: dict[str, dict[str, DocumentScores]]) -> str:
    """Markdown: what fitting is worth, and whether text of another domain is worse than no calibration."""
    head = ["", *FITS, "wikitext-2 not worse than uncalibrated"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, cells in results.items():
        values = [f"{cells[method].bits_per_byte:.3f}" if method in cells else "" for method in FITS]
        none, other = cells.get(UNCALIBRATED), [cells[m] for m in FITS[2:4] if m in cells]
        held = "" if none is None else ", ".join(
            "yes" if score.bits_per_byte <= none.bits_per_byte else "**no**" for score in other
        )  # fmt: skip
        lines.append("| " + " | ".join([name.replace(":", " → "), *values, held]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print one table a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, help="only the first")
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS))
    parser.add_argument("--methods", nargs="+", default=None, help="only these rows of the table")
    parser.add_argument("--only-rivals", action="store_true", help="leave out ours")
    parser.add_argument("--table", action="store_true", help="Markdown")
    parser.add_argument("--fits", action="store_true", help="Markdown, ours alone: with and without fitting")
    parser.add_argument("--fresh", action="store_true", help="measure again what is kept")
    options = parser.parse_args()
    results = {}
    methods = FITS if options.fits and options.methods is None else options.methods
    for name in options.pairs:
        results[name] = measure_pair(name, methods, not options.only_rivals, options.fresh)
        if not options.table and not options.fits:
            show(name, results[name], options.documents)
            check(name, results[name])
    if options.table:
        print(table(results))
    if options.fits:
        print(fits_table(results))


if __name__ == "__main__":
    main()
