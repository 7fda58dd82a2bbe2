"""Text that a model writes: sampled token by token with a cache of keys and values, and turned into text."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vocabalign.losses.logits import Head
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.train.head import head_logits, read_head

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
    ends: Collection[int] = (),
    head: Head | None = None,
) -> Tensor:
    """Go on from prompts of one length, at random from the model's own distribution.

    The body and the head are called by themselves, so that it works inside a training step, where the model's
    ``forward`` is the loss. Rows that have ended leave the batch as soon as half of it has.

    Args:
        model: any causal language model.
        prompts: (B, P) int64.
        count: tokens to write.
        temperature: of the sampling.
        generator: on the model's device.
        num_tokens: ids that stand for a token; rows of the head beyond are never drawn.
        ends: ids behind which a row is not gone on with; what stands there is the same id again.
        head: in place of the model's own.

    Returns:
        (B, P + count) int64.
    """
    from transformers import DynamicCache

    head = head or read_head(model)
    was_training = model.training
    model.eval()
    past = DynamicCache(config=model.config)
    ids = torch.cat([prompts, prompts.new_zeros(len(prompts), count)], 1)
    ends_text = torch.isin(torch.arange(num_tokens, device=ids.device), torch.tensor([*ends], device=ids.device))
    # Rows that are still written, and which of them have ended.
    open_rows, new = torch.arange(len(ids), device=ids.device), prompts
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for at in range(prompts.shape[1], ids.shape[1]):
        output = model.base_model(input_ids=new, past_key_values=past, use_cache=True)
        past = output.past_key_values
        logits = head_logits(output.last_hidden_state[:, -1], head, num_tokens)
        drawn = torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)
        new = torch.where(ended[:, None], ids[open_rows, at - 1, None], drawn)
        ids[open_rows, at] = new[:, 0]
        ended |= ends_text[new[:, 0]]
        if ends and int(ended.sum()) * 2 >= len(ended):
            ids[open_rows[ended], at:] = new[ended]
            going_on = ~ended
            open_rows, new, ended = open_rows[going_on], new[going_on], ended[going_on]
            if not len(open_rows):
                break
            past.batch_select_indices(going_on.nonzero().squeeze(1))
    model.train(was_training)
    return ids


def ends_of(vocabulary: Vocabulary) -> set[int]:
    """Ids that end a text."""
    return {*vocabulary.more_eos, *(vocabulary.roles[role] for role in ("eos", "bos") if role in vocabulary.roles)}


def text_of(ids: list[int], vocabulary: Vocabulary) -> str | None:
    """What ordinary tokens spell, up to the first token that ends it; None where that is no text.

    Args:
        ids: without what begins a document.
        vocabulary: of the model.
    """
    ends = ends_of(vocabulary)
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
