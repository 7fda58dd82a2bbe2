"""How good the lexicons of ``tokalign``, ``tokalign++`` and ``auto`` are, on pairs of real vocabularies.

python benchmarks/align_quality.py --pairs stories3M:llama2 stories260K:stories3M     # minutes on one core
python benchmarks/align_quality.py --pairs pythia-neox:llama2 --max-bytes 3000000
python benchmarks/align_quality.py --ablation --pairs stories3M:llama2

BLEU-1 both ways, exact coverage of running tokens and hubs are of held-out text. Known-pair precision is of the
distributional layer alone: a fifth of the shared tokens is hidden from the map and looked for among all source tokens
that have a vector, so neither their bytes nor spans nor segmentation help; by how common the token is, in thirds.
``strings`` and ``bytes`` say what counts as shared: the raw string, as in the papers, or the bytes. Exact coverage is
the share of running tokens whose best source token has the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")

PLACES = {"stories260K": "models/stories260K-hf", "stories3M": "models/stories3M-hf"}
STORIES = (["tinystories/train.jsonl", "tinystories-sampled/*.jsonl"], ["tinystories/heldout.jsonl"])
# Every fifth line of the parallel news is held out.
MIXED = (["tinystories/train.jsonl", "hfcourse/*.txt", "code/*.txt", "ntrex/*.txt"], ["ntrex/*.txt"])
WAYS: dict[str, dict[str, Any]] = {
    "tokalign, strings": {"method": "tokalign", "anchors": "strings"},
    "tokalign, bytes": {"method": "tokalign", "anchors": "bytes"},
    "tokalign, as its code": {"method": "tokalign", "anchors": "strings", "mapping_options": {"scale_relative": False}},
    "tokalign++, strings": {"method": "tokalign++", "anchors": "strings"},
    "tokalign++, bytes": {"method": "tokalign++", "anchors": "bytes"},
    "auto": {"method": "auto"},
}
MAPPINGS: dict[str, dict[str, Any]] = {
    "relative": {"mapping": "relative", "num_anchors": 300},
    "relative, unscaled": {"mapping": "relative", "num_anchors": 300, "mapping_options": {"scale_relative": False}},
    "procrustes": {"mapping": "procrustes"},
    "muse": {"mapping": "muse"},
    "vecmap": {"mapping": "vecmap", "self_learning": False},
    "vecmap, self-learning": {"mapping": "vecmap", "self_learning": True},
    "vecmap, unsupervised": {"mapping": "vecmap", "start": "unsupervised"},
}


def take(paths: Iterable[Path], max_bytes: int, keep: int | None, of: int = 5) -> list[str]:
    """Documents of these files in equal shares; of text files lines, ``keep`` (None: the others) of every ``of``."""
    from vocabalign.alignment.scores import take_text
    from vocabalign.text.corpus import read_texts

    files, texts = sorted(paths), []
    for path in files:
        documents: Iterable[str] = read_texts([path])
        if path.parent.name == "ntrex":
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            documents = [line for i, line in enumerate(lines) if (i % of == keep if keep is not None else i % of)]
        texts += take_text(documents, max_bytes // len(files))
    return texts


def corpus_of(pair: tuple[str, str], root: Path, max_bytes: int, heldout_bytes: int) -> tuple[list[str], list[str]]:
    """Training and held-out texts that fit the pair."""
    patterns = STORIES if "stories3M" in pair else MIXED
    training, heldout = ([path for pattern in part for path in root.glob(pattern)] for part in patterns)
    return take(training, max_bytes, None), take(heldout, heldout_bytes, 0)


def exact_by_script(lexicon: Any, source: Any, target: Any, texts: list[str]) -> dict[str, float]:
    """Share of running target tokens whose best source token has the same bytes: in all, and by script."""
    from vocabalign.text.scripts import token_script

    ids = np.array([i for row in target.encode_batch(texts) for i in row], dtype=np.int64)
    counts = np.bincount(ids, minlength=len(target))
    shares: dict[str, list[int]] = {}
    for token in np.flatnonzero(counts):
        best = int(lexicon.source_ids[token, 0])
        exact = best >= 0 and target.token_bytes[token] and source.token_bytes[best] == target.token_bytes[token]
        for name in ("all", token_script(target.token_bytes[token])):
            found = shares.setdefault(name, [0, 0])
            found[0] += int(counts[token]) * bool(exact)
            found[1] += int(counts[token])
    return {name: hit / total for name, (hit, total) in sorted(shares.items(), key=lambda item: -item[1][1])}


def measure(pair: tuple[str, str], way: dict[str, Any], options: argparse.Namespace, learned: dict) -> dict[str, Any]:
    """Align one way; token embeddings are learned once for a pair and its number of dimensions."""
    from vocabalign.alignment.align_options import anchor_limit, match_options
    from vocabalign.alignment.align_stage import align_vocabularies
    from vocabalign.alignment.anchors import identical_source
    from vocabalign.alignment.embeddings import learn_token_embeddings
    from vocabalign.alignment.matching import known_pair_precision, shared_vectors
    from vocabalign.alignment.scores import bleu1_both_ways, hub_statistics
    from vocabalign.errors import TooFewAnchorsError
    from vocabalign.stages import AlignConfig, EmbeddingOptions

    source, target, texts, heldout = learned["source"], learned["target"], learned["texts"], learned["heldout"]
    embeddings = EmbeddingOptions(method=options.embedding, dimensions=options.dimensions)
    config = AlignConfig(
        source="-", target="-", corpus=[], out=Path("-"), embeddings=embeddings, device="cpu", seed=options.seed, **way
    )
    if "embeddings" not in learned:
        learned["embeddings"] = tuple(
            learn_token_embeddings(side, texts, embeddings, options.seed) for side in (source, target)
        )
    started = time.perf_counter()
    try:
        result = align_vocabularies(source, target, texts, config, given=learned["embeddings"])
    except TooFewAnchorsError as error:
        return {"refused": str(error)}
    seconds = time.perf_counter() - started
    # What is hidden is the same for every way: tokens shared by bytes.
    shared = shared_vectors(identical_source(source, target, "bytes"), *learned["embeddings"])
    if config.anchors == "strings":
        allowed = shared_vectors(identical_source(source, target, "strings"), *learned["embeddings"])
    else:
        allowed = shared
    known = known_pair_precision(
        *learned["embeddings"], shared, match_options(config), options.seed, anchor_limit(config), allowed
    )
    return {
        **bleu1_both_ways(result.lexicon, source, target, heldout),
        "exact": exact_by_script(result.lexicon, source, target, heldout),
        **hub_statistics(result.lexicon),
        **known,
        "anchors": result.scores["anchors"],
        "seconds": seconds,
    }


HEADER = f"{'':26s}{'BLEU t>s':>9s}{'s>t':>7s}{'exact':>7s}{'hubs':>7s}{'P@1':>7s}{'P@5':>7s}  P@1 by frequency"


def row(name: str, found: dict[str, Any]) -> str:
    """One line of the table."""
    if "refused" in found:
        return f"{name:26s}{found['refused']}"
    thirds = " ".join(f"{share:.2f}" for share in found.get("known_pair_precision_at_1_by_frequency", []))
    numbers = (
        found["bleu1_target_to_source"],
        found["bleu1_source_to_target"],
        found["exact"]["all"],
        found["hub_share_top3"],
        found.get("known_pair_precision_at_1", float("nan")),
        found.get("known_pair_precision_at_5", float("nan")),
    )
    cells = "".join(f"{number:{9 if i == 0 else 7}.3f}" for i, number in enumerate(numbers))
    return f"{name:26s}{cells}  {thirds:18s}{found['anchors']:7,} anchors {found['seconds']:6.0f} s"


def main() -> None:
    """Print a table for each pair, and all figures as JSON if wished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, default=os.environ.get("VOCABALIGN_MATERIAL"))
    every = ["pythia-neox:llama2", "gpt2:qwen1.5", "llama2:gpt2", "stories260K:stories3M", "stories3M:llama2"]
    parser.add_argument("--pairs", nargs="+", default=every, metavar="SOURCE:TARGET")
    parser.add_argument("--max-bytes", type=int, default=2_000_000, help="Text that embeddings and spans see.")
    parser.add_argument("--heldout-bytes", type=int, default=200_000)
    parser.add_argument("--embedding", default="skip-gram", help="skip-gram, cbow, fasttext, glove, ppmi.")
    parser.add_argument("--dimensions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--ablation", action="store_true", help="One factor at a time: the mapping of tokalign++.")
    parser.add_argument("--json", type=Path, help="Write all figures there, by script too.")
    options = parser.parse_args()
    if options.material is None:
        parser.error("give --material, or set VOCABALIGN_MATERIAL")
    from vocabalign.text.tokenizers import load_vocabulary

    root = Path(options.material)
    ways = {name: WAYS[name] for name in options.ways}
    if options.ablation:
        ways = {
            f"{name}, {anchors}": {"method": "tokalign++", "anchors": anchors, **way}
            for anchors in ("strings", "bytes")
            for name, way in MAPPINGS.items()
        }
    results: dict[str, Any] = {}
    for text in options.pairs:
        pair = (text.split(":")[0], text.split(":")[1])
        learned: dict[str, Any] = {
            side: load_vocabulary(root / PLACES.get(name, f"tokenizers/{name}"))
            for side, name in zip(("source", "target"), pair, strict=True)
        }
        texts, heldout = corpus_of(pair, root / "corpora", options.max_bytes, options.heldout_bytes)
        learned |= {"texts": texts, "heldout": heldout}
        size = sum(len(text.encode()) for text in texts)
        print(f"\n{pair[0]} -> {pair[1]}, {size:,} bytes of text, {options.embedding}\n{HEADER}", flush=True)
        for name, way in ways.items():
            results.setdefault(text, {})[name] = found = measure(pair, way, options, learned)
            print(row(name, found), flush=True)
        for name, found in results[text].items():
            if "exact" in found:
                shares = " ".join(f"{script} {share:.2f}" for script, share in list(found["exact"].items())[1:9])
                print(f"exact by script, {name}: {shares}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
