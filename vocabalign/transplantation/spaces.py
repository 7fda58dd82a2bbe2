"""What some ways of making rows need beside the two tokenizers: token embeddings, and the target vocabulary's owner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vocabalign.errors import ConfigError
from vocabalign.models import resolve
from vocabalign.stages import TransplantConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.token_embeddings import load_embeddings
from vocabalign.transplantation.chat_templates import find_template
from vocabalign.transplantation.checkpoint import Checkpoint, open_checkpoint
from vocabalign.transplantation.row_plans import NEEDS, Spaces
from vocabalign.transplantation.rows import Side


def refuse_missing(config: TransplantConfig, *, has_text: bool = False) -> None:
    """Refuse, before any work, a way of making rows or a chat template that needs what was not given.

    Args:
        config: of the transplant.
        has_text: text was given beside it.

    Raises:
        ConfigError: which of them, and what it needs.
        ModelError: there is no source model.
    """
    for method in dict.fromkeys((config.input_rows, config.head_rows)):
        missing = [name for name in NEEDS.get(method, ()) if getattr(config, name) is None]
        if missing:
            flags = " and ".join("--" + name.replace("_", "-") for name in missing)
            raise ConfigError(f"The rows '{method}' need {flags}: {_MADE_BY[missing[0]]}.")
    if config.own_text and (config.corpus or has_text):
        raise ConfigError("Both --corpus and --own-text are given: leave out one of the two.")
    if config.chat_template != "target":
        find_template(config.chat_template, resolve(config.source))


_MADE_BY = {
    "lexicon": "made by 'vocabalign align'",
    "source_embeddings": "token embeddings made by 'vocabalign embed'",
    "target_embeddings": "token embeddings made by 'vocabalign embed'",
    "target_model": "a model that was trained with the target tokenizer",
}


def open_spaces(config: TransplantConfig, target: Vocabulary) -> Spaces:
    """Read what the configuration names.

    Args:
        config: of the transplant.
        target: the target vocabulary, T tokens.

    Raises:
        ArtifactError: token embeddings of another tokenizer.
        ConfigError: a model with another vocabulary.
    """
    owner = None
    if config.target_model is not None:
        check_owner(config.target_model, target)
        checkpoint = open_checkpoint(config.target_model)
        # A tied row is made once, from the space of input rows: two spaces would give two rows.
        tied = open_checkpoint(config.source).tied
        owner = lambda side: _read_side(checkpoint, "input" if tied else side)  # noqa: E731
    return Spaces(
        _vectors(config.target_embeddings, target),
        None
        if config.source_embeddings is None
        else _vectors(config.source_embeddings, load_vocabulary(config.source)),
        owner,
        config.seed,
    )


def check_owner(folder: str, target: Vocabulary) -> None:
    """Refuse a model whose tokenizer is not the target.

    Raises:
        ConfigError: the vocabularies differ.
    """
    owned = load_vocabulary(folder)
    if owned.fingerprint != target.fingerprint:
        raise ConfigError(
            f"The model {folder} has another vocabulary ({len(owned):,} tokens) than the target '{target.name}' "
            f"({len(target):,} tokens): give a model that was trained with the target tokenizer."
        )


def _vectors(folder: Path | None, vocabulary: Vocabulary) -> np.ndarray | None:
    return None if folder is None else load_embeddings(folder, vocabulary).vectors


def _read_side(checkpoint: Checkpoint, side: Side) -> torch.Tensor:
    """(S, H) embedding, or head where it is a matrix of its own."""
    own_head = side == "head" and checkpoint.head is not None
    return checkpoint.read(checkpoint.head if own_head and checkpoint.head else checkpoint.embedding)
