"""Text that a model writes: sampled token by token with a cache of keys and values, and turned into text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.head import read_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def write_tokens(
    model: PreTrainedModel,
    prompts: Tensor,
    count: int,
    *,
    temperature: float,
    generator: torch.Generator,
    num_tokens: int,
) -> Tensor:
    """Go on from prompts of one length, at random from the model's own distribution.

    The body and the head are called by themselves, so that it works inside a training step, where the model's
    ``forward`` is the loss.

    Args:
        model: any causal language model.
        prompts: (B, P) int64.
        count: tokens to write.
        temperature: of the sampling.
        generator: on the model's device.
        num_tokens: ids that stand for a token; rows of the head beyond are never drawn.

    Returns:
        (B, P + count) int64.
    """
    from transformers import DynamicCache

    head = read_head(model)
    was_training = model.training
    model.eval()
    past = DynamicCache(config=model.config)
    ids, new = prompts, prompts
    rows = min(num_tokens, head.num_rows)
    for _ in range(count):
        output = model.base_model(input_ids=new, past_key_values=past, use_cache=True)
        past = output.past_key_values
        states = output.last_hidden_state[:, -1]
        logits = torch.nn.functional.linear(states, head.weight[:rows].to(states.dtype)).float()
        if head.bias is not None:
            logits += head.bias[:rows].float()
        logits *= head.scale
        if head.softcap:
            logits = head.softcap * torch.tanh(logits / head.softcap)
        new = torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)
        ids = torch.cat([ids, new], 1)
    model.train(was_training)
    return ids


def text_of(ids: list[int], vocabulary: Vocabulary) -> str | None:
    """What ordinary tokens spell, up to the first token that ends it; None where that is no text.

    Args:
        ids: without what begins a document.
        vocabulary: of the model.
    """
    ends = {*vocabulary.more_eos, *(vocabulary.roles[role] for role in ("eos", "bos") if role in vocabulary.roles)}
    pieces = []
    for token in ids:
        if token in ends:
            break
        pieces.append(vocabulary.token_bytes[token] or b"")
    joined = b"".join(pieces)
    if vocabulary.dummy_prefix and joined[:1] == b" ":
        joined = joined[1:]
    text = joined.decode(errors="ignore")
    return text if text.strip() else None
