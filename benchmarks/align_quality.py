"""How good the lexicons of ``tokalign``, ``tokalign++`` and ``auto`` are, on pairs of real vocabularies.

python benchmarks/align_quality.py --pairs stories3M:llama2 stories260K:stories3M     # minutes on one core
python benchmarks/align_quality.py --pairs pythia-neox:llama2 --max-bytes 400000

All ways are given the same token embeddings. BLEU-1 both ways, exact coverage of running tokens and hubs are of
held-out text; BLEU-1 also by the script that most letters of a document are in. Known-pair precision is of the
distributional layer alone: a fifth of the shared tokens is hidden from the map and looked for among all source tokens
that have a vector, so neither their bytes nor spans nor segmentation help; by how common the token is, in thirds.
``strings`` and ``bytes`` say what counts as shared: the raw string, as in the papers, or the bytes. Exact coverage is
the share of running tokens whose best source token has the same bytes. The ablation is in ``align_ablation.py``, built
cases in ``align_cases.py``.
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


def main_script(text: str) -> str:
    """The script that most letters of a text are in."""
    from collections import Counter

    from vocabalign.text.scripts import character_script

    found = Counter(script for script in map(character_script, text) if script)
    return found.most_common(1)[0][0] if found else "none"


def bleu_by_script(lexicon: Any, source: Any, target: Any, texts: list[str]) -> dict[str, dict[str, float]]:
    """BLEU-1 both ways of the documents of each script."""
    from vocabalign.alignment.scores import bleu1_both_ways

    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(main_script(text), []).append(text)
    return {script: bleu1_both_ways(lexicon, source, target, group) for script, group in sorted(groups.items())}


def measure(way: dict[str, Any], embedding: Any, seed: int, learned: dict[str, Any]) -> dict[str, Any]:
    """Align one way; token embeddings are learned once for a pair and kind."""
    from vocabalign.alignment.align_options import anchor_limit, match_options
    from vocabalign.alignment.align_stage import align_vocabularies
    from vocabalign.alignment.anchors import identical_source
    from vocabalign.alignment.matching import find_hidden_pairs, shared_vectors
    from vocabalign.alignment.scores import bleu1_both_ways, hub_statistics
    from vocabalign.errors import TooFewAnchorsError
    from vocabalign.stages import AlignConfig

    source, target, texts, heldout = learned["source"], learned["target"], learned["texts"], learned["heldout"]
    given = embeddings_of(embedding, seed, learned)
    places = {"source": "-", "target": "-", "corpus": [], "out": Path("-")}
    config = AlignConfig(**places, embeddings=embedding, device="cpu", seed=seed, **way)
    started = time.perf_counter()
    try:
        result = align_vocabularies(source, target, texts, config, given=given)
    except TooFewAnchorsError as error:
        return {"refused": str(error)}
    seconds = time.perf_counter() - started
    known = {name: value for name, value in result.scores.items() if name.startswith("known_pair")}
    if config.anchors == "strings":
        # What is hidden is the same for every way: tokens shared by bytes.
        shared, used = (shared_vectors(identical_source(source, target, kind), *given) for kind in ("bytes", "strings"))
        limit = anchor_limit(config)
        hidden = find_hidden_pairs(*given, shared, match_options(config), seed, limit, used)
        known = hidden.precision(given[1].counts) if hidden else {}
    return {
        **bleu1_both_ways(result.lexicon, source, target, heldout),
        "by_script": bleu_by_script(result.lexicon, source, target, heldout),
        "exact": exact_by_script(result.lexicon, source, target, heldout),
        **hub_statistics(result.lexicon),
        **known,
        "anchors": result.scores["anchors"],
        "weighing": result.scores.get("weighing"),
        "seconds": seconds,
    }


def embeddings_of(embedding: Any, seed: int, learned: dict[str, Any]) -> tuple[Any, Any]:
    """Token embeddings of both sides, of as many dimensions as half the anchors; learned once."""
    from vocabalign.alignment.anchors import identical_source
    from vocabalign.alignment.embeddings import learn_token_embeddings

    shared = int((identical_source(learned["source"], learned["target"], "bytes") >= 0).sum())
    fitting = embedding.model_copy(update={"dimensions": min(embedding.dimensions, max(16, shared // 6))})
    key = fitting.model_dump_json()
    if key not in learned:
        sides = (learned["source"], learned["target"])
        started = time.perf_counter()
        learned[key] = tuple(learn_token_embeddings(side, learned["texts"], fitting, seed) for side in sides)
        print(f"{fitting.method}, {fitting.dimensions} dimensions: {time.perf_counter() - started:.0f} s", flush=True)
    return learned[key]


def load_pair(text: str, root: Path, max_bytes: int, heldout_bytes: int) -> dict[str, Any]:
    """Vocabularies and texts of ``SOURCE:TARGET``."""
    from vocabalign.text.tokenizers import load_vocabulary

    names = (text.split(":")[0], text.split(":")[1])
    texts, heldout = corpus_of(names, root / "corpora", max_bytes, heldout_bytes)
    source, target = (load_vocabulary(root / PLACES.get(name, f"tokenizers/{name}")) for name in names)
    return {"source": source, "target": target, "texts": texts, "heldout": heldout}


HEADER = f"{'':26s}{'BLEU t>s':>9s}{'s>t':>7s}{'exact':>7s}{'hubs':>7s}{'P@1':>7s}{'P@5':>7s}  P@1 | P@5 by frequency"


def row(name: str, found: dict[str, Any]) -> str:
    """One line of the table."""
    if "refused" in found:
        return f"{name:26s}{found['refused']}"
    thirds = " | ".join(
        " ".join(f"{share:.2f}" for share in found.get(f"known_pair_precision_at_{k}_by_frequency", [])) for k in (1, 5)
    )
    numbers = (
        found["bleu1_target_to_source"],
        found["bleu1_source_to_target"],
        found["exact"]["all"],
        found["hub_share_top3"],
        found.get("known_pair_precision_at_1", float("nan")),
        found.get("known_pair_precision_at_5", float("nan")),
    )
    cells = "".join(f"{number:{9 if i == 0 else 7}.3f}" for i, number in enumerate(numbers))
    return f"{name:26s}{cells}  {thirds:32s}{found['anchors']:7,} anchors {found['seconds']:6.0f} s"


def parse(description: str | None) -> argparse.ArgumentParser:
    """Arguments that both quality scripts have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, default=os.environ.get("VOCABALIGN_MATERIAL"))
    parser.add_argument("--max-bytes", type=int, default=400_000, help="Text that embeddings and spans see.")
    parser.add_argument("--heldout-bytes", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="Write all figures there, by script too.")
    return parser


def main() -> None:
    """Print a table for each pair, and all figures as JSON if wished."""
    from vocabalign.stages import EmbeddingOptions

    parser = parse(__doc__)
    every = ["pythia-neox:llama2", "gpt2:qwen1.5", "llama2:gpt2", "stories260K:stories3M", "stories3M:llama2"]
    parser.add_argument("--pairs", nargs="+", default=every, metavar="SOURCE:TARGET")
    parser.add_argument("--embedding", default="ppmi", help="skip-gram, cbow, fasttext, glove, ppmi.")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_args()
    if options.material is None:
        parser.error("give --material, or set VOCABALIGN_MATERIAL")
    results: dict[str, Any] = {}
    embedding = EmbeddingOptions(method=options.embedding, dimensions=options.dimensions)
    for pair in options.pairs:
        learned = load_pair(pair, Path(options.material), options.max_bytes, options.heldout_bytes)
        size = sum(len(text.encode()) for text in learned["texts"])
        print(f"\n{pair.replace(':', ' -> ')}, {size:,} bytes of text\n{HEADER}", flush=True)
        for name in options.ways:
            results.setdefault(pair, {})[name] = found = measure(WAYS[name], embedding, options.seed, learned)
            print(row(name, found), flush=True)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
        compare(results[pair])


def compare(results: dict[str, dict[str, Any]]) -> None:
    """What ``auto`` gains over the best rival each way and by script, and what its evidence is worth."""
    from vocabalign.alignment.weighing_report import told

    ours = results.get("auto")
    rivals = {name: found for name, found in results.items() if name != "auto" and "refused" not in found}
    for way in ("bleu1_target_to_source", "bleu1_source_to_target"):
        if ours and rivals:
            name = max(rivals, key=lambda rival: rivals[rival][way])
            print(f"{way}: auto {ours[way]:.4f}, best rival {rivals[name][way]:.4f} ({name})")
            lost = {
                script: (round(values[way], 3), round(best, 3))
                for script, values in ours["by_script"].items()
                if script != "none"
                and values[way] <= (best := max(found["by_script"][script][way] for found in rivals.values()))
            }
            print(f"  scripts of {len(ours['by_script'])} in which auto is not ahead: {lost or 'none'}")
    for sentence in told(ours["weighing"]) if ours else []:
        print(f"  {sentence}")


if __name__ == "__main__":
    main()
