"""Bits per byte right after a transplant by lexicons of ``tokalign``, ``tokalign++`` and ``auto``, without training.

python benchmarks/align_transplants.py                                         # both pairs, all held-out documents
python benchmarks/align_transplants.py --pairs stories260K:stories3M --documents 10

The papers' lexicons are one-best copies of both rows, as published, and once more with the rows that ``transplant``
makes by default, counted on the training text: what of our lead is the lexicon's. ``auto`` is shown three times: its
best source token alone (like the papers), its weights as they are, and with the default rows. All lexicons are made
from the same text and token embeddings.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from align_quality import PLACES, WAYS, embeddings_of, load_pair

ONE_BEST = {"input_rows": "lexicon-one", "head_rows": "lexicon-one", "calibrate_head": False}
WEIGHED = {"input_rows": "lexicon", "head_rows": "lexicon", "calibrate_head": False}


def main() -> None:
    """Print a table a pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, default=os.environ.get("VOCABALIGN_MATERIAL"))
    parser.add_argument("--pairs", nargs="+", default=["stories260K:stories3M", "stories3M:llama2"])
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--max-bytes", type=int, default=600_000)
    parser.add_argument("--dimensions", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="Leave the models there, for another scorer.")
    options = parser.parse_args()
    if options.material is None:
        parser.error("give --material, or set VOCABALIGN_MATERIAL")
    for pair in options.pairs:
        with tempfile.TemporaryDirectory(prefix="vocabalign-benchmark-") as temporary:
            compare_pair(pair, options, options.keep / pair.replace(":", "-") if options.keep else Path(temporary))


def compare_pair(pair: str, options: argparse.Namespace, folder: Path) -> None:
    """Align in every way, transplant, and score all models on the same held-out documents."""
    from vocabalign.alignment.align_stage import align_vocabularies
    from vocabalign.api import transplant
    from vocabalign.config import make_config
    from vocabalign.stages import STAGES, AlignConfig, EmbeddingOptions, EvaluateConfig

    material = Path(options.material)
    source, target = (str(material / PLACES.get(name, f"tokenizers/{name}")) for name in pair.split(":"))
    learned = load_pair(pair, material, options.max_bytes, 1)
    embedding = EmbeddingOptions(method="ppmi", dimensions=options.dimensions)
    given = embeddings_of(embedding, 0, learned)
    folder.mkdir(parents=True, exist_ok=True)
    train, scored = folder / "train.jsonl", folder / "scored.jsonl"
    train.write_text("".join(json.dumps({"text": text}) + "\n" for text in learned["texts"]), encoding="utf-8")
    lines = (material / "corpora/tinystories/heldout.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    scored.write_text("".join(lines[: options.documents]), encoding="utf-8")
    models = {"source": source}
    places = {"source": "-", "target": "-", "corpus": [], "out": Path("-")}
    sides = (learned["source"], learned["target"])
    for name, way in WAYS.items():
        config = AlignConfig(**places, embeddings=embedding, device="cpu", **way)
        lexicon = align_vocabularies(*sides, learned["texts"], config, given=given).lexicon
        by_default = {"corpus": [str(train)]}
        made: dict[str, dict[str, Any]] = {name: ONE_BEST, f"{name}, rows by default": by_default}
        if name == "auto":
            made = {"auto, one-best": ONE_BEST, "auto, weighed": WEIGHED, "auto, rows by default": by_default}
        for label, rows in made.items():
            out = folder / label.replace(" ", "-").replace(",", "")
            models[label] = str(transplant(source=source, target=target, out=out, lexicon=lexicon, **rows))
    values = {
        "models": models,
        "corpus": [str(scored)],
        "max_bytes": None,
        "sample_tokens": 0,
        "out": folder / "scores",
    }
    out = STAGES["evaluate"].run(make_config(EvaluateConfig, values))
    found = {row["name"]: row["bits_per_byte"] for row in json.loads((out / "metrics.json").read_text())["models"]}
    print(f"\n{pair.replace(':', ' -> ')}, {options.documents} held-out documents")
    for name, score in found.items():
        print(f"  {name:24s}{score:8.4f} bits per byte", flush=True)


if __name__ == "__main__":
    main()
