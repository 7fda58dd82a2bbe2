"""What the source model itself says on the text: its hidden states, where the memory suffices to run it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from vocabalign.models import context_length, load_model
from vocabalign.text.probes import probe_texts
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.calibration import CorpusCounts
from vocabalign.transplantation.checkpoint import Checkpoint
from vocabalign.transplantation.expectations import Head
from vocabalign.transplantation.fitting import Fitter
from vocabalign.transplantation.fitting_text import make_fitter
from vocabalign.transplantation.running import Body, cut_documents
from vocabalign.transplantation.surprise import Surprise, measure_surprise

logger = logging.getLogger("vocabalign")

# Running the source model needs it in memory, in float32 on a CPU: at most this share of what is free.
_MEMORY_SHARE = 0.7
# Of parts from all over the corpus, to find whether it is like what the model has learned from.
SURPRISE_BYTES = 10_000


@dataclass(frozen=True)
class SourceStates:
    """What the source's head reads.

    Attributes:
        text: (N, H) float32 on the corpus; on probe texts where there is none.
        everything: (M, H) float32, with probe texts.
        surprise: of the source by parts from all over the corpus; None where there is none.
    """

    text: torch.Tensor
    everything: torch.Tensor
    surprise: Surprise | None = None


class Read(NamedTuple):
    """One text as the source reads it: (L,) int64 ids, start token first, and (L, H) float32 final states."""

    ids: torch.Tensor
    states: torch.Tensor


def find_source_states(
    checkpoint: Checkpoint, source: Vocabulary, counts: CorpusCounts | None, device: torch.device, dtype: torch.dtype
) -> SourceStates | None:
    """Final hidden states of the source on the corpus, and with probe texts; None without a head or the memory."""
    if checkpoint.head_in_memory is None or not checkpoint.generates:
        return None
    if not has_room(checkpoint, device, dtype):
        logger.warning("Without a head bias nothing is calibrated.")
        return None
    probes = [text for text in probe_texts() if text.strip()]
    sample = counts.sample if counts is not None else []
    drawn = [] if counts is None else first_bytes(counts.fitting, SURPRISE_BYTES)
    read = read_texts_by(checkpoint.folder, source, sample + probes + drawn, dtype=dtype, device=device)
    states, others = [part.states for part in read[: len(sample) + len(probes)]], read[len(sample) + len(probes) :]
    surprise = None
    if others:
        surprise = measure_surprise(others, source_head(checkpoint, device), source.roles.get("unk"))
    return SourceStates(torch.cat(states[: len(sample)] or states), torch.cat(states), surprise)


def first_bytes(texts: Sequence[str], num_bytes: int) -> list[str]:
    """The first texts, until there are so many bytes."""
    chosen: list[str] = []
    for text in texts:
        if num_bytes <= 0:
            break
        chosen.append(text)
        num_bytes -= len(text.encode())
    return chosen


def source_head(checkpoint: Checkpoint, device: torch.device) -> Head:
    """The source's own head."""
    name = checkpoint.embedding if checkpoint.head is None or checkpoint.tied else checkpoint.head
    bias = None if checkpoint.bias is None else checkpoint.read(checkpoint.bias)
    text = checkpoint.config.get("text_config") or checkpoint.config
    soft_cap = float(text.get("final_logit_softcapping") or 0)
    return Head(checkpoint.read(name), bias, checkpoint.logit_scale, soft_cap, device)


@torch.no_grad()
def read_texts_by(
    folder: Path, vocabulary: Vocabulary, texts: Sequence[str], *, dtype: torch.dtype, device: torch.device
) -> list[Read]:
    """What the model's head reads, on a little text.

    Args:
        folder: the model.
        vocabulary: its tokenizer.
        texts: a few documents; each is read alone after the BOS (or EOS).
        dtype: of the arithmetic.
        device: where the model runs.

    Returns:
        One for each text, on the CPU.

    Raises:
        ModelError: the model cannot be loaded.
    """
    model = load_model(folder, dtype=dtype, device=device)
    window = min(512, context_length(model) or 512)
    start = [vocabulary.roles[role] for role in ("bos", "eos") if role in vocabulary.roles][:1]
    results: list[Read] = []
    states: list[torch.Tensor] = []

    def catch(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        states.append(inputs[0].reshape(-1, inputs[0].shape[-1]).float().cpu())
        raise _Seen  # the logits themselves are not needed

    hook = model.get_output_embeddings().register_forward_pre_hook(catch)
    num_rows = cast(torch.Tensor, model.get_input_embeddings().weight).shape[0]
    nothing = torch.zeros(0, model.config.get_text_config().hidden_size)
    try:
        for cut in vocabulary.encode_batch(texts):
            ids = torch.tensor([i for i in start + cut if i < num_rows], dtype=torch.long)
            for begin in range(0, len(ids), window):
                try:
                    model(input_ids=ids[None, begin : begin + window].to(device), use_cache=False)
                except _Seen:
                    continue
            results.append(Read(ids, torch.cat(states) if states else nothing))
            states.clear()
    finally:
        hook.remove()
    return results


class _Seen(Exception):
    """The hidden states have been read; the forward pass may stop."""


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
