"""The model that training wrote: an ordinary folder, checked before and after."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vocabalign.errors import TrainingError, VerificationError
from vocabalign.fingerprints import MANIFEST
from vocabalign.model_card import corpus_languages, measured_rows, write_card
from vocabalign.models import load_model
from vocabalign.train.best import load_best, read_best
from vocabalign.train.recorder import METRICS
from vocabalign.train.run import Run, Trainee
from vocabalign.train.trainable import merge_lora

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger("vocabalign")
LICENCES = "The licences of the source model, the tokenizer and any teacher apply."
RELOAD_BYTES = 2 * 1000**3
LAST = "last"
FOLDER_BYTES = 50 * 1000**2
# What training makes anew; everything else in a model folder is taken along as it is.
_WEIGHTS = tuple(
    ".safetensors .safetensors.index.json .bin .bin.index.json .pt .pth .gguf .onnx .h5 .msgpack .ckpt".split()
)
_NOT_COPIED = frozenset({MANIFEST, METRICS, "README.md", "verification.json", ".gitattributes"})
# Speed differs between equal runs; it is in the manifest, which does not count for a fingerprint.
_NOT_IN_CARD = frozenset({"tokens_per_second"})


def write_model(run: Run, trainee: Trainee, title: str, lines: Sequence[str], corpus: Sequence[str] = ()) -> None:
    """An ordinary Hugging Face folder: weights in the input's dtype, all other files as they were.

    Args:
        run: the stage's run; nothing is written where it has no folder.
        trainee: the trained model.
        title: heading of its card.
        lines: what was done, for its card.
        corpus: text whose languages the card names.

    Raises:
        TrainingError: a weight is not a number in the input's dtype.
        VerificationError: the folder does not read back as the model in memory.
    """
    if run.folder is None:
        return
    merge_lora(trainee.model)
    put_best(run, trainee)
    check_finite(trainee.model, trainee.dtype)
    trainee.model.to(trainee.dtype)  # type: ignore[arg-type]  # transformers' decorator hides the signature
    trainee.model.save_pretrained(run.folder)
    copy_other_files(trainee.folder, run.folder)
    metrics = run.work / METRICS
    if metrics.exists():
        shutil.copyfile(metrics, run.folder / METRICS)
    write_card(
        run.folder,
        trainee.folder,
        title=title,
        done=lines,
        measures=measured_rows(run.metrics, _NOT_IN_CARD),
        notes=[LICENCES],
        languages=corpus_languages(corpus),
    )
    check_reads_back(trainee.model, run.folder)


def put_best(run: Run, trainee: Trainee) -> None:
    """Make the trained model the best one by held-out bits per byte; the last one, if it is another, goes to ``last``.

    ``run.metrics`` says which step the model is of, and both scores.
    """
    best, last = read_best(run.work), run.metrics.get("heldout_bits_per_byte")
    if best is None or last is None or run.folder is None:
        return
    if best.bits_per_byte < last:
        weights = {name: value.to(trainee.dtype, copy=True) for name, value in trainee.model.state_dict().items()}
        trainee.model.save_pretrained(run.folder / LAST, state_dict=weights)
        del weights
        load_best(run.work, trainee.model)
        run.metrics.update(
            heldout_bits_per_byte=best.bits_per_byte, heldout_bits_per_byte_last=last, best_step=best.step
        )
        logger.info(
            "The model is that of step %d, the best by held-out text (%.4f bits per byte); the last one (%.4f) is in "
            "'%s' beside it.",
            best.step,
            best.bits_per_byte,
            last,
            LAST,
        )


def check_finite(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Refuse weights that ``dtype`` cannot hold.

    Raises:
        TrainingError: names the first such tensor.
    """
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if torch.isfinite(values.to(dtype)).all():
            continue
        shown = str(dtype).removeprefix("torch.")
        if not torch.isfinite(values).all():
            raise TrainingError(f"{name} holds values that are no numbers after training: use a lower learning rate.")
        limit = "at most 65504" if dtype == torch.float16 else f"at most {torch.finfo(dtype).max:.4g}"
        raise TrainingError(
            f"{name} holds {values.abs().max().item():.4g} after training, but the model is stored in {shown}, which "
            f"holds {limit}: store it in bfloat16 or float32 and train again, or use a lower learning rate."
        )


def check_reads_back(model: PreTrainedModel, folder: Path) -> None:
    """Load what was written and compare it with the model in memory, bit for bit.

    Raises:
        VerificationError: names or values differ.
    """
    expected = dict(model.named_parameters())
    size = sum(parameter.numel() * parameter.element_size() for parameter in expected.values())
    if size > RELOAD_BYTES:
        logger.info("The weights are %.1f GB: the written model is not read back.", size / 1e9)
        return
    dtype = next(iter(expected.values())).dtype
    found = dict(load_model(folder, dtype=dtype, device=torch.device("cpu")).named_parameters())
    if found.keys() != expected.keys():
        names = ", ".join(sorted(found.keys() ^ expected.keys())[:3])
        raise VerificationError(f"The written model has other parameters than the trained one ({names}): report this.")
    for name, parameter in expected.items():
        if not _same_bits(parameter.detach().cpu(), found[name].detach()):
            raise VerificationError(f"{name} in the written model is not the trained one: check the disk, try again.")


def _same_bits(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape:
        return False
    if found.dtype != expected.dtype:  # some architectures load a few tensors in float32 whatever is asked for
        expected = expected.to(found.dtype)
    return torch.equal(expected.contiguous().view(torch.uint8), found.contiguous().view(torch.uint8))


def copy_other_files(source: Path, folder: Path) -> None:
    """Take along everything but weights: files, and small subfolders such as chat templates."""
    for path in sorted(source.iterdir()):
        if path.is_dir():
            if _is_wanted(path):
                shutil.copytree(path, folder / path.name, dirs_exist_ok=True)
        elif path.name not in _NOT_COPIED and not path.name.endswith(_WEIGHTS):
            shutil.copyfile(path, folder / path.name)


def _is_wanted(folder: Path) -> bool:
    """Whether a subfolder is small and has no weights, checkpoints or hidden files in it."""
    if folder.is_symlink() or folder.name.startswith((".", "checkpoint")) or folder.name == "__pycache__":
        return False
    size = 0
    for path in folder.rglob("*"):
        size += path.stat().st_size if path.is_file() else 0
        if path.is_symlink() or path.name.endswith(_WEIGHTS) or path.name == "trainer_state.json":
            return False
        if size > FOLDER_BYTES or "optimizer" in path.name:
            return False
    return True
