"""What the source model itself says on the text: its hidden states, where the memory suffices to run it."""

from __future__ import annotations

import logging
import os

import torch

from vocabalign.text.probes import probe_texts
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.calibration import CorpusCounts, final_hidden_states
from vocabalign.transplantation.checkpoint import Checkpoint
from vocabalign.transplantation.fitting import Fitter
from vocabalign.transplantation.fitting_text import make_fitter
from vocabalign.transplantation.running import Body, cut_documents

logger = logging.getLogger("vocabalign")

# Running the source model needs it in memory, in float32 on a CPU: at most this share of what is free.
_MEMORY_SHARE = 0.7


def find_hidden_states(
    checkpoint: Checkpoint, source: Vocabulary, counts: CorpusCounts | None, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Final hidden states of the source on the corpus, and with probe texts; None without a head or the memory."""
    if checkpoint.head_in_memory is None or not checkpoint.generates:
        return None
    if not has_room(checkpoint, device, dtype):
        logger.warning("Without a head bias nothing is calibrated.")
        return None
    probes = [text for text in probe_texts() if text.strip()]
    sample = counts.sample if counts is not None else []
    states = final_hidden_states(checkpoint.folder, source, sample + probes, dtype=dtype, device=device)
    return torch.cat(states[: len(sample)] or states), torch.cat(states)


def has_room(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the memory suffices to run the source model; where not, that is said."""
    needed = checkpoint.num_bytes * dtype.itemsize / checkpoint.dtype.itemsize
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_memory()
    if needed > _MEMORY_SHARE * free:
        logger.warning("The source model needs %.1f GB to run and %.1f GB are free.", needed / 1e9, free / 1e9)
    return needed <= _MEMORY_SHARE * free


def find_fitter(
    checkpoint: Checkpoint,
    source: Vocabulary,
    target: Vocabulary,
    counts: CorpusCounts,
    device: torch.device,
    dtype: torch.dtype,
) -> Fitter | None:
    """What fits rows to the source's hidden states; the memory has been found to suffice."""
    documents = cut_documents(source, target, counts.fitting, checkpoint.num_rows)
    if all(document.one_to_one for document in documents):
        return None
    body = Body(checkpoint.folder, dtype=dtype, device=device)
    return make_fitter(body, documents, len(target), checkpoint.logit_scale)


def _free_memory() -> float:
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return float("inf")  # not told on this system
