"""Vectors of texts from any local encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from vocabalign.errors import ModelError
from vocabalign.evaluation.options import Place
from vocabalign.models import context_length, move, read_model_config, resolve
from vocabalign.text.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH_SIZE = 16
# Positional tables of RoBERTa and its descendants begin behind two padding positions.
_RESERVED_POSITIONS = 2


class Encoder:
    """The mean of the last hidden states over a text's tokens, of unit length.

    Sentence encoders (all-mpnet-base-v2 in TokAlign) are used like this; any model that ``AutoModel`` loads will do.

    Args:
        reference: model folder with its tokenizer.
        place: where it runs.

    Raises:
        ModelError: the folder is not a model that transformers can load without remote code.
        TokenizerError: its tokenizer cannot be loaded.
    """

    def __init__(self, reference: str, place: Place) -> None:
        from transformers import AutoModel

        folder = resolve(reference)
        read_model_config(folder)
        self.tokenizer = load_tokenizer(folder)
        try:
            model = AutoModel.from_pretrained(
                folder, dtype=place.dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{folder} cannot be loaded as an encoder from safetensors: {reason}") from error
        self.model = cast("PreTrainedModel", move(model, place.device).eval())
        positions = context_length(self.model)
        self.max_length = max(1, (positions or 512) - _RESERVED_POSITIONS)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(N, H) float32 of unit length; zeros for a text without tokens."""
        ids = [self.tokenizer(text, truncation=True, max_length=self.max_length).input_ids for text in texts]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        vectors = np.zeros((len(ids), self.model.config.get_text_config().hidden_size), dtype=np.float32)
        for start in range(0, len(order), BATCH_SIZE):
            chosen = [i for i in order[start : start + BATCH_SIZE] if ids[i]]
            if chosen:
                vectors[chosen] = self._encode([ids[i] for i in chosen])
        return vectors

    def _encode(self, batch: list[list[int]]) -> np.ndarray:
        """(B, H) of one batch, padded to the right."""
        import torch

        width = max(map(len, batch))
        padding = self.tokenizer.pad_token_id or 0
        padded = torch.tensor([ids + [padding] * (width - len(ids)) for ids in batch], device=self.model.device)
        mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in batch], device=self.model.device)
        with torch.inference_mode():
            hidden = self.model(input_ids=padded, attention_mask=mask).last_hidden_state.float()
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            return torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
