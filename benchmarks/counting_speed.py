"""Tokens a second that spans and neighbours are counted at, given the ids, beside counting them pair by pair.

python benchmarks/counting_speed.py [--source DIR --target DIR --corpus FILE ...]
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from vocabalign.alignment.cooccurrence import UNIT, CooccurrenceCounter
from vocabalign.text.batches import in_batches
from vocabalign.text.corpus import read_texts
from vocabalign.text.covers import CoverCounter
from vocabalign.text.spans import token_ends
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary

WINDOW = 15
Batch = tuple[list[str], list[list[int]], list[list[int]]]


def naive_spans(batches: list[Batch], source: Vocabulary, target: Vocabulary) -> Counter[tuple[int, int]]:
    """Bytes that each source token shares with each target token, by walking along both."""
    overlap: Counter[tuple[int, int]] = Counter()
    for texts, in_source, in_target in batches:
        for text, s_ids, t_ids in zip(texts, in_source, in_target, strict=True):
            size = len(text.encode())
            s_ends, t_ends = token_ends(source, s_ids, size).tolist(), token_ends(target, t_ids, size).tolist()
            s = t = position = 0
            while s < len(s_ends) and t < len(t_ends):
                end = min(s_ends[s], t_ends[t])
                if end > position:
                    overlap[t_ids[t], s_ids[s]] += end - position
                position = end
                s, t = s + (s_ends[s] == end), t + (t_ends[t] == end)
    return overlap


def naive_neighbours(batches: list[Batch]) -> Counter[tuple[int, int]]:
    """Distance-weighted counts of what follows what, pair by pair."""
    following: Counter[tuple[int, int]] = Counter()
    for _, _, documents in batches:
        for ids in documents:
            for i, first in enumerate(ids):
                for distance, second in enumerate(ids[i + 1 : i + 1 + WINDOW], 1):
                    following[first, second] += UNIT // distance
    return following


def spans(batches: list[Batch], source: Vocabulary, target: Vocabulary) -> CoverCounter:
    """Ours; the tokenisations are checked against the text's bytes too."""
    counter = CoverCounter(source, target)
    for texts, in_source, in_target in batches:
        counter.add(texts, in_source, in_target)
    counter.result()
    return counter


def neighbours(batches: list[Batch], size: int) -> CooccurrenceCounter:
    """Ours, for the target's ids."""
    counter = CooccurrenceCounter(size, WINDOW)
    for _, _, documents in batches:
        counter.add(documents)
    counter.result()
    return counter


def rate(tokens: int, count: Callable[[], object]) -> tuple[float, float]:
    """(tokens a second, tokens a second of one core's time)."""
    wall, seconds = time.perf_counter(), time.process_time()
    count()
    return tokens / (time.perf_counter() - wall), tokens / (time.process_time() - seconds)


def _encoded(options: argparse.Namespace, shard: slice) -> tuple[list[Batch], Vocabulary, Vocabulary]:
    source, target = load_vocabulary(options.source), load_vocabulary(options.target)
    texts = list(in_batches(read_texts(options.corpus, options.max_bytes)))[shard]
    return [(batch, source.encode_batch(batch), target.encode_batch(batch)) for batch in texts], source, target


def _count_half(options: argparse.Namespace, number: int) -> tuple[int, float, float]:
    """(target tokens, seconds, seconds of processor) of spans and neighbours in every second batch."""
    batches, source, target = _encoded(options, slice(number, None, 2))
    wall, seconds = time.perf_counter(), time.process_time()
    spans(batches, source, target)
    neighbours(batches, len(target))
    return _tokens(batches), time.perf_counter() - wall, time.process_time() - seconds


def _tokens(batches: list[Batch]) -> int:
    return sum(len(ids) for _, _, documents in batches for ids in documents)


def main() -> None:
    """Print rates and ratios from one run."""
    material = Path(os.environ.get("VOCABALIGN_MATERIAL", "."))
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", default=str(material / "tokenizers" / "gpt2"))
    parser.add_argument("--target", default=str(material / "tokenizers" / "llama2"))
    parser.add_argument("--corpus", nargs="+", default=[str(material / "corpora" / "tinystories-sampled")])
    parser.add_argument("--max-bytes", type=int, default=8_000_000)
    parser.add_argument("--naive-batches", type=int, default=1, help="batches for the naive way, which is slow")
    options = parser.parse_args()
    batches, source, target = _encoded(options, slice(None))
    small = batches[: options.naive_batches]
    tokens, few = _tokens(batches), _tokens(small)
    print(f"{tokens:,} target tokens", flush=True)
    ours = rate(tokens, lambda: spans(batches, source, target))
    naive = rate(few, lambda: naive_spans(small, source, target))
    print(_line("spans", ours, naive), flush=True)
    ours = rate(tokens, lambda: neighbours(batches, len(target)))
    naive = rate(few, lambda: naive_neighbours(small))
    print(_line(f"neighbours (window {WINDOW})", ours, naive), flush=True)
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:  # as `--shard 1/2` and `2/2` on one machine
        halves = list(pool.map(_count_half, (options, options), (0, 1)))
    slower, busiest = max(wall for _, wall, _ in halves), max(seconds for *_, seconds in halves)
    print(
        f"spans and neighbours in two processes: {tokens / slower / 1e6:.2f} M tokens a second, "
        f"{tokens / busiest / 1e6:.2f} M by the processor seconds of the slower one"
    )


def _line(name: str, ours: tuple[float, float], naive: tuple[float, float]) -> str:
    ratio = f"ratio {ours[1] / naive[1]:.0f}"
    return (
        f"{name}: {ours[0] / 1e6:.2f} M tokens a second, {ours[1] / 1e6:.2f} M a second of one core's time; "
        f"pair by pair {naive[1] / 1e6:.3f} M, {ratio}"
    )


if __name__ == "__main__":
    main()
