"""Bits per byte right after a transplant, without any training: ours beside the rivals' ways of making rows.

python benchmarks/transplant_rows.py                       # every pair, all held-out documents
python benchmarks/transplant_rows.py --documents 25 --pairs stories260K:llama2 stories3M:llama2

Text, models and tokenizers are the material's (VOCABALIGN_MATERIAL). Rivals make their rows as they are published,
without counting; ours is ``auto`` with an own head (``--untie`` where the source is tied), counted on the training
text, and once more counted on text of another domain. The gap is bits per byte above the untouched source.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from vocabalign.config import make_config
from vocabalign.stages import STAGES, EvaluateConfig, TransplantConfig

MODELS = {"stories260K": "stories260K-hf", "stories3M": "stories3M-hf", "tlm-833K": "tlm-833K-hf"}
PAIRS = (
    "stories260K:tlm-833K",
    "stories260K:llama2",
    "tlm-833K:llama2",
    "stories3M:llama2",
    "stories3M:tinystories-bpe_16384",
    "stories3M:gpt2",
    "demo:llama2",
    "demo:pythia-neox",
)
RIVALS = {
    "transplant-vocab": {"input_rows": "last", "head_rows": "decay"},
    "FVT": {"input_rows": "fvt", "head_rows": "fvt"},
    "copy + mean": {"input_rows": "mean", "head_rows": "mean"},
    "FOCUS": {"input_rows": "focus", "head_rows": "focus"},
    "WECHSEL": {"input_rows": "wechsel", "head_rows": "wechsel"},
    "OMP": {"input_rows": "omp", "head_rows": "omp"},
}


def main() -> None:
    """Print one table a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS))
    parser.add_argument("--methods", nargs="+", default=None, help="only these rows of the table")
    arguments = parser.parse_args()
    material = Path(os.environ["VOCABALIGN_MATERIAL"])
    for pair in arguments.pairs:
        with tempfile.TemporaryDirectory(prefix="vocabalign-benchmark-") as temporary:
            compare_pair(pair, material, arguments.documents, Path(temporary), arguments.methods)


def compare_pair(pair: str, material: Path, documents: int, folder: Path, only: list[str] | None) -> None:
    """Transplant with every method and score all results on the same documents."""
    name, target_name = pair.split(":")
    source = "demo:source" if name == "demo" else str(material / "models" / MODELS[name])
    owner = material / "models" / MODELS[target_name] if target_name in MODELS else None
    target = owner or material / "tokenizers" / target_name
    train, heldout = (corpus(material, name, part, folder) for part in ("train", "heldout"))
    scored = folder / "scored.jsonl"
    scored.write_text("".join(heldout.read_text().splitlines(keepends=True)[:documents]))
    other = material / "corpora" / "wikitext-2" / "valid.txt"
    tied = (
        json.loads((Path(source) / "config.json").read_text()).get("tie_word_embeddings") if name != "demo" else False
    )
    ours = {"corpus": [str(train)], "untie": bool(tied)}
    methods = {
        "ours": ours,
        "ours, tied": {**ours, "untie": False} if tied else None,
        "ours, counts of wikitext-2": {**ours, "corpus": [str(other)]},
        "ours, no text": {"untie": bool(tied)},
    }
    methods |= {rival: {**rows, "calibrate_head": False, "untie": bool(tied)} for rival, rows in RIVALS.items()}
    embeddings = None
    models = {"source": source}
    for method, fields in methods.items():
        if fields is None or (only and method not in only):
            continue
        if method == "OMP":
            if owner is None:
                continue
            fields = {**fields, "target_model": str(owner)}
        if method in ("FOCUS", "WECHSEL"):
            embeddings = embeddings or embed(source, str(target), str(train), folder)
            fields = {**fields, **embeddings}
        values = {"source": source, "target": str(target), "out": folder / method.replace(" ", "-"), **fields}
        models[method] = str(STAGES["transplant"].run(make_config(TransplantConfig, values)))
    values = {"models": models, "corpus": [str(scored)], "max_bytes": None, "sample_tokens": 0, "out": folder / "m"}
    out = STAGES["evaluate"].run(make_config(EvaluateConfig, values))
    show(pair, {row["name"]: row["bits_per_byte"] for row in json.loads((out / "metrics.json").read_text())["models"]})


def show(pair: str, scores: dict[str, float]) -> None:
    """A pair's table; the ratio is our gap over the best rival's."""
    untouched = scores["source"]
    rivals = [scores[name] - untouched for name in RIVALS if name in scores]
    print(f"\n{pair}: untouched source {untouched:.4f}")
    for name, score in scores.items():
        if name != "source":
            gap = score - untouched
            ratio = f"  {gap / min(rivals):5.2f} of the best rival's" if rivals and name not in RIVALS else ""
            print(f"  {name:<28}{score:8.4f}  gap {gap:7.4f}{ratio}", flush=True)


def embed(source: str, target: str, corpus: str, folder: Path) -> dict[str, str]:
    """Token embeddings as FOCUS learns them: fastText-like CBOW, D = 100, 3 epochs, 10 negatives."""
    options = {"method": "fasttext", "dimensions": 100, "epochs": 3, "negative": 10, "min_count": 1}
    made = {}
    for side, tokenizer in (("source", source), ("target", target)):
        values = {"tokenizer": tokenizer, "corpus": [corpus], "embeddings": options, "out": folder / f"{side}-vectors"}
        made[f"{side}_embeddings"] = str(STAGES["embed"].run(make_config(STAGES["embed"].config_class, values)))
    return made


def corpus(material: Path, name: str, part: str, folder: Path) -> Path:
    """Text that the source knows: stories, or the standard library for the demo model."""
    if name != "demo":
        return material / "corpora" / "tinystories" / f"{part}.jsonl"
    if not (folder / "text").exists():
        values = {
            "standard_library": True,
            "max_bytes": 3_000_000,
            "heldout_max_bytes": 150_000,
            "out": folder / "text",
        }
        STAGES["corpus"].run(make_config(STAGES["corpus"].config_class, values))
    return folder / "text" / f"{part}.jsonl"


if __name__ == "__main__":
    main()
