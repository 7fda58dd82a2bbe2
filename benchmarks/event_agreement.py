"""How often the next events of two tokenizers agree where both have read the same bytes.

    python benchmarks/event_agreement.py [--pairs STUDENT,TEACHER ...] [--texts 50]

Needs VOCABALIGN_MATERIAL. ``exact``: the same bytes; ``prefix``: the longest student token that the teacher's token
begins with; ``event``: the same class of ``common_classes``. Starts are counted against the student's tokens.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

from vocabalign.losses.aligned import Document, aligned_starts, observed_at
from vocabalign.losses.classes import class_of_pair, common_classes
from vocabalign.losses.prefixes import PrefixMap
from vocabalign.text.alignment import align_tokens
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.text.vocabulary import Vocabulary

DEFAULT = (
    "models/stories3M-hf,tokenizers/llama2",
    "tokenizers/llama2,models/stories3M-hf",
    "tokenizers/gpt2,tokenizers/llama2",
    "tokenizers/llama2,tokenizers/gpt2",
    "tokenizers/llama3,tokenizers/gpt2",
)
CORPORA = {"English": "corpora/tinystories/heldout.jsonl", "Russian": "corpora/tinystories-ru/heldout.jsonl"}


def agreement(student: Vocabulary, teacher: Vocabulary, texts: list[str]) -> dict[str, float]:
    """Shares of aligned starts at which what really follows is the same event."""
    documents, at, refused = [], [0, 0], 0
    for text in texts:
        ids = np.array(student.encode(text)), np.array(teacher.encode(text))
        alignment = align_tokens(student, ids[0], teacher, ids[1], text)
        refused += alignment is None
        if alignment is not None:
            same = student.dummy_prefix == teacher.dummy_prefix
            documents.append(Document(alignment, *ids, *at, same_opening=same))
            at = [at[0] + len(ids[0]), at[1] + len(ids[1])]
    mine, theirs = observed_at(documents).numpy().T
    tokens = [student.token_bytes[i] for i in mine], [teacher.token_bytes[i] for i in theirs]
    prefixes = PrefixMap(student, teacher).whole[theirs]
    classes = common_classes(student, teacher)
    return {
        "starts": len(aligned_starts(documents)) / max(1, at[0]),
        "exact": float(np.mean([a == b for a, b in zip(*tokens, strict=True)])),
        "prefix": float(
            np.mean([student.token_bytes[p] == a if p >= 0 else False for p, a in zip(prefixes, tokens[0])])
        ),
        "event": float(class_of_pair(classes, mine, theirs).mean()),
        "classes": classes.num_classes,
        "refused": refused,
    }


def main() -> None:
    """One line for each pair and corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=DEFAULT)
    parser.add_argument("--texts", type=int, default=50)
    arguments = parser.parse_args()
    folder = Path(os.environ["VOCABALIGN_MATERIAL"])
    for pair in arguments.pairs:
        student, teacher = (load_vocabulary(folder / name) for name in pair.split(","))
        for language, path in CORPORA.items():
            lines = (folder / path).read_text(encoding="utf-8").splitlines()[: arguments.texts]
            found = agreement(student, teacher, [json.loads(line)["text"] for line in lines])
            shares = "  ".join(f"{name} {found[name]:.3f}" for name in ("starts", "exact", "prefix", "event"))
            print(
                f"{language:<8} student {student.name:<14} teacher {teacher.name:<14} {shares}  "
                f"classes {found['classes']:,}  texts refused {found['refused']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
