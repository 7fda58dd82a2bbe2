"""The new matrices of a model, from the sources of its tokens: embedding, head, bias, padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy import sparse

from vocabalign.errors import ConfigError, ModelError
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.calibration import (
    CorpusCounts,
    constant_direction,
    count_shift,
    padding_row,
    rank_shift,
)
from vocabalign.transplantation.checkpoint import Checkpoint
from vocabalign.transplantation.fitting import Fitted, Fitter, Made
from vocabalign.transplantation.head_fitting import HeadCorrection
from vocabalign.transplantation.provenance import Provenance
from vocabalign.transplantation.row_plans import RowPlan, Spaces, plan_rows
from vocabalign.transplantation.rows import make_rows, mean_row
from vocabalign.transplantation.source_states import SourceStates
from vocabalign.transplantation.sources import Sources, TokenClass
from vocabalign.transplantation.tying import OTHER_TIED_WEIGHTS, TIED_INPUT_WEIGHT, tie

_NO_SPACES = Spaces()
_ONE = torch.tensor(1.0)


@dataclass(frozen=True)
class Methods:
    """How rows are made: names of ``rows.py`` or "auto"; see ``TransplantConfig``."""

    input_rows: str = "auto"
    head_rows: str = "auto"
    calibrate_head: bool = True
    untie: bool = False
    fit: bool = True


@dataclass(frozen=True)
class NewRows:
    """What replaces the source's vocabulary tensors; R rows, in the source's dtype.

    Attributes:
        embedding: (R, H).
        head: (R, H), or None where the model is tied or has no head.
        bias: (R,), or None.
        provenance: where each row came from.
        fitted: what fitting to the source's hidden states found; None where nothing was fitted.
    """

    embedding: torch.Tensor
    head: torch.Tensor | None
    bias: torch.Tensor | None
    provenance: Provenance
    fitted: Fitted | None = None


def make_new_rows(
    checkpoint: Checkpoint,
    sources: Sources,
    target: Vocabulary,
    num_rows: int,
    methods: Methods,
    counts: CorpusCounts | None,
    read: SourceStates | None,
    spaces: Spaces = _NO_SPACES,
    fitter: Fitter | None = None,
) -> NewRows:
    """Make all new rows.

    Args:
        checkpoint: the source model, S rows.
        sources: of T target tokens.
        target: the vocabulary, T tokens.
        num_rows: R, at least T.
        methods: how.
        counts: of both vocabularies in a corpus; None leaves the head uncalibrated.
        read: final hidden states of the source on the corpus and on odd texts; None where they are not known.
        spaces: vectors and matrices that some methods need.
        fitter: corrects input rows that ``auto`` makes, and calibrated heads; None leaves both as they are.

    Raises:
        ConfigError: a method that does not fit what was given.
    """
    if methods.untie and not checkpoint.tied:
        raise ConfigError(f"{checkpoint.folder} has a head of its own already: leave out --untie.")
    if methods.untie and checkpoint.head_in_memory is None:
        raise ModelError(f"{checkpoint.folder} has no head that could be untied.")
    tied = checkpoint.tied and not methods.untie
    old_embedding = checkpoint.read(checkpoint.embedding)
    old_head = old_embedding if checkpoint.head is None or checkpoint.tied else checkpoint.read(checkpoint.head)
    inputs = plan_rows(methods.input_rows, "input", sources, spaces, old_embedding)
    states, all_states = (None, None) if read is None else (read.text, read.everything)
    shift = direction = None
    # What an encoder fills in does not compete with its own continuations.
    can_shift = checkpoint.generates and (checkpoint.bias is not None or states is not None)
    shifts = counts is not None and methods.calibrate_head and can_shift and not sources.same
    by_rank = counts is None and methods.calibrate_head and can_shift and not sources.same
    by_rank &= methods.head_rows == "auto"
    # A first piece alone says nothing of how often the token goes on as it does.
    uncounted = methods.head_rows == "auto" and not shifts and not sources.same and checkpoint.generates
    method = ("steep" if by_rank else "decay") if uncounted else methods.head_rows
    if shifts and counts is not None and counts.imagined and methods.head_rows == "auto":
        method = "steep"
    heads = plan_rows(method, "head", sources, spaces, old_head)
    # In logits; the model scales what rows and bias give.
    if counts is not None and shifts and heads.pieces is not None:
        shift = count_shift(heads.pieces, counts) / np.float32(checkpoint.logit_scale)
    elif by_rank and heads.pieces is not None:
        new = np.isin(heads.classes, (TokenClass.SEGMENTATION, TokenClass.LEXICON))
        shift = rank_shift(heads.pieces, new) / np.float32(checkpoint.logit_scale)
    if states is not None:
        direction = constant_direction(states)
    old_bias = None if checkpoint.bias is None else checkpoint.read(checkpoint.bias)
    in_rows = shift is not None and checkpoint.bias is None

    tie_weight = TIED_INPUT_WEIGHT if tied else None

    def assemble(
        correction: torch.Tensor | None,
        extra: np.ndarray | None,
        rows: HeadCorrection | None,
        weight: float | None = tie_weight,
    ) -> Made:
        """The matrices with what fitting corrects; one matrix for both uses, or two."""
        total = shift if shift is None or extra is None else shift + extra
        embedding = _with_dense(make_rows(inputs.weights, old_embedding), inputs)
        if correction is not None:
            embedding = (embedding.float() + correction).to(embedding.dtype)
        head = embedding
        if checkpoint.head_in_memory is not None:
            head = make_rows(heads.weights, old_head, total if in_rows else None, direction if in_rows else None)
            head = _with_dense(head, heads)
        if weight is not None:
            embedding = head = tie(embedding, head, inputs.weights, heads.weights, states, weight)
        bias = None
        if old_bias is not None:
            bias = make_rows(heads.weights, old_bias, total, None if total is None else _ONE)
        if rows is not None:
            head, bias = rows.apply(head, bias)
        return Made(embedding if weight is None else head, head, bias)

    fitted = None
    if fitter is not None:
        free = ~sources.fixed & (inputs.classes != TokenClass.PADDING) & (methods.input_rows == "auto")
        apart = partial(assemble, weight=None) if tied else None
        fits_heads = methods.head_rows == "auto"
        if tied and states is not None:
            ways = {weight: partial(assemble, weight=weight) for weight in (TIED_INPUT_WEIGHT, *OTHER_TIED_WEIGHTS)}
            tie_weight = min(ways, key=lambda weight: fitter.score(ways[weight](None, None, None)))
        joined = partial(assemble, weight=tie_weight)
        fitted = fitter.fit(joined, free, shifts=shift is not None, heads=fits_heads, apart=apart)
    none = (None, None, None)
    corrections = none if fitted is None else (fitted.inputs, fitted.shift, fitted.heads)
    made = assemble(*corrections, weight=tie_weight)
    if fitted is not None:
        inputs, heads = _told_fitted(inputs, heads, fitted, tied)
        shift = shift if shift is None or fitted.shift is None else shift + fitted.shift
    has_head = checkpoint.head_in_memory is not None
    embedding, bias = made.embedding, made.bias if has_head else None
    head = made.head if has_head and not tied else None
    gaps = np.concatenate([sources.classes == TokenClass.PADDING, np.ones(num_rows - len(sources.classes), bool)])
    embedding = _with_padding(embedding, gaps, checkpoint, sources, direction, all_states, is_head=tied)
    if head is not None:
        head = _with_padding(head, gaps, checkpoint, sources, direction, all_states, is_head=True)
    if bias is not None:
        real = bias.float()[torch.from_numpy(~gaps[: len(bias)])]
        low = (real.min() - 100 / checkpoint.logit_scale).to(bias.dtype)
        bias = torch.cat([bias, low.expand(num_rows - len(bias))])
        bias[torch.from_numpy(gaps)] = low if not sources.same else bias[torch.from_numpy(gaps)]
    told = inputs.classes
    if checkpoint.head_in_memory is not None:
        by_head = (told == TokenClass.SEGMENTATION) & (heads.classes != TokenClass.FITTED)
        told = np.where(by_head, heads.classes, told).astype(np.uint8)
    beyond = np.full(num_rows - len(target), TokenClass.PADDING, np.uint8)
    classes = np.concatenate([told, beyond])
    padded = _padder(num_rows)
    provenance = Provenance(
        source=str(checkpoint.folder.absolute()),
        target=target.name,
        methods={"input": inputs.method, "head": heads.method},
        tied=tied,
        classes=classes,
        input=padded(inputs.weights),
        head=padded(heads.weights),
        shift=None if shift is None else np.pad(shift, (0, num_rows - len(shift))),
        confidence=np.pad(sources.confidence, (0, num_rows - len(target))),
        counts=None if counts is None else counts.target,
        head_classes=np.concatenate([heads.classes, beyond]) if has_head and (heads.classes != told).any() else None,
    )
    return NewRows(embedding, head, bias, provenance, fitted)


def _told_fitted(inputs: RowPlan, heads: RowPlan, fitted: Fitted, tied: bool) -> tuple[RowPlan, RowPlan]:
    """The plans as they are told: rows that were fitted are no mixtures any more, nor copies."""
    fitted_inputs = fitted_heads = np.zeros(len(inputs.classes), bool)
    if fitted.inputs is not None:
        fitted_inputs = fitted.inputs.ne(0).any(dim=1).numpy()
    if fitted.heads is not None:
        fitted_heads = np.zeros(len(heads.classes), bool)
        fitted_heads[fitted.heads.ids.numpy()] = True
        fitted_inputs = fitted_heads if tied else fitted_inputs
    return _told(inputs, fitted_inputs), _told(heads, fitted_heads)


def _told(plan: RowPlan, fitted: np.ndarray) -> RowPlan:
    if not fitted.any():
        return plan
    weights = sparse.csr_matrix(sparse.diags((~fitted).astype(np.float32)) @ plan.weights)
    weights.eliminate_zeros()
    return replace(plan, weights=weights, classes=np.where(fitted, TokenClass.FITTED, plan.classes).astype(np.uint8))


def _with_dense(rows: torch.Tensor, plan: RowPlan) -> torch.Tensor:
    """The rows with those of the plan that are no mixture."""
    ids, dense = plan.dense
    if len(ids):
        rows[torch.from_numpy(ids)] = dense.to(rows.dtype)
    return rows


def _with_padding(
    rows: torch.Tensor, gaps: np.ndarray, checkpoint: Checkpoint, sources: Sources, direction: torch.Tensor | None,
    states: torch.Tensor | None, *, is_head: bool,
) -> torch.Tensor:  # fmt: skip
    """(R, H): ids without a token get the mean row, in a head one that can never win."""
    num_new = len(gaps) - len(rows)
    if sources.same and num_new > 0 and len(gaps) == checkpoint.num_rows:
        name = checkpoint.head if is_head and checkpoint.head else checkpoint.embedding
        return torch.cat([rows, checkpoint.read(name)[len(rows) :]])
    if not gaps.any():
        return rows
    real = rows[torch.from_numpy(~gaps[: len(rows)])]
    filler = padding_row(real, direction, states, checkpoint.logit_scale) if is_head else mean_row(real)
    result = torch.cat([rows, filler.to(rows.dtype).expand(num_new, -1)])
    result[torch.from_numpy(gaps)] = filler.to(rows.dtype)
    return result


def _padder(num_rows: int) -> Callable[[sparse.csr_matrix], sparse.csr_matrix]:
    def pad(weights: sparse.csr_matrix) -> sparse.csr_matrix:
        missing = num_rows - weights.shape[0]
        empty = sparse.csr_matrix((missing, weights.shape[1]), dtype=np.float32)
        return sparse.vstack([weights, empty], "csr") if missing else weights

    return pad
