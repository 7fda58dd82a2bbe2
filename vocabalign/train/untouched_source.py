"""Which model a transplanted one was before: found through the manifests that it left, and checked by its content."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocabalign.errors import ArtifactError, ModelError
from vocabalign.fingerprints import MANIFEST, fingerprint_paths
from vocabalign.manifests import read_manifest
from vocabalign.models import resolve

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger("vocabalign")
# The input that a stage trains or transplants further: what leads from a model to the one before it.
BEFORE = {"finetune": "model", "distill": "student"}
LONGEST_CHAIN = 32
_SAME = ("model_type", "hidden_size")
_LAYERS = "num_hidden_layers"


@dataclass(frozen=True)
class Origin:
    """What a transplant says that it was made from.

    Attributes:
        path: where the source was.
        fingerprint: of its content.
    """

    path: str
    fingerprint: str


def find_origin(folder: Path) -> Origin | None:
    """What the transplant behind a model was made from; through trainings that came after it.

    None where the folder has no manifest, or the way back ends before a transplant.
    """
    for _ in range(LONGEST_CHAIN):
        if not (folder / MANIFEST).is_file():
            return None
        try:
            manifest = read_manifest(folder)
            stage, paths, prints = manifest["stage"], manifest["inputs"], manifest["input_fingerprints"]
            if stage == "transplant":
                return Origin(paths["source"][0], prints["source"])
            if stage not in BEFORE:
                return None
            before = resolve(paths[BEFORE[stage]][0])
            if fingerprint_paths([str(before)]) != prints[BEFORE[stage]]:
                return None  # another model is there now
        except (ArtifactError, ModelError, KeyError, IndexError, TypeError):
            return None
        folder = before
    return None


def choose_source(named: str | None, model: Path) -> Path | None:
    """The source to learn from: the one that is named, or the one that the model's transplant names.

    Returns:
        Its folder; None where none is named and the transplant's is not there any more, or there was no transplant.

    Raises:
        ModelError: the one that is named is not the one that was transplanted.
    """
    origin = find_origin(model)
    if named is not None:
        folder = resolve(named)
        if origin is not None and fingerprint_paths([str(folder)]) != origin.fingerprint:
            raise ModelError(
                f"The source {folder} is not the model that {model} was transplanted from ({origin.path}, as it was "
                "then): give that one, or leave --source away."
            )
        return folder
    if origin is None:
        return None
    try:
        folder = resolve(origin.path)
        same = fingerprint_paths([str(folder)]) == origin.fingerprint
    except (ArtifactError, ModelError):
        same = False
    if same:
        return folder
    logger.warning(
        "The model that was transplanted, %s, is not there as it was: training goes on without learning from it. "
        "Say where it is with --source.",
        origin.path,
    )
    return None


def check_same_body(model: PreTrainedModel, source: PreTrainedModel, name: str) -> None:
    """Refuse a source that cannot be the model before its transplant, which may have left layers out.

    Raises:
        ModelError: another architecture or size.
    """
    mine, theirs = model.config.get_text_config(), source.config.get_text_config()
    for key in (*_SAME, _LAYERS):
        fewer = key == _LAYERS and getattr(mine, key, 0) < getattr(theirs, key, 0)
        if getattr(mine, key, None) != getattr(theirs, key, None) and not fewer:
            raise ModelError(
                f"The source {name} has {key} {_value(theirs, key)} and the model {_value(mine, key)}: "
                "give the model that was transplanted, as it was before."
            )


def _value(config: Any, key: str) -> Any:
    return getattr(config, key, None)
