"""Where a causal language model's hidden states and output rows are, whatever its architecture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from vocabalign.errors import ModelError
from vocabalign.losses.fused import Head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROBE_TOKENS = 8


def hidden_states(model: PreTrainedModel, input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
    """What the head reads: (B, L, H).

    Positions that start again from 0 keep packed documents apart in most architectures: transformers
    builds the block diagonal mask from them (and the variable-length kernels take them as they are).
    ``separates_documents`` tells whether they do.
    """
    positions = {} if position_ids is None else {"position_ids": position_ids}
    return model.base_model(input_ids=input_ids, use_cache=False, **positions).last_hidden_state


def read_head(model: PreTrainedModel) -> Head:
    """The output rows with what the configuration says about scale and soft cap."""
    module = model.get_output_embeddings()
    if module is None or not isinstance(getattr(module, "weight", None), Tensor):
        raise ModelError(f"{type(model).__name__} has no output rows: expected a causal language model.")
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    scale /= getattr(config, "logits_scaling", None) or 1.0
    softcap = getattr(config, "final_logit_softcapping", None)
    return Head(module.weight, getattr(module, "bias", None), float(scale), softcap)


@contextmanager
def whole_head(model: PreTrainedModel) -> Iterator[Head]:
    """The output rows outside of the model's own forward, gathered for the while where FSDP has spread them."""
    from torch.distributed.fsdp import FSDPModule

    spread = [module for module in (model, model.get_output_embeddings()) if isinstance(module, FSDPModule)]
    for module in spread:
        module.unshard()
    try:
        yield read_head(model)
    finally:
        for module in spread:
            module.reshard()


def head_logits(states: Tensor, head: Head, num_tokens: int) -> Tensor:
    """(..., V) float32 logits of few states at once, not streamed; V: at most ``num_tokens`` of the head's rows."""
    rows = min(num_tokens, head.num_rows)
    logits = nn.functional.linear(states, head.weight[:rows].to(states.dtype)).float()
    if head.bias is not None:
        logits += head.bias[:rows].float()
    logits *= head.scale
    return head.softcap * torch.tanh(logits / head.softcap) if head.softcap else logits


def check_head(model: PreTrainedModel, folder: Path | str) -> None:
    """Compare the streamed logits with the model's own on a few tokens.

    Architectures do things between hidden states and logits that no configuration key tells;
    training on other logits than the model's would spoil it silently.

    Raises:
        ModelError: they differ.
    """
    head = read_head(model)
    count = min(PROBE_TOKENS, head.weight.shape[0])
    ids = torch.arange(count, device=head.weight.device)[None]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits.float()
        logits = head_logits(hidden_states(model, ids, None), head, head.num_rows)
    model.train(was_training)
    tolerance = 1e-3 if head.weight.dtype == torch.float32 else 0.1
    if logits.shape != expected.shape or not torch.allclose(logits, expected, rtol=tolerance, atol=tolerance):
        raise ModelError(
            f"{folder} ({type(model).__name__}) makes its logits in a way that the streamed loss does not know: "
            "the two differ on a probe. Report the architecture."
        )


def embedding_rows(model: PreTrainedModel) -> Tensor:
    """(V, H) rows of the input embedding."""
    return cast(Tensor, model.get_input_embeddings().weight)


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether the model can be told where documents begin (not so for ALiBi and recurrent models)."""
    import inspect

    return "position_ids" in inspect.signature(model.base_model.forward).parameters


@torch.no_grad()
def separates_documents(model: PreTrainedModel) -> bool:
    """Whether a document in a block is blind to the one before it, tried out on two of four tokens."""
    if not takes_positions(model):
        return False
    embedding = embedding_rows(model)
    half = PROBE_TOKENS // 2
    ids = torch.arange(PROBE_TOKENS, device=embedding.device)[None] % embedding.shape[0]
    other = ids.clone()
    other[:, :half] = (ids[:, :half] + half) % embedding.shape[0]
    positions = torch.arange(half, device=embedding.device).repeat(2)[None]
    was_training = model.training
    model.eval()
    one, two = (hidden_states(model, tokens, positions)[:, half:].float() for tokens in (ids, other))
    model.train(was_training)
    return torch.allclose(one, two, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def train_only_rows(model: PreTrainedModel) -> list[str]:
    """Freeze everything but embedding and head rows; the names of what is trained.

    Found through the model's own accessors, because names differ between architectures and between
    memory and disk. A tied head is the same parameter and has one name.
    """
    model.requires_grad_(False)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        module.requires_grad_(True)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def train_everything(model: PreTrainedModel) -> list[str]:
    """Undo ``train_only_rows``."""
    model.requires_grad_(True)
    return [name for name, _ in model.named_parameters()]


def check_vocabulary_fits(model: PreTrainedModel, vocabulary: Any, folder: Path | str) -> None:
    """Refuse a tokenizer whose ids have no row.

    Raises:
        ModelError: the highest id is beyond the rows of the embedding or the head.
    """
    rows = min(embedding_rows(model).shape[0], read_head(model).weight.shape[0])
    if len(vocabulary) > rows:
        raise ModelError(
            f"The tokenizer in {folder} has ids up to {len(vocabulary) - 1}, but the model has {rows} rows: they do "
            "not belong together. Transplant the tokenizer into the model first (vocabalign transplant)."
        )
