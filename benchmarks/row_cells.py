"""Cells of the tables of rows: a model made in one way, scored by document, kept so that reruns are cheap.

A cell is a file under ``build/rows``; its name holds a hash of the code that decides it, so that changed code is
measured again and nothing else is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.config import make_config
from vocabalign.evaluation.bits_per_byte import DocumentScores
from vocabalign.evaluation.measuring import measure
from vocabalign.models import read_model_config, resolve
from vocabalign.stages import STAGES, AlignConfig, CorpusConfig, EmbedConfig, TransplantConfig
from vocabalign.text.corpus import read_texts

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "rows"
MATERIAL = Path(os.environ.get("VOCABALIGN_MATERIAL", "material"))
MODELS = {"stories260K": "stories260K-hf", "stories3M": "stories3M-hf", "tlm-833K": "tlm-833K-hf"}
OURS_CODE = ("vocabalign/transplantation/*.py", "vocabalign/text/segmentation.py", "vocabalign/text/special_tokens.py")
RIVAL_CODE = (
    "vocabalign/transplantation/similarity_rows.py",
    "vocabalign/transplantation/dense_rows.py",
    "vocabalign/text/segmentation.py",
    "vocabalign/text/special_tokens.py",
    "benchmarks/rival_rows.py",
)
# As FOCUS learns them.
FASTTEXT = {"method": "fasttext", "dimensions": 100, "epochs": 3, "negative": 10, "min_count": 10}
GLOVE = {"method": "glove", "dimensions": 300, "window": 15, "epochs": 15, "x_max": 10, "min_count": 5}


@dataclass(frozen=True)
class Pair:
    """A source model and a target, such as ``stories260K:llama2`` or ``demo:pythia-neox``."""

    name: str

    @property
    def source_name(self) -> str:
        """Before the colon."""
        return self.name.split(":")[0]

    @property
    def source(self) -> str:
        """Model folder."""
        known = MODELS.get(self.source_name)
        return "demo:source" if known is None else str(MATERIAL / "models" / known)

    @property
    def owner(self) -> str | None:
        """Model folder that owns the target vocabulary."""
        name = MODELS.get(self.name.split(":")[1])
        return None if name is None else str(MATERIAL / "models" / name)

    @property
    def target(self) -> str:
        """Tokenizer folder."""
        return self.owner or str(MATERIAL / "tokenizers" / self.name.split(":")[1])

    @cached_property
    def tied(self) -> bool:
        """The source's embedding is its head."""
        return bool(read_model_config(resolve(self.source)).get("tie_word_embeddings"))

    def text(self, part: str) -> str:
        """``train`` or ``heldout``: stories, or for the demo model the standard library that it was kept from."""
        if self.source_name in MODELS:
            return str(MATERIAL / "corpora" / "tinystories" / f"{part}.jsonl")
        folder = BUILD / "standard-library"
        if not folder.exists():
            values = {"standard_library": True, "heldout_max_bytes": 100_000, "out": folder}
            STAGES["corpus"].run(make_config(CorpusConfig, values))
        return str(folder / f"{part}.jsonl")

    def made(self, stage: str, name: str, config: type, values: dict[str, Any]) -> str:
        """An artefact of this pair that several cells read."""
        out = BUILD / "artefacts" / self.name.replace(":", "-") / name
        if not out.exists():
            STAGES[stage].run(make_config(config, {**values, "out": out}))
        return str(out)

    def embeddings(self, side: str) -> str:
        """Token embeddings as FOCUS's authors learn them."""
        values = {"tokenizer": getattr(self, side), "corpus": [self.text("train")], "embeddings": FASTTEXT}
        return self.made("embed", f"{side}-vectors", EmbedConfig, values)

    def tokalign(self) -> str:
        """The lexicon of TokAlign++ as described: GloVe, VecMap from equal strings, CSLS, one-best."""
        values = {"source": self.source, "target": self.target, "corpus": [self.text("train")]}
        values |= {"method": "tokalign++", "anchors": "strings", "embeddings": GLOVE}
        return self.made("align", "tokalign", AlignConfig, values)


def code_hash(patterns: Sequence[str]) -> str:
    """Of the files that match."""
    digest = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def transplanted(pair: Pair, values: dict[str, Any], folder: Path) -> str:
    """A model by the ``transplant`` stage."""
    config = {"source": pair.source, "target": pair.target, "verify_full": False, **values, "out": folder / "model"}
    return str(STAGES["transplant"].run(make_config(TransplantConfig, config)))


def scored(
    place: Sequence[str], code: Sequence[str], make: Callable[[Path], str], text: str, fresh: bool = False
) -> DocumentScores:
    """Scores by document of the model that ``make`` writes into a folder; from the cell's file where there is one.

    Args:
        place: names of the cell: pair, text, method.
        code: patterns of the files that decide it.
        make: folder -> model folder.
        text: file of documents.
        fresh: measure it again.
    """
    path = BUILD.joinpath("cells", *(part.replace(":", "-").replace(" ", "-") for part in place))
    path = path.with_name(f"{path.name}-{code_hash(code)}.json")
    if path.exists() and not fresh:
        kept = json.loads(path.read_text())
        return DocumentScores(np.array(kept["nats"]), np.array(kept["num_bytes"]), np.array(kept["num_tokens"]))
    logging.getLogger("vocabalign").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="vocabalign-cell-") as temporary:
        model = make(Path(temporary))
        scores = measure({"model": model}, list(read_texts([text])), sample_tokens=0).scores["model"]
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {field.name: getattr(scores, field.name).tolist() for field in dataclasses.fields(scores)}
    path.write_text(json.dumps(kept))
    return scores
