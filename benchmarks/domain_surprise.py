"""How much more a text costs a model than it expects: text of its own domain beside text of others.

python benchmarks/domain_surprise.py

Nats a token found and expected (mean entropy of the predictions) on 20 kB of each text of the material
(VOCABALIGN_MATERIAL) for its three models and the demo model. What a transplant calls another domain is above
``FOREIGN_NATS``, or has more unknown tokens than ``MOST_UNKNOWN``; the last lines say how far apart the two kinds are.
Exit status 1 where a text is on the wrong side.
"""

from __future__ import annotations

import sys

import torch
from row_cells import MATERIAL, Pair

from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.source_states import read_texts_by, source_head
from vocabalign.transplantation.surprise import FOREIGN_NATS, MOST_UNKNOWN, Surprise, measure_surprise

BYTES = 20_000
CPU = torch.device("cpu")
STORIES = ("tinystories/train.jsonl", "tinystories/heldout.jsonl", "tinystories-sampled/train.jsonl")
OTHERS = (
    "wikitext-2/valid.txt", "hfcourse/en.txt", "ntrex/en.txt", "ntrex/de.txt", "ntrex/ru.txt",
    "code/go_gin-gonic_gin.txt", "code/python_psf_requests.txt",
)  # fmt: skip
# Python code of others is of the demo model's domain: it has learned from Python's own.
PYTHON = OTHERS[-1]


def surprise_by(model: str, file: str) -> Surprise:
    """Of a model by the beginning of a file."""
    checkpoint, vocabulary = open_checkpoint(model), load_vocabulary(model)
    texts, size = [], 0
    for text in read_texts([file]):
        texts.append(text[:4_000])
        size += len(texts[-1].encode())
        if size >= BYTES:
            break
    read = read_texts_by(checkpoint.folder, vocabulary, texts, dtype=torch.float32, device=CPU)
    return measure_surprise(read, source_head(checkpoint, CPU), vocabulary.roles.get("unk"))


def main() -> None:
    """Print a line for each model and text."""
    corpora, wrong = MATERIAL / "corpora", 0
    most, least = float("-inf"), float("inf")
    for name in ("stories260K:llama2", "tlm-833K:llama2", "stories3M:llama2", "demo:llama2"):
        pair = Pair(name)
        is_demo = pair.source_name == "demo"
        home = [pair.text("train"), pair.text("heldout")] if is_demo else [str(corpora / file) for file in STORIES]
        others = [str(corpora / file) for file in (OTHERS + STORIES[:1] if is_demo else OTHERS)]
        for file in home + others:
            own = file in home or (is_demo and file.endswith(PYTHON))
            found = surprise_by(pair.source, file)
            excess = found.found - found.expected
            wrong += found.foreign == own
            if own:
                most = max(most, excess)
            elif found.unknown <= MOST_UNKNOWN:
                least = min(least, excess)
            print(
                f"{pair.source_name:<12}{'/'.join(file.rsplit('/', 2)[-2:]):<36}found {found.found:6.2f} expected "
                f"{found.expected:5.2f} difference {excess:6.2f} unknown {found.unknown:4.0%} "
                f"{'another domain' if found.foreign else 'own domain'}{' WRONG' if found.foreign == own else ''}",
                flush=True,
            )
    print(f"own domain at most {most:.2f}, another at least {least:.2f} nats a token, ratio {least / most:.1f};")
    print(f"called another domain above {FOREIGN_NATS}; on the wrong side: {wrong} (limit 0)")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
