"""Text that the source model writes itself, for want of a corpus of its domain: it is what the model is about."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel

from vocabalign.errors import ModelError
from vocabalign.models import context_length, load_model, pick_device, pick_dtype, resolve
from vocabalign.stages import TransplantConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.source_states import has_room

logger = logging.getLogger("vocabalign")

# Operations of writing and tokens, at most: the same minute or so on any machine.
_OPERATIONS = {"cpu": 4e11, "cuda": 2e14, "mps": 8e12}
MOST_TOKENS = 100_000
_BATCH = 64
_LONGEST = 512
# What was written last, and by what: ``compare`` makes rows in many ways from one text.
_WRITTEN: dict[tuple[object, ...], list[str]] = {}


def find_own_text(config: TransplantConfig) -> list[str] | None:
    """What the source model writes where that is wished and the memory suffices.

    Raises:
        ModelError: the model writes no text.
    """
    if not config.own_text:
        return None
    device = pick_device(config.device)
    dtype, checkpoint = pick_dtype(config.dtype, device), open_checkpoint(resolve(config.source))
    if not checkpoint.generates:
        raise ModelError(f"{config.source} is an encoder and writes no text: leave out --own-text, or give --corpus.")
    if not has_room(checkpoint, device, dtype):
        return None
    source = load_vocabulary(config.source)
    return write_texts(checkpoint.folder, source, dtype=dtype, device=device, seed=config.seed) or None


def write_texts(
    folder: Path,
    vocabulary: Vocabulary,
    *,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
    most: int | None = None,
) -> list[str]:
    """Documents drawn from the model, each token from the whole distribution (temperature 1).

    Args:
        folder: the source model.
        vocabulary: its tokenizer.
        dtype: of its arithmetic.
        device: where it runs.
        seed: of the draws.
        most: tokens, where fewer than ``MOST_TOKENS`` are wanted.

    Returns:
        Texts in the order in which they were written; empty where a text of this model's speed is not worth writing.

    Raises:
        ModelError: the model cannot be loaded.
    """
    tokens = MOST_TOKENS if most is None else min(most, MOST_TOKENS)
    operations = _OPERATIONS.get(device.type, _OPERATIONS["cpu"])
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.*"))]
    key = (folder, *files, vocabulary.fingerprint, dtype, device, seed, tokens, operations)
    if key not in _WRITTEN:
        model = load_model(folder, dtype=dtype, device=device)
        texts = _write(model, vocabulary, device, seed, tokens, operations)
        _WRITTEN.clear()
        _WRITTEN[key] = texts
    return list(_WRITTEN[key])


@torch.no_grad()
def _write(
    model: PreTrainedModel, vocabulary: Vocabulary, device: torch.device, seed: int, tokens: int, operations: float
) -> list[str]:
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    length = min(_LONGEST, context_length(model) or _LONGEST)
    room = min(tokens, int(operations / 2 / num_parameters))
    start = vocabulary.roles.get("bos", vocabulary.roles.get("eos", 0))
    stops = [vocabulary.roles["eos"]] if "eos" in vocabulary.roles else []
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_length=length,
        eos_token_id=stops or None,
        pad_token_id=stops[0] if stops else start,
    )
    begin = torch.full((_BATCH, 1), start, dtype=torch.long, device=device)
    texts: list[str] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        while room >= length:
            size = max(1, min(_BATCH, room // length))
            ids = cast(Any, model).generate(
                begin[:size], attention_mask=torch.ones_like(begin[:size]), generation_config=settings
            )
            room -= ids.numel()
            texts += [text for row in ids[:, 1:].tolist() if (text := text_of(vocabulary, row, stops))]
    logger.info("the source model has written %d documents", len(texts))
    return texts


def text_of(vocabulary: Vocabulary, ids: list[int], stops: list[int]) -> str:
    """What tokens say up to the first that ends a text; without a dummy prefix and bytes that are no UTF-8."""
    data = b""
    for token_id in ids:
        if token_id in stops:
            break
        data += (vocabulary.token_bytes[token_id] if token_id < len(vocabulary) else None) or b""
    if vocabulary.dummy_prefix and data.startswith(b" "):
        data = data[1:]
    return data.decode("utf-8", errors="ignore")
