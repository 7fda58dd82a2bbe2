"""Tokens aligned a second on one core, beside a plain Python walk over the two lists of ends.

python benchmarks/alignment_speed.py --tokenizers gpt2 llama2 --megabytes 4

Timed is what a training step needs of every text: from the ids of both sides, checked against the text, to chunks
and start pairs. Encoding is not part of it. "From ends" leaves out the check. Rates count the tokens of both sides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")


def seconds_of(function: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    started = time.process_time()
    function()
    return time.process_time() - started


def plain_walk(first: list[int], second: list[int]) -> list[tuple[int, int, int, int, int]]:
    """Chunks of two lists of ends, token by token."""
    chunks, i, j, start_i, start_j = [], 0, 0, 0, 0
    while i < len(first) and j < len(second):
        if first[i] == second[j]:
            i, j = i + 1, j + 1
            chunks.append((start_i, i, start_j, j, first[i - 1]))
            start_i, start_j = i, j
        elif first[i] < second[j]:
            i += 1
        else:
            j += 1
    return chunks


def load_texts(material: Path, corpora: list[str], megabytes: float, document_bytes: int) -> list[str]:
    """Documents of about this many bytes."""
    texts, size = [], 0
    for name in corpora:
        text, room = (material / "corpora" / name).read_text(encoding="utf-8"), megabytes * 1e6 / len(corpora)
        while text and room > 0:
            document, text = text[:document_bytes], text[document_bytes:]
            texts.append(document)
            room -= len(document.encode())
            size += len(document.encode())
        assert size
    return texts


def main() -> None:
    """Print rates and ratios, all from one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, default=os.environ.get("VOCABALIGN_MATERIAL"))
    parser.add_argument("--tokenizers", nargs=2, default=["gpt2", "llama2"])
    corpora = ["hfcourse/en.txt", "ntrex/ru.txt", "ntrex/zh.txt", "code/python_psf_requests.txt"]
    parser.add_argument("--corpora", nargs="+", default=corpora)
    parser.add_argument("--megabytes", type=float, default=2)
    parser.add_argument("--document-bytes", type=int, default=8192, help="Characters in a document.")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if options.material is None:
        parser.error("give --material, or set VOCABALIGN_MATERIAL")

    from vocabalign.text.alignment import align_cuts, align_tokens, cut_of
    from vocabalign.text.tokenizers import load_vocabulary

    s, t = (load_vocabulary(Path(options.material) / "tokenizers" / name) for name in options.tokenizers)
    texts = load_texts(Path(options.material), options.corpora, options.megabytes, options.document_bytes)
    s_ids, t_ids = s.encode_batch(texts), t.encode_batch(texts)
    rows = list(zip(texts, s_ids, t_ids, strict=True))
    cuts = [(cut_of(s, a, text), cut_of(t, b, text)) for text, a, b in rows]
    refused = sum(None in pair for pair in cuts)
    good = [(a, b) for a, b in cuts if a is not None and b is not None]
    lists = [(a.ends.tolist(), b.ends.tolist()) for a, b in good]
    tokens = sum(map(len, s_ids)) + sum(map(len, t_ids))
    ways: dict[str, Callable[[], object]] = {
        "from ids, checked against the text": lambda: [align_tokens(s, a, t, b, text) for text, a, b in rows],
        "from ids, sides compared": lambda: [align_tokens(s, a, t, b) for _, a, b in rows],
        "from ends": lambda: [align_cuts(a, b) for a, b in good],
        "plain walk from ends, chunks only": lambda: [plain_walk(a, b) for a, b in lists],
    }
    for (a, b), (x, y) in zip(good, lists, strict=True):
        alignment, walked = align_cuts(a, b), [chunk for chunk in plain_walk(x, y) if chunk[4]]
        assert len(alignment) == len(walked) and alignment.num_bytes == (walked[-1][4] if walked else 0)
    # Interleaved, so that a busy machine disturbs all alike.
    seconds = {name: [] for name in ways}
    for _ in range(options.runs):
        for name, way in ways.items():
            seconds[name].append(seconds_of(way))
    sides = " and ".join(options.tokenizers)
    print(f"{sides}: {len(texts)} documents, {tokens:,} tokens on both sides, {refused} documents refused")
    rates = {name: tokens / statistics.median(values) / 1e6 for name, values in seconds.items()}
    slowest = rates["plain walk from ends, chunks only"]
    for name, rate in rates.items():
        print(f"{name:36s} {rate:6.2f} M tokens/s, {rate / slowest:.2f} of the plain walk")


if __name__ == "__main__":
    main()
