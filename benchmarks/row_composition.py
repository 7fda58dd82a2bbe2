"""Learned composition: source tokens re-cut into smaller ones are solved examples of which row a sequence becomes.

python benchmarks/row_composition.py --pair stories260K:tlm-833K
python benchmarks/row_composition.py --pair stories3M:tinystories-bpe_16384 --fit

First each form's squared error on a third of the re-cut tokens, held out by hash, relative to the best constant row:
for input rows, head rows and the logits that head rows give on the source's own final states; each token alike, and
in brackets by use. Then the nats a place that composed head rows cost, for these forms and for some that are learned
by that cost. Then what counts: bits per byte of held-out documents right after a transplant in which the new tokens'
rows are made so instead of as ``auto`` makes them; with ``--fit`` also after ``auto``'s fitting on a little text.
"""

from __future__ import annotations

import argparse
import logging

import numpy as np
import torch
from composition_forms import FORMS, select, squared_error
from composition_likelihood import as_rows, learn
from composition_study import CPU, LIKELIHOOD, READ_FACTORS, Study
from row_cells import Pair, documents_of

from vocabalign.transplantation.source_states import find_fitter
from vocabalign.transplantation.sources import TokenClass

_COUNTED, _LOGITS = "head logits − counts", "head logits"
# Form of input rows, form of head rows (None: auto's), the view that head rows are learned in, counts added to them.
STARTS: dict[str, tuple[str | None, str | None, str, bool]] = {
    "auto": (None, None, "", True),
    "inputs: decay, learned": ("decay, learned", None, "", True),
    "inputs: decay, read": ("decay, read", None, "", True),
    **{f"inputs: decay {factor}": (f"decay {factor}", None, "", True) for factor in READ_FACTORS[1:]},
    "inputs: weights from the end": ("weights from the end", None, "", True),
    "inputs: weights from both": ("weights from both", None, "", True),
    "inputs: + residual": ("+ residual", None, "", True),
    "inputs: plain ridge": ("plain ridge", None, "", True),
    "heads: decay, learned, counts": (None, "decay, learned", _COUNTED, True),
    "heads: weights from both, no counts": (None, "weights from both", _LOGITS, False),
    "heads: weights from both, counts": (None, "weights from both", _COUNTED, True),
    "heads: + residual, no counts": (None, "+ residual", _LOGITS, False),
    "heads: + residual, counts": (None, "+ residual", _COUNTED, True),
    "inputs: weights, full spread": ("weights, full spread", None, "", True),
    "inputs: auto + residual": ("auto + residual", None, "", True),
    "heads: weights, full spread, counts": (None, "weights, full spread", _COUNTED, True),
    "heads: + residual, full spread, counts": (None, "+ residual, full spread", _COUNTED, True),
    "heads: auto + residual, counts": (None, "auto + residual", _COUNTED, True),
    "heads: likelihood: weights": (None, "likelihood: weights", "", False),
    "heads: likelihood: weights, shifts": (None, "likelihood: weights, shifts", "", False),
    "heads: likelihood: weights, map": (None, "likelihood: weights, map", "", False),
    "heads: likelihood: weights, shifts, map": (None, "likelihood: weights, shifts, map", "", False),
    "heads: plain ridge, counts": (None, "plain ridge", _COUNTED, True),
    "both: weights from both, counts": ("weights from both", "weights from both", _COUNTED, True),
    "both: + residual, counts": ("+ residual", "+ residual", _COUNTED, True),
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="stories260K:tlm-833K")
    parser.add_argument("--documents", type=int, default=25)
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), help="only these")
    parser.add_argument("--no-errors", action="store_true", help="leave out the first table")
    parser.add_argument("--fit", action="store_true", help="fit the starts too, on --fit-kilobytes of the text")
    parser.add_argument("--fit-kilobytes", type=int, default=100)
    options = parser.parse_args()
    logging.getLogger("vocabalign").setLevel(logging.ERROR)
    study = Study(options.pair, options.fit_kilobytes * 1000)
    if not options.no_errors:
        errors(study)
        likelihoods(study)
    documents = documents_of(Pair(options.pair).text("heldout"))[: options.documents]
    starts(study, documents, options.starts, options.fit)


def errors(study: Study) -> None:
    """Print relative squared errors of held-out tokens."""
    learned, tested = study.parts()
    trust = study.trust(learned)
    pieces = [float(part.lengths.mean()) for part in (study.pieces, study.new_pieces)]
    print(f"{len(study.ids)} re-cut tokens of {pieces[0]:.2f} pieces, {len(tested)} of them held out")
    print(f"{len(study.new)} new target tokens of {pieces[1]:.2f} pieces")
    views = study.views()
    print("| | " + " | ".join(views) + " |\n|" + "---|" * (len(views) + 1))
    for name, form in FORMS.items():
        cells = []
        for view in views.values():
            predict = form(select(study.pieces, learned), view.rows, view.truth[learned], trust, view.side)
            made, truth = predict(select(study.pieces, tested)), view.truth[tested]
            used = study.uses[tested]
            cells.append([_relative(made, truth, weights) for weights in ((used > 0).astype(float), used)])
        print(f"| {name} | " + " | ".join(f"{alike:.3f} ({by_use:.3f})" for alike, by_use in cells) + " |", flush=True)


def _relative(made: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Squared error over that of the best constant row."""
    mean = (weights[:, None] * truth).sum(0) / weights.sum()
    return squared_error(made, truth, weights) / squared_error(np.broadcast_to(mean, truth.shape), truth, weights)


def likelihoods(study: Study) -> None:
    """Print what held-out re-cut tokens cost in the head, by the way their rows are made."""
    learned, tested = study.parts()
    places, examples = study.places(), study.examples()
    view, some = study.views()[_COUNTED], select(study.pieces, learned)
    print("nats a place that composed head rows of held-out tokens cost, counts added:")
    for name, form in FORMS.items():
        predict = form(some, view.rows, view.truth[learned], study.trust(learned), "head")
        shift = study.recut_shift()[tested]
        rows = as_rows(predict, select(study.pieces, tested), view.back, shift, study.direction)
        print(f"  {name:<28}{float(places.select(tested).excess(rows)):8.4f}", flush=True)
    for name, wanted in LIKELIHOOD.items():
        made = learn(examples.select(learned), places.select(learned), study.direction, **wanted)
        cost = float(places.select(tested).excess(made.rows(examples.select(tested))))
        told = f"{[round(x, 2) for x in made.weights.tolist()]} {[round(x, 2) for x in made.shifts.tolist()]}"
        print(f"  {name:<28}{cost:8.4f}  {told}  map {made.mapping.norm():.2f}", flush=True)


def starts(study: Study, documents: list[str], only: list[str] | None, fit: bool) -> None:
    """Print bits per byte with learned rows, and with ``fit`` after fitting."""
    views = study.views()
    fitter = None
    if fit:
        fitter = find_fitter(study.checkpoint, study.source, study.target, study.counts, CPU, torch.float32)
    for name, (input_form, head_form, view, shifted) in STARTS.items():
        if only and name not in only:
            continue
        inputs = study.learned(views["input rows"], input_form) if input_form else None
        heads = None
        if head_form:
            known = head_form in LIKELIHOOD
            heads = study.likely(head_form) if known else study.learned(views[view], head_form)
        make = study.maker(inputs, heads, shifted)
        line = f"{name:<56}{study.score(make(None, None, None), documents):8.4f}"
        if fitter is not None:
            free = ~study.sources.fixed & (study.sources.classes != TokenClass.PADDING)
            fitted = fitter.fit(make, free)
            made = make(fitted.inputs, fitted.shift, fitted.heads)
            line += f"  fitted {study.score(made, documents):8.4f}  held out {fitted.bits_per_byte}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
