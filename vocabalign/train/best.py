"""The best weights of a run by held-out bits per byte, kept beside its checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_model, save_file
from torch import Tensor

from vocabalign.errors import TrainingError
from vocabalign.folders import is_disk_full

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FOLDER, WEIGHTS, NOTE = "best", "model.safetensors", "best.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The best score so far.

    Attributes:
        step: after which the model was scored.
        bits_per_byte: of the held-out text.
    """

    step: int
    bits_per_byte: float


def read_best(work: Path) -> Best | None:
    """The best score of a run whose weights are kept; None where there are none."""
    path = work / FOLDER / NOTE
    return Best(**json.loads(path.read_text())) if path.is_file() else None


def keep_best(work: Path, best: Best, weights: dict[str, Tensor]) -> None:
    """Replace the weights that are kept; those before stay until the new ones are whole.

    Raises:
        TrainingError: no space is left.
    """
    new, old = work / f"{FOLDER}.new", work / f"{FOLDER}.old"
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        save_file(_once(weights), str(new / WEIGHTS))
        (new / NOTE).write_text(json.dumps(asdict(best)))
    except Exception as error:
        shutil.rmtree(new, ignore_errors=True)
        if not is_disk_full(error):
            raise
        raise TrainingError(
            f"No space left for the best weights (step {best.step}) in {work}: free some space there and start the "
            "same command again; the checkpoints are kept."
        ) from error
    if (work / FOLDER).exists():
        os.replace(work / FOLDER, old)
    os.replace(new, work / FOLDER)
    shutil.rmtree(old, ignore_errors=True)


def mend_best(work: Path) -> None:
    """Take back the weights that a killed run had moved aside before the new ones were in their place."""
    if (work / f"{FOLDER}.old" / NOTE).is_file() and not (work / FOLDER).exists():
        os.replace(work / f"{FOLDER}.old", work / FOLDER)


def load_best(work: Path, model: PreTrainedModel) -> None:
    """Put the best weights into ``model``."""
    load_model(model, str(work / FOLDER / WEIGHTS), strict=False)


def _once(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor under one name: tied ones have several."""
    seen: dict[tuple[int, int], str] = {}
    for name, tensor in weights.items():
        seen.setdefault((tensor.data_ptr(), tensor.numel()), name)
    return {name: weights[name].detach().contiguous() for name in seen.values()}
