"""Token bytes of a vocabulary of 256k in seconds, and what comparing two such costs, beside decoding id by id.

python benchmarks/token_bytes_scale.py --size 262144

The vocabularies are made up: as many byte-level and as many SentencePiece tokens as asked for, half of them the same
bytes. Imports and the reading of files are not part of the times, which are those of the processor. Memory is what
the comparison adds at its peak.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from typing import Any

LETTERS = "etaoinshrdlucmfwypvbgkjqxz\u0430\u0435\u0438\u043d\u043e\u0440\u0441\u0442\u7684\u4e00\u662f\u4e0d"


def make_tokens(size: int, seed: int) -> list[str]:
    """Different words, half of them with a space in front."""
    draw = random.Random(seed)
    tokens: dict[str, None] = {}
    while len(tokens) < size:
        word = "".join(draw.choice(LETTERS) for _ in range(draw.randint(2, 9)))
        tokens[" " + word if draw.random() < 0.5 else word] = None
    return list(tokens)


def byte_level_state(tokens: list[str]) -> dict[str, Any]:
    """A byte-level tokenizer.json with these tokens."""
    from vocabalign.text.token_bytes import byte_alphabet

    letters = {byte: character for character, byte in byte_alphabet().items()}
    names = [*byte_alphabet(), *("".join(letters[byte] for byte in token.encode()) for token in tokens)]
    ids = {name: i for i, name in enumerate(dict.fromkeys(names))}
    part = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": ids, "merges": []}
    parts = {"normalizer": None, "pre_tokenizer": part, "decoder": part, "post_processor": None}
    return {"version": "1.0", "model": model, "added_tokens": [], "truncation": None, "padding": None} | parts


def sentencepiece_state(tokens: list[str]) -> dict[str, Any]:
    """A SentencePiece-like tokenizer.json with these tokens and byte fallback."""
    single = ["<unk>", "\u2581", *LETTERS, *(f"<0x{byte:02X}>" for byte in range(256))]
    names = [*single, *(token.replace(" ", "\u2581") for token in tokens)]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    model = {"type": "BPE", "vocab": {name: i for i, name in enumerate(dict.fromkeys(names))}, "merges": []}
    model |= {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    parts = {"normalizer": replace, "pre_tokenizer": None, "decoder": {"type": "ByteFallback"}, "post_processor": None}
    return {"version": "1.0", "model": model, "added_tokens": [], "truncation": None, "padding": None} | parts


def peak_megabytes() -> float:
    """Most memory that the process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print seconds, memory and the ratio, all from one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=262_144)
    size = parser.parse_args().size

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from vocabalign.text.sharing import compare_vocabularies
    from vocabalign.text.token_bytes import read_token_bytes
    from vocabalign.text.tokenizers import load_vocabulary

    shared, own, other = (make_tokens(size // 2, seed) for seed in range(3))
    first = byte_level_state((shared + own)[: size - 256])
    second = sentencepiece_state((shared + other)[: size - 258 - len(LETTERS)])
    wrapped = [PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(s))) for s in (first, second)]

    started = time.process_time()
    tables = [read_token_bytes(state) for state in (first, second)]
    ours = (time.process_time() - started) / 2
    started = time.process_time()
    decoded = [wrapped[0].decode([token_id]).encode() for token_id in range(len(wrapped[0]))]
    naive = time.process_time() - started
    wrong = sum(a != b for a, b in zip(decoded, tables[0].token_bytes, strict=True))
    print(f"bytes of {len(tables[0].token_bytes):,} tokens: {ours:.2f} s; id by id with decode {naive:.2f} s", end="")
    print(f" (ratio {ours / naive:.2f}), of which {wrong:,} wrong")

    started = time.process_time()
    vocabularies = [load_vocabulary(tokenizer) for tokenizer in wrapped]
    loading = time.process_time() - started
    before = peak_megabytes()
    started = time.process_time()
    shares = compare_vocabularies(*vocabularies).shares(None)
    seconds = time.process_time() - started
    assert 0.4 < shares["bytes"]["type_share_of_a"] < 0.6
    added, peak = peak_megabytes() - before, peak_megabytes()
    print(f"two vocabularies with all their bytes, proven: {loading:.2f} s", end="; ")
    print(f"comparing them: {seconds:.2f} s, {added:.0f} MB more at the peak of {peak:.0f}")


if __name__ == "__main__":
    main()
