"""How many running tokens two vocabularies share, by raw string and by bytes, on every English text of the material.

Texts are read line by line without line ends (.jsonl: by their text, line by line too). Counted are the tokens of
one vocabulary, without special tokens, that the other has: by raw string as the papers compare, and by bytes.

    VOCABALIGN_MATERIAL=… python benchmarks/shared_running_tokens.py [TEXT ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vocabalign.text.batches import in_batches
from vocabalign.text.compression import count_ids
from vocabalign.text.corpus import corpus_files, read_texts
from vocabalign.text.sharing import compare_vocabularies
from vocabalign.text.tokenizers import load_vocabulary

ENGLISH = (
    "tinystories/heldout.jsonl",
    "tinystories/train.jsonl",
    "tinystories-sampled/train.jsonl",
    "hfcourse/en.txt",
    "ntrex/en.txt",
    "wikitext-2/valid.txt",
    "math/gsm8k_test.jsonl",
    "code",
)


def lines_of(path: Path) -> Iterator[str]:
    """Lines that are not blank, without their ends; of questions and answers both."""
    if path.name.startswith("gsm8k"):
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        texts: Iterator[str] = (f"{row['question']}\n{row['answer']}" for row in rows)
    else:
        texts = read_texts([path])
    return (line for text in texts for line in re.split(r"\r?\n", text) if line.strip())


def main() -> None:
    """Print the types, then a line for each text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path, help="instead of the English texts of the material")
    parser.add_argument("--source", default="pythia-neox")
    parser.add_argument("--target", default="llama2")
    options = parser.parse_args()
    material = Path(os.environ["VOCABALIGN_MATERIAL"])
    vocabularies = [load_vocabulary(material / "tokenizers" / name) for name in (options.source, options.target)]
    sharing = compare_vocabularies(*vocabularies)
    types = sharing.shares(None)
    for rule in ("raw_string", "bytes"):
        shares = " and ".join(
            f"{types[rule][f'type_share_of_{side}']:.2%} of {v.name}" for side, v in zip("ab", vocabularies)
        )
        print(f"types shared by {rule.replace('_', ' ')}: {shares}")
    a, b = (vocabulary.name for vocabulary in vocabularies)
    print(f"\n| text | tokens of {b} | of {b}: raw string | bytes | of {a}: raw string | bytes |")
    print("|---|---:|---:|---:|---:|---:|")
    paths = options.texts or corpus_files([material / "corpora" / name for name in ENGLISH])
    for path in paths:
        counts = [np.zeros(len(vocabulary), dtype=np.int64) for vocabulary in vocabularies]
        for batch in in_batches(lines_of(path)):
            for vocabulary, count in zip(vocabularies, counts):
                count += count_ids(vocabulary, vocabulary.encode_batch(batch))
        for vocabulary, count in zip(vocabularies, counts):
            count[sorted(vocabulary.special_ids)] = 0
        shares_of = sharing.token_shares(counts)
        cells = [
            f"{shares_of[rule][f'token_share_of_{side}']:.2%}" for side in "ba" for rule in ("raw_string", "bytes")
        ]
        name = path.relative_to(material / "corpora") if path.is_relative_to(material) else path.name
        print(f"| {name} | {counts[1].sum():,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
