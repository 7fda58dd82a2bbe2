"""What fine-tuning and distillation share: folders to resume from, models read for training."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState

from vocabalign.artifacts import stage_artifact
from vocabalign.config import StageConfig
from vocabalign.errors import ConfigError, CorpusError, ModelError
from vocabalign.folders import work_folder
from vocabalign.models import context_length, load_model, resolve
from vocabalign.stages import DistillConfig, FinetuneConfig, TrainingOptions
from vocabalign.text.heldout_text import read_heldout as read_heldout_text
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.belonging import check_vocabulary_belongs
from vocabalign.train.head import check_head, check_vocabulary_fits
from vocabalign.train.heldout import HeldOut
from vocabalign.train.recorder import METRICS, Recorder
from vocabalign.train.texts import HELDOUT
from vocabalign.train.trackers import Trackers, tracker_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger("vocabalign")
DEFAULT_CONTEXT = 2048
HELDOUT_BYTES = 1_000_000
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


@dataclass(frozen=True)
class Run:
    """A run of a training stage in progress.

    Attributes:
        folder: the artefact's files go here; ``None`` on all ranks but the first.
        work: checkpoints and tokenised text.
        metrics: go into the manifest.
    """

    folder: Path | None
    work: Path
    metrics: dict[str, Any]


def is_main() -> bool:
    """Whether this process writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Until every rank is here; nothing with one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The first rank goes through the block before the others."""
    if not is_main():
        wait_for_all()
    yield
    if is_main():
        wait_for_all()


@contextlib.contextmanager
def open_run(config: StageConfig, stage: str) -> Iterator[Run]:
    """The artefact to write, and the checkpoints of an earlier, interrupted run of the same thing."""
    if not is_main():
        wait_for_all()
        yield Run(None, work_folder(Path(config.out).absolute()), {})
    else:
        with stage_artifact(stage, config) as writer:
            if (writer.work / METRICS).exists():
                logger.info("Going on with the interrupted run in %s.", writer.work)
            wait_for_all()
            yield Run(writer.folder, writer.work, writer.metrics)
    wait_for_all()  # only now is the artefact there, under its final name, for every rank


# ---------------------------------------------------------------------- models


@dataclass
class Trainee:
    """A model read for training: float32 master weights, its tokenizer, and the folder they came from.

    Where FSDP spreads a model over ranks, another one with its weights takes its place after each stage.
    """

    model: PreTrainedModel
    vocabulary: Vocabulary
    folder: Path
    dtype: torch.dtype


def read_trainee(reference: str) -> Trainee:
    """Load a model to train; refuses what does not belong together.

    Raises:
        ModelError, TokenizerError: the folder cannot be trained.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # its bars would be drawn into logs
    folder = resolve(reference)
    vocabulary = load_vocabulary(folder)
    model = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
    check_vocabulary_fits(model, vocabulary, folder)
    check_vocabulary_belongs(model, vocabulary, folder)
    check_head(model, folder)
    return Trainee(model, vocabulary, folder, checkpoint_dtype(folder))


def checkpoint_dtype(folder: Path) -> torch.dtype:
    """The dtype that most of the weights are stored in."""
    sizes: Counter[str] = Counter()
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, tensor in header.items():
            if name != "__metadata__":
                sizes[tensor["dtype"]] += tensor["data_offsets"][1] - tensor["data_offsets"][0]
    if not sizes or sizes.most_common(1)[0][0] not in _DTYPES:
        raise ModelError(f"{folder} has weights in {', '.join(sizes) or 'no safetensors file'}; expected floats.")
    return _DTYPES[sizes.most_common(1)[0][0]]


def sequence_length(options: TrainingOptions, model: PreTrainedModel, folder: Path) -> int:
    """Tokens in a training sequence.

    Raises:
        ConfigError: longer than the model was made for.
    """
    limit = context_length(model)
    if options.context is None:
        return min(limit or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if limit is not None and options.context > limit:
        raise ConfigError(f"training.context is {options.context}, but {folder} was made for at most {limit} tokens.")
    return options.context


def read_heldout(
    config: FinetuneConfig | DistillConfig, run: Run, vocabulary: Vocabulary, context: int
) -> HeldOut | None:
    """Windows of the held-out text, given or split off, or ``None`` where there is none.

    Raises:
        ConfigError: scores, or an end by them, are asked for without a text.
        CorpusError: the text is missing or empty, or the split left nothing on its side.
    """
    options = config.training
    files = list(config.heldout)
    if options.heldout_share:
        files.append(str(run.work / HELDOUT))
        if not (run.work / HELDOUT).stat().st_size:
            raise CorpusError(
                f"training.heldout_share of {options.heldout_share} holds out none of the documents: give more text or "
                "a larger share, or name a file with heldout."
            )
    if not files:
        return None
    text = read_heldout_text(files, HELDOUT_BYTES)
    return HeldOut(text, vocabulary, context, options.batch_size)


def open_recorder(config: FinetuneConfig | DistillConfig, run: Run, heldout: HeldOut | None) -> Recorder:
    """What records a run: ``metrics.jsonl`` in its work folder, and the trackers that ``trainer.report_to`` names.

    TensorBoard's files go to the folder that TENSORBOARD_LOGGING_DIR names, else to ``trackers`` beside the artefact.

    Raises:
        ConfigError: a tracker is unknown, or an early end is asked for without scores.
    """
    options = config.training
    if options.patience is not None and (heldout is None or options.evaluate_every is None):
        raise ConfigError(
            "training.patience ends a stage by its scores, and there are none: give held-out text (heldout, or "
            "training.heldout_share) and training.evaluate_every."
        )
    out = Path(config.out).absolute()
    folder = Path(os.environ.get("TENSORBOARD_LOGGING_DIR") or out.parent / "trackers")
    names = tracker_names(config.trainer.get("report_to")) if is_main() else []
    trackers = Trackers(names, folder, str(config.trainer.get("run_name") or out.name), config.model_dump(mode="json"))
    return Recorder(run.work, heldout, options.evaluate_every, is_main(), patience=options.patience, trackers=trackers)
