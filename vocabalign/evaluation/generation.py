"""What a model writes: greedy continuations of prompts, how fast they come, and how sane they are."""

from __future__ import annotations

import codecs
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vocabalign.evaluation.bits_per_byte import start_token
from vocabalign.models import context_length
from vocabalign.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REPETITION_BYTES = 16
PROMPT_CHARACTERS = 80
REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Sample:
    """A continuation, without its prompt.

    Attributes:
        text: what the tokens say; bytes that are not UTF-8 are replacement characters.
        tokens: how many were written.
        bytes: how many bytes of text they stand for.
        bytes_per_second: prompt included, on this machine.
        unknown_tokens: tokens that stand for no text (unknown, special or padded ids).
        replacement_characters: characters in ``text`` that came from broken UTF-8.
        repetition_share: share in [0, 1] of its 16-byte strings that it had written before.
        invalid_bytes: bytes that are no UTF-8; a character that the end cut in two does not count.
        seconds: prompt included.
    """

    text: str
    tokens: int
    bytes: int
    bytes_per_second: float
    unknown_tokens: int
    replacement_characters: int
    repetition_share: float
    invalid_bytes: int
    seconds: float


def write_sample(model: PreTrainedModel, vocabulary: Vocabulary, prompt: str, num_tokens: int) -> Sample:
    """Let a model go on from a prompt, always with the likeliest token.

    It stops at the end-of-text token and at the end of the model's context. A folder's
    generation settings (penalties, sampling) are left aside: models are compared as they are.

    Args:
        model: a causal language model in evaluation mode.
        vocabulary: its vocabulary.
        prompt: text that both read first, after the start token.
        num_tokens: tokens to write, at most.
    """
    ids = vocabulary.encode(prompt)
    context = context_length(model)
    if context:
        num_tokens = min(num_tokens, max(1, context // 2))
        ids = ids[-(context - num_tokens - 1) :]
    started = time.perf_counter()
    written = _continue_greedily(model, [start_token(vocabulary.roles), *ids], num_tokens, vocabulary.roles.get("eos"))
    seconds = time.perf_counter() - started
    pieces = [_bytes_of(vocabulary, token) for token in written]
    data = b"".join(piece if piece is not None else _raw(vocabulary, t) for t, piece in zip(written, pieces))
    text = data.decode("utf-8", errors="replace")
    known_bytes = sum(len(piece) for piece in pieces if piece is not None)
    return Sample(
        text=text,
        tokens=len(written),
        bytes=known_bytes,
        bytes_per_second=known_bytes / seconds if written else 0.0,
        unknown_tokens=sum(piece is None for piece in pieces),
        replacement_characters=_count_broken(data),
        repetition_share=repetition_share(data),
        invalid_bytes=invalid_bytes(data),
        seconds=seconds,
    )


def sample_record(samples: Sequence[Sample], prompts: Sequence[str]) -> dict[str, Any]:
    """The keys of one model in metrics.json: the first sample by itself, all of them, and what they are together.

    Args:
        samples: one for each prompt.
        prompts: what they go on from.
    """
    first = asdict(samples[0])
    seconds = sum(sample.seconds for sample in samples)
    tokens, written = (sum(getattr(sample, name) for sample in samples) for name in ("tokens", "bytes"))
    shares = [sample.repetition_share for sample in samples if sample.bytes]
    return {
        "sample": first.pop("text"),
        **{f"sample_{key}": value for key, value in first.items()},
        "samples": [{"prompt": prompt, **asdict(sample)} for prompt, sample in zip(prompts, samples, strict=True)],
        "generation_bytes_per_second": written / seconds if tokens else 0.0,
        "generation_tokens_per_second": tokens / seconds if tokens else 0.0,
        "generation_repetition_share": sum(shares) / len(shares) if shares else 0.0,
        "generation_unknown_tokens": sum(sample.unknown_tokens for sample in samples),
        "generation_invalid_bytes": sum(sample.invalid_bytes for sample in samples),
    }


def pick_prompts(texts: Sequence[str], domains: Sequence[str | None], number: int) -> list[str]:
    """Starts of ``number`` documents: the first of each domain, then the second of each, and so on.

    Args:
        texts: N documents.
        domains: their names, or empty.
        number: prompts wanted; fewer where there are fewer documents.
    """
    seen: dict[str | None, int] = {}
    ranks = []
    for index, domain in enumerate(domains or [None] * len(texts)):
        ranks.append((seen.setdefault(domain, 0), index))
        seen[domain] += 1
    return [default_prompt(texts[index]) for _, index in sorted(ranks)[:number]]


def default_prompt(text: str, characters: int = PROMPT_CHARACTERS) -> str:
    """The start of a document up to the last line or word end within ``characters``.

    Example:
        >>> default_prompt("Once upon a time there was a fox", 20)
        'Once upon a time'
    """
    text = text.lstrip()
    if len(text) <= characters:
        return text.rstrip()
    head = text[: characters + 1]
    # A line end is preferred, unless it leaves next to nothing to go on from.
    for separator in ("\n", " "):
        end = head.rfind(separator)
        if end >= characters // 3:
            return head[:end].rstrip()
    return head[:characters]


def repetition_share(data: bytes, length: int = REPETITION_BYTES) -> float:
    """Share of the strings of ``length`` bytes that occurred earlier; bytes, so that vocabularies compare.

    Example:
        >>> repetition_share(b"a" * 32)
        0.9411764705882353
    """
    total = len(data) - length + 1
    if total < 1:
        return 0.0
    return 1 - len({data[i : i + length] for i in range(total)}) / total


def invalid_bytes(data: bytes) -> int:
    """Bytes that are part of no UTF-8 character; a beginning of one at the very end does not count.

    Example:
        >>> invalid_bytes("é".encode() + bytes([0xA9, 0x41, 0xC3]))
        1
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    return len(data) - len(decoder.decode(data).encode()) - len(decoder.getstate()[0])


def _continue_greedily(model: PreTrainedModel, ids: list[int], num_tokens: int, stop: int | None) -> list[int]:
    """Ids after ``ids``, until ``stop`` (left out) or ``num_tokens``."""
    import torch

    written: list[int] = []
    cache = None
    with torch.inference_mode():
        fresh = ids
        while len(written) < num_tokens:
            output = model(torch.tensor([fresh], device=model.device), past_key_values=cache, use_cache=True)
            token = int(output.logits[0, -1].argmax())
            if token == stop:
                break
            written.append(token)
            cache = getattr(output, "past_key_values", None)
            # Architectures without such a cache read everything again.
            fresh = [token] if cache is not None else ids + written
    return written


def _bytes_of(vocabulary: Vocabulary, token: int) -> bytes | None:
    return vocabulary.token_bytes[token] if token < len(vocabulary) else None


def _raw(vocabulary: Vocabulary, token: int) -> bytes:
    """A token without text as its own name, so that it is seen in the sample."""
    name = vocabulary.raw_tokens[token] if token < len(vocabulary) else ""
    return (name or f"<|id {token}|>").encode()


def _count_broken(data: bytes) -> int:
    """Replacement characters that decoding made; those of the model itself and a cut last character do not count."""
    text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(data)
    return text.count(REPLACEMENT) - data.count(REPLACEMENT.encode())
