"""The check that needs the whole model: it loads without gaps, its logits are sound, it writes text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from vocabalign.errors import VerificationError
from vocabalign.text.probes import probe_texts
from vocabalign.transplantation.checkpoint import Checkpoint, meta_model

# Constants that old files carry and that the modules make themselves.
_BUFFERS = (".attention.bias", ".attn.bias", ".masked_bias", ".inv_freq", ".position_ids")
_NUM_PROBES, _PROBE_TOKENS, _NEW_TOKENS = 8, 64, 8


class Subject(Protocol):
    """What the check reads."""

    @property
    def folder(self) -> Path: ...  # noqa: D102
    @property
    def checkpoint(self) -> Checkpoint: ...  # noqa: D102
    @property
    def has_tokenizer(self) -> bool: ...  # noqa: D102
    @property
    def tokenizer(self) -> Any: ...  # noqa: D102
    @property
    def padding_ids(self) -> np.ndarray: ...  # noqa: D102


@torch.no_grad()
def check_full(subject: Subject) -> str:
    """Load the model and run it on the probe texts.

    Returns:
        What was found, in words.

    Raises:
        VerificationError: a tensor is missing or left over, a logit is not finite, or a padded row wins.
    """
    model_class = type(meta_model(subject.folder))
    loaded: Any = model_class.from_pretrained(
        subject.folder, dtype=torch.float32, output_loading_info=True, use_safetensors=True, local_files_only=True
    )
    model, info = loaded
    left_over = [name for name in info["unexpected_keys"] if not name.endswith(_BUFFERS)]
    expect_whole({"missing": info["missing_keys"], "left over": left_over, "misshapen": info["mismatched_keys"]})
    prompts = probe_prompts(subject)
    has_head, depth = examine(model, prompts, subject.padding_ids)
    if depth <= 0:
        raise VerificationError("a row that no token has is the most likely one")
    if not has_head:
        return f"{len(prompts)} texts have finite hidden states; the model has no head"
    written = _generate(subject, model, prompts[0])
    below = f"; padded rows stay {depth:.1f} below the best" if len(subject.padding_ids) else ""
    return f"{len(prompts)} texts have finite logits{below}; it writes {written!r}"


def expect_whole(found: dict[str, Any]) -> None:
    """Raise ``VerificationError`` where loading told of tensors: what is wrong with them -> their names."""
    for what, names in found.items():
        if names:
            raise VerificationError(f"tensors are {what}: {', '.join(sorted(map(str, names))[:5])}")


@torch.no_grad()
def examine(model: Any, prompts: list[list[int]], padding_ids: np.ndarray) -> tuple[bool, float]:
    """Run a model on prompts.

    Args:
        model: of transformers.
        prompts: token ids.
        padding_ids: (P,) ids that no token has.

    Returns:
        Whether it has logits, and by how much the likeliest padded row stays below the likeliest token; inf where
        there is none.

    Raises:
        VerificationError: a logit or a hidden state is not finite.
    """
    model.eval()
    padding = torch.from_numpy(padding_ids)
    depth, has_head = float("inf"), True
    for ids in prompts:
        output = model(input_ids=torch.tensor([ids]))
        has_head = getattr(output, "logits", None) is not None
        logits = (output.logits if has_head else output.last_hidden_state)[0].float()
        if not bool(logits.isfinite().all()):
            raise VerificationError(f"{'logits' if has_head else 'hidden states'} are not finite")
        if len(padding) and has_head:
            real = logits.clone()
            real[:, padding] = float("-inf")
            depth = min(depth, float((real.amax(dim=1) - logits[:, padding].amax(dim=1)).min()))
    return has_head, depth


def probe_prompts(subject: Subject) -> list[list[int]]:
    """Ids of the probe texts, or of the first tokens where there is no tokenizer."""
    rows = subject.checkpoint.num_rows
    if not subject.has_tokenizer:
        return [list(range(min(rows, _PROBE_TOKENS)))]
    texts = [text for text in probe_texts() if text.strip()][:_NUM_PROBES]
    found = [subject.tokenizer(text, add_special_tokens=False)["input_ids"][:_PROBE_TOKENS] for text in texts]
    return [ids for ids in found if ids] or [[0]]


def _generate(subject: Subject, model: Any, ids: list[int]) -> str:
    if not model.can_generate():
        return ""
    prompt = torch.tensor([ids[:16]])
    # An EOS at once is a sound answer too, so nothing is asked of the length.
    tokens = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=_NEW_TOKENS, do_sample=False)
    new = tokens[0, prompt.shape[1] :].tolist()
    if max(new, default=0) >= subject.checkpoint.num_rows:
        raise VerificationError(f"the model wrote id {max(new)}, which has no row")
    return subject.tokenizer.decode(new) if subject.has_tokenizer else str(new)
