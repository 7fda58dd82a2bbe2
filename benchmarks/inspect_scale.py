"""How long comparing two vocabularies of 256,000 tokens takes, and how much memory; loading is not counted.

Two real byte-level vocabularies are filled up to that size with pairs of Chinese characters. Beside
the comparison alone stands the naive way: every id decoded by itself, which gets bytes wrong, and the sets compared.

    VOCABALIGN_MATERIAL=… python benchmarks/inspect_scale.py [--tokens 256000]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from vocabalign.text.inspection import inspect_vocabularies
from vocabalign.text.sharing import compare_vocabularies
from vocabalign.text.token_bytes import byte_alphabet
from vocabalign.text.tokenizers import load_vocabulary

NAMES = ("o200k_base", "qwen1.5")


def filled_up(state: dict[str, Any], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with merges of two Chinese characters behind its own until it has ``size`` tokens."""
    vocabulary, merges = state["model"]["vocab"], state["model"]["merges"]
    state["added_tokens"] = []
    taken = set(vocabulary.values())
    free = iter(token_id for token_id in range(size) if token_id not in taken)
    alphabet = byte_alphabet()
    characters = [token for token in vocabulary if _is_chinese(bytes(alphabet[letter] for letter in token))]
    pairs = ((left, right) for left in characters for right in characters)
    while len(vocabulary) < size:
        left, right = next(pairs)
        if left + right not in vocabulary:
            vocabulary[left + right] = next(free)
            merges.append([left, right] if isinstance(merges[0], list) else f"{left} {right}")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))


def _is_chinese(token: bytes) -> bool:
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return False
    return len(text) == 1 and "\u4e00" <= text <= "\u9fff"


def naive_share(tokenizers: Sequence[PreTrainedTokenizerFast]) -> float:
    """Types of the second whose single decoded string is also one of the first."""
    texts = [[tokenizer.decode([token_id]) for token_id in range(len(tokenizer))] for tokenizer in tokenizers]
    known = set(texts[0])
    return sum(text in known for text in texts[1]) / len(texts[1])


def memory(key: str) -> float:
    """Megabytes from ``/proc/self/status``: VmRSS now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1000


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, seconds on the clock, and seconds of processor time (other programs do not count)."""
    started = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - started[0], time.process_time() - started[1]


def main() -> None:
    """Print seconds and peak memory of ours, seconds of the naive way, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256_000)
    options = parser.parse_args()
    folder = Path(os.environ["VOCABALIGN_MATERIAL"]) / "tokenizers"

    def read(name: str) -> dict[str, Any]:
        return json.loads((folder / name / "tokenizer.json").read_text(encoding="utf-8"))

    tokenizers = [filled_up(read(name), options.tokens) for name in NAMES]
    a, b = (load_vocabulary(tokenizer) for tokenizer in tokenizers)
    print(f"{len(a):,} and {len(b):,} tokens")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    sharing, _, compare_seconds = timed(lambda: compare_vocabularies(a, b))
    result, seconds, processor = timed(lambda: inspect_vocabularies(a, b))
    peak = memory("VmHWM")
    share = result["shared"]["bytes"]["type_share_of_b"]
    print(f"inspect of both {seconds:.1f} s ({processor:.1f} s of processor time)")
    print(f"memory: peak {peak:.0f} MB in all, {peak - before:.0f} MB above the loaded ones")
    naive, _, naive_seconds = timed(lambda: naive_share(tokenizers))
    print(
        f"shared by bytes {share:.2%} in {compare_seconds:.2f} s of processor time, "
        f"by decoded ids {naive:.2%} in {naive_seconds:.2f} s, "
        f"ratio {compare_seconds / naive_seconds:.3f}"
    )
    assert float(sharing.found["bytes"][1].mean()) == share


if __name__ == "__main__":
    main()
