"""Bits per byte by the batched scorer beside one window at a time, on the same documents in turns.

python benchmarks/evaluation_scoring.py [--model DIR] [--corpus FILE] [--kilobytes 200] [--rounds 3]
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from transformers import PreTrainedModel

from vocabalign.evaluation.bits_per_byte import score_documents, start_token
from vocabalign.models import context_length, load_model, resolve
from vocabalign.text.compression import encode_documents
from vocabalign.text.corpus import read_texts
from vocabalign.text.standard_library import passages
from vocabalign.text.tokenizers import load_vocabulary


@torch.inference_mode()
def one_window_at_a_time(
    model: PreTrainedModel, documents: Sequence[Sequence[int]], start_id: int, window: int
) -> float:
    """Nats of all documents, as the method is written down."""
    window = min(window, context_length(model) or window)
    nats = 0.0
    for document in documents:
        ids, done = [start_id, *document], 1
        while done < len(ids):
            start = max(0, done - window // 2) if done > 1 else 0
            end = min(len(ids), start + window)
            x = torch.tensor([ids[start:end]], device=model.device)
            log_probs = model(x).logits[0, done - start - 1 : -1].float().log_softmax(-1)
            nats -= log_probs.gather(1, x[0, done - start :, None]).sum().item()
            done = end
    return nats


def timed(score: Callable[[], float]) -> tuple[float, float]:
    """(nats, seconds)."""
    started = time.perf_counter()
    return score(), time.perf_counter() - started


def main() -> None:
    """Print both speeds, the ratio, and by how much the two differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo:source", help="model folder")
    parser.add_argument("--corpus", help="text file; Python's standard library by default")
    parser.add_argument("--kilobytes", type=int, default=200)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    texts = list(read_texts([arguments.corpus], 1000 * arguments.kilobytes)) if arguments.corpus else []
    texts = texts or take((passage.text for passage in passages()), 1000 * arguments.kilobytes)
    vocabulary = load_vocabulary(arguments.model)
    model = load_model(resolve(arguments.model), dtype=torch.float32, device=torch.device("cpu"))
    documents, sizes = encode_documents(vocabulary, texts), [len(text.encode()) for text in texts]
    start_id = start_token(vocabulary.roles)

    def ours() -> float:
        return float(score_documents(model, documents, sizes, start_id=start_id, window=arguments.window).nats.sum())

    def naive() -> float:
        return one_window_at_a_time(model, documents, start_id, arguments.window)

    ratios, speeds = [], []
    for _ in range(arguments.rounds):
        (mine, fast), (theirs, slow) = timed(ours), timed(naive)
        ratios.append(slow / fast)
        speeds.append(sum(sizes) / 1000 / fast)
    bits = [nats / math.log(2) / sum(sizes) for nats in (mine, theirs)]
    print(
        f"{arguments.model}, {sum(sizes) / 1000:,.0f} kB in {len(texts)} documents: "
        f"{statistics.median(speeds):,.0f} kB/s, {statistics.median(ratios):.2f} times one window at a time; "
        f"bits per byte {bits[0]:.6f} and {bits[1]:.6f}"
    )


def take(texts: Iterable[str], num_bytes: int) -> list[str]:
    """The first documents up to this size."""
    taken: list[str] = []
    for text in texts:
        num_bytes -= len(text.encode())
        if num_bytes < 0 and taken:
            break
        taken.append(text)
    return taken


if __name__ == "__main__":
    main()
