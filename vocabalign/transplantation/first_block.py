"""The check for models too large to load: embedding, first block and head run, everything else stays on the disk."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from vocabalign.errors import ConfigError, ModelError
from vocabalign.transplantation.checkpoint import Checkpoint, meta_model
from vocabalign.transplantation.full_check import Subject, examine, expect_whole, probe_prompts
from vocabalign.transplantation.layers import plan_cut


def check_first_block(subject: Subject) -> str:
    """Run the model without its blocks but the first on the probe texts.

    Returns:
        What was found, in words; where the layers cannot be told apart, that.

    Raises:
        VerificationError: a tensor is missing, or something is not finite.
    """
    try:
        config, rename = plan_cut(subject.checkpoint, "0")
    except (ModelError, ConfigError) as error:
        return f"not applicable: {error}"
    tensors = {}
    for file in sorted(set(subject.checkpoint.weight_map.values())):
        with safe_open(subject.folder / file, framework="pt") as opened:
            for name in opened.keys():
                new = rename(name)
                if new is not None:
                    tensors[new] = opened.get_tensor(name)
    model, missing = _load(config, tensors, subject.checkpoint.dtype)
    expect_whole({"missing": missing})
    prompts = probe_prompts(subject)
    has_head, _ = examine(model, prompts, subject.padding_ids)
    return f"{len(prompts)} texts have finite {'logits' if has_head else 'hidden states'} through the first block"


def _load(
    config: dict[str, object], tensors: dict[str, torch.Tensor], dtype: torch.dtype
) -> tuple[torch.nn.Module, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        blank = meta_model(Path(folder))
    loaded: Any = type(blank).from_pretrained(
        None, config=blank.config, state_dict=tensors, dtype=dtype, output_loading_info=True
    )
    model, info = loaded
    return model, sorted(map(str, info["missing_keys"]))


def padded_rows_lie_low(checkpoint: Checkpoint, padding_ids: torch.Tensor) -> str | None:
    """Why no padded row can ever be the likeliest, by its numbers alone; None where they do not tell.

    A row that is the mean of all others has the mean of their logits, which is never above the greatest.

    Args:
        checkpoint: R rows.
        padding_ids: (P,) int64.
    """
    if checkpoint.bias is not None:
        bias = checkpoint.read(checkpoint.bias).float()
        real = torch.ones(len(bias), dtype=torch.bool)
        real[padding_ids] = False
        if float(bias[padding_ids].max()) < float(bias[real].min()):
            return "their bias is below every token's"
    rows = checkpoint.read(checkpoint.head or checkpoint.embedding)
    real = torch.ones(len(rows), dtype=torch.bool)
    real[padding_ids] = False
    mean = sum(block.double().sum(dim=0) for block in rows[real].split(8192)) / int(real.sum())
    mean = torch.as_tensor(mean).to(rows.dtype).float()
    padded = rows[padding_ids].float()
    slack = 2 * torch.finfo(rows.dtype).eps * mean.abs() + 1e-6
    return "they are the mean of all rows" if bool(((padded - mean).abs() <= slack).all()) else None
