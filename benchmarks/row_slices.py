"""On no slice of text that the source knows may ours be worse than FVT: domains and languages, paired by document.

python benchmarks/row_slices.py                            # every pair of transplant_rows.py
python benchmarks/row_slices.py --pairs stories3M:llama2 --kilobytes 40

A slice counts where the untouched source is below 2.5 bits per byte and its tokenizer can write the text (at most 1 %
of the tokens unknown). Ours is ``auto``, untied where the source is tied and once more tied; FVT is the mean of the
pieces, uncalibrated. A slice is lost where the whole 95 % interval of the paired difference, ours minus FVT, is above
0. Counts are of the text that the pair is trained on, never of the slice. Exit status 1 where a slice is lost.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rival_rows
from row_cells import MATERIAL, OURS_CODE, RIVAL_CODE, Pair, score_matrices, score_model, scored, transplanted
from transplant_rows import PAIRS

from vocabalign.evaluation.bits_per_byte import DocumentScores
from vocabalign.evaluation.statistics import paired_difference
from vocabalign.models import resolve
from vocabalign.text.corpus import read_texts
from vocabalign.text.tokenizers import load_vocabulary

LIMIT_BITS = 2.5
MOST_UNKNOWN = 0.01
DOCUMENT_CHARACTERS = 1_500


def slices(pair: Pair, kilobytes: int) -> Iterator[tuple[str, list[str]]]:
    """Name and documents of each slice of the material, and of the pair's own held-out text."""
    files = [pair.text("heldout")]
    corpora = MATERIAL / "corpora"
    for pattern in ("tinystories/heldout.jsonl", "tinystories-ru/heldout.jsonl", "wikitext-2/*", "math/*", "code/*"):
        files += [str(path) for path in sorted(corpora.glob(pattern))]
    files += [str(path) for folder in ("hfcourse", "ntrex") for path in sorted((corpora / folder).glob("*.txt"))]
    for file in dict.fromkeys(files):
        documents, size = [], 0
        for text in texts_of(file):
            for begin in range(0, len(text), DOCUMENT_CHARACTERS):
                part = text[begin : begin + DOCUMENT_CHARACTERS]
                if part.strip() and size < 1000 * kilobytes:
                    documents.append(part)
                    size += len(part.encode())
            if size >= 1000 * kilobytes:
                break
        yield "/".join(file.rsplit("/", 2)[-2:]), documents


def texts_of(file: str) -> Iterator[str]:
    """Documents of a file; of problems, the question and the answer."""
    if "/math/" not in file:
        yield from read_texts([file])
        return
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield f"{record['question']}\n{record['answer']}"


def unknown_share(source: str, documents: Sequence[str]) -> float:
    """Of the tokens that the source's tokenizer makes of the documents."""
    vocabulary = load_vocabulary(resolve(source))
    ids = np.array([i for row in vocabulary.encode_batch(list(documents)) for i in row])
    return float((ids == vocabulary.roles.get("unk", -1)).mean())


def measure_pair(name: str, kilobytes: int, fresh: bool) -> int:
    """Print a pair's slices; the number of lost ones."""
    pair = Pair(name)
    seen = rival_rows.Pair(str(resolve(pair.source)), pair.target, [pair.text("train")])
    size = f"{kilobytes} kB"
    known = list(slices(pair, kilobytes))
    everything = [document for _, documents in known for document in documents]
    place = (pair.source_name, size, "source", str(len(everything)))
    scores = scored(place, (), lambda: score_model(lambda _: pair.source, everything), fresh)
    chosen: dict[str, list[str]] = {}
    source: dict[str, DocumentScores] = {}
    end = 0
    for label, documents in known:
        end += len(documents)
        part = scores.select(np.arange(end - len(documents), end))
        share = unknown_share(pair.source, documents)
        if share > MOST_UNKNOWN or part.bits_per_byte >= LIMIT_BITS:
            print(f"  {name} {label}: not counted, source {part.bits_per_byte:.3f}, unknown {share:.1%}")
            continue
        chosen[label], source[label] = documents, part
    texts = [document for documents in chosen.values() for document in documents]
    train = {"corpus": [pair.text("train")]}
    ways = {"FVT": (RIVAL_CODE, lambda: score_matrices(seen, rival_rows.published(seen, "fvt", "fvt"), texts))}
    for way, untie in (("ours", pair.tied), *((("ours, tied", False),) if pair.tied else ())):
        values = {**train, "untie": untie}
        ways[way] = (
            OURS_CODE,
            lambda values=values: score_model(lambda folder: transplanted(pair, values, folder), texts),
        )
    results = {way: scored((name, size, way), code, score, fresh) for way, (code, score) in ways.items()}
    lost, begin = 0, 0
    for label, documents in chosen.items():
        part = {way: scores.select(np.arange(begin, begin + len(documents))) for way, scores in results.items()}
        begin += len(documents)
        for way in part:
            if way == "FVT":
                continue
            paired = paired_difference(part["FVT"], part[way]).difference
            is_lost = paired.low is not None and paired.low > 0
            lost += is_lost
            print(
                f"{'LOST' if is_lost else 'held'} {name} {label} {way}: source {source[label].bits_per_byte:.3f}, FVT "
                f"{part['FVT'].bits_per_byte:.3f}, ours {part[way].bits_per_byte:.3f}, difference {paired.value:+.3f} "
                f"({_bound(paired.low)} to {_bound(paired.high)})",
                flush=True,
            )
    return lost


def _bound(value: float | None) -> str:
    return "?" if value is None else f"{value:+.3f}"


def main() -> None:
    """Print a line for each slice of each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS))
    parser.add_argument("--kilobytes", type=int, default=20, help="of each slice at most")
    parser.add_argument("--fresh", action="store_true", help="measure again what is kept")
    options = parser.parse_args()
    lost = sum(measure_pair(name, options.kilobytes, options.fresh) for name in options.pairs)
    print(f"slices lost: {lost} (limit 0)")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
