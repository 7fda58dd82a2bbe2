"""What anchors, embeddings and maps contribute to finding tokens: all combinations, on one pair.

python benchmarks/align_ablation.py                                         # 2 x 5 x 8 rows, stories3M -> llama2
python benchmarks/align_ablation.py --embeddings ppmi --pair llama2:gpt2    # the map alone

Every row is ``tokalign++``'s lexicon (the nearest source token for what is not shared) made one way. P@1 and P@5 are
of known pairs that were hidden from the map, see ``align_quality.py``. Rows that are in the file of ``--json`` already
are not made again, so the whole can be made in parts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from align_quality import HEADER, load_pair, measure, parse, row

METHODS = ("skip-gram", "cbow", "fasttext", "glove", "ppmi")
MAPPINGS: dict[str, dict[str, Any]] = {
    "relative": {"mapping": "relative", "num_anchors": 300},
    "none, cosine": {"mapping": "none", "csls_neighbors": 0},
    "none, CSLS": {"mapping": "none"},
    "procrustes, cosine": {"mapping": "procrustes", "csls_neighbors": 0},
    "procrustes, CSLS": {"mapping": "procrustes"},
    "muse, CSLS": {"mapping": "muse"},
    "vecmap, CSLS": {"mapping": "vecmap", "self_learning": False},
    "vecmap, self-learning": {"mapping": "vecmap", "self_learning": True},
}
MEASURES = {
    "P@1": "known_pair_precision_at_1",
    "P@5": "known_pair_precision_at_5",
    "BLEU t>s": "bleu1_target_to_source",
}


def main() -> None:
    """Print a row for each combination, and what each choice gives on average over the others."""
    from vocabalign.stages import EmbeddingOptions

    parser = parse(__doc__)
    parser.add_argument("--pair", default="stories3M:llama2", metavar="SOURCE:TARGET")
    parser.add_argument("--embeddings", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--anchors", nargs="+", choices=("strings", "bytes"), default=["strings", "bytes"])
    parser.add_argument("--mappings", nargs="+", choices=list(MAPPINGS), default=list(MAPPINGS))
    options = parser.parse_args()
    if options.material is None:
        parser.error("give --material, or set VOCABALIGN_MATERIAL")
    learned = load_pair(options.pair, Path(options.material), options.max_bytes, options.heldout_bytes)
    results: dict[str, dict[str, Any]] = {}
    if options.json and options.json.exists():
        results = json.loads(options.json.read_text(encoding="utf-8"))
    for method in options.embeddings:
        embedding = EmbeddingOptions(method=method, dimensions=options.dimensions, x_max=10)
        print(f"\n{options.pair.replace(':', ' -> ')}, {method}\n{HEADER}", flush=True)
        for anchors in options.anchors:
            for name in options.mappings:
                key = " / ".join((anchors, method, name))
                if key not in results:
                    way = {"method": "tokalign++", "anchors": anchors, **MAPPINGS[name]}
                    results[key] = measure(way, embedding, options.seed, learned)
                print(row(f"{name}, {anchors}", results[key]), flush=True)
                if options.json:
                    options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    averages(results)


def averages(results: dict[str, dict[str, Any]]) -> None:
    """Mean of each measure by each choice of one factor, over all combinations of the others."""
    print(f"\nmean over the other factors   {'  '.join(MEASURES)}")
    for place in range(3):
        for choice in dict.fromkeys(key.split(" / ")[place] for key in results):
            rows = [found for key, found in results.items() if choice in key.split(" / ") and "refused" not in found]
            means = [sum(found[measure] for found in rows) / max(1, len(rows)) for measure in MEASURES.values()]
            print(f"{choice:28s}  {'  '.join(f'{mean:.3f}' for mean in means)}")


if __name__ == "__main__":
    main()
