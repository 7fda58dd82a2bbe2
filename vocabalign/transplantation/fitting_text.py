"""How much text rows are fitted on: as many documents as take a few seconds a pass, and some to choose by."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from vocabalign.transplantation.fitting import Fitter
from vocabalign.transplantation.running import Body, Document

logger = logging.getLogger("vocabalign")

HELD_OUT_SHARE = 0.25
# Operations of one pass through the body, of one product with the head, and of one round of fitting rows: a few
# seconds each.
_OPERATIONS = {"cpu": 2e11, "cuda": 1e14, "mps": 4e12}
# With fewer places nothing is learned about any token.
LEAST_TOKENS = 2_000


def make_fitter(body: Body, documents: Sequence[Document], num_targets: int, logit_scale: float) -> Fitter | None:
    """A fitter on as many documents as take a few seconds a pass; None where there is too little to learn from.

    Documents that both tokenizers cut alike are read too, but if all of them are, nothing is to be fitted.
    """
    if all(document.one_to_one for document in documents):
        return None
    operations = _OPERATIONS.get(body.device.type, _OPERATIONS["cpu"])
    hidden_size = int(body.model.config.get_text_config().hidden_size)
    num_used = len(np.unique(np.concatenate([document.target for document in documents])))
    # A round of fitting rows multiplies twice what a product with the head does.
    room = operations / 2 / max(body.num_parameters, 4 * num_used * hidden_size)
    whole = operations / 2 / max(body.num_parameters, num_targets * hidden_size)
    chosen = _first(documents, max(room, whole))
    held_out = _first(chosen[: round(len(chosen) * HELD_OUT_SHARE)], whole / 2)
    learned = chosen[len(held_out) :]
    if not held_out or sum(len(document.target) for document in learned) < LEAST_TOKENS:
        logger.info(
            "Rows are not fitted to hidden states: the text, or what this machine can read of it, is too short."
        )
        return None
    return Fitter(body, learned, held_out, logit_scale, len(_first(learned, whole)))


def _first(documents: Sequence[Document], room: float) -> Sequence[Document]:
    """The first documents of about so many tokens."""
    for number, document in enumerate(documents):
        if room <= 0:
            return documents[:number]
        room -= max(len(document.source), len(document.target))
    return documents
