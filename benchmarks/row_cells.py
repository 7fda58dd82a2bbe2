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
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rival_rows
import torch

from vocabalign.config import make_config
from vocabalign.evaluation.bits_per_byte import DocumentScores, score_documents, start_token
from vocabalign.evaluation.measuring import measure
from vocabalign.models import read_model_config, resolve
from vocabalign.stages import STAGES, AlignConfig, CorpusConfig, EmbedConfig, TransplantConfig
from vocabalign.text.compression import encode_documents
from vocabalign.text.corpus import read_texts
from vocabalign.token_embeddings import TokenEmbeddings

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "rows"
MATERIAL = Path(os.environ.get("VOCABALIGN_MATERIAL", "material"))
MODELS = {"stories260K": "stories260K-hf", "stories3M": "stories3M-hf", "tlm-833K": "tlm-833K-hf"}
OURS_CODE = ("vocabalign/transplantation/*.py", "vocabalign/text/segmentation.py", "vocabalign/text/special_tokens.py")
RIVAL_CODE = (
    "vocabalign/transplantation/similarity_rows.py",
    "vocabalign/transplantation/dense_rows.py",
    "vocabalign/transplantation/rows.py",
    "vocabalign/text/segmentation.py",
    "vocabalign/text/special_tokens.py",
)
SHIPPED_CODE = (*RIVAL_CODE, "benchmarks/rival_*.py")
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

    def vectors(self, side: str) -> np.ndarray:
        """(V, 100) token embeddings, learned with the sizes that FOCUS's authors take."""
        values = {"tokenizer": getattr(self, side), "corpus": [self.text("train")], "embeddings": FASTTEXT}
        return TokenEmbeddings.load(self.made("embed", f"{side}-vectors", EmbedConfig, values)).vectors

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
    place: Sequence[str], code: Sequence[str], score: Callable[[], DocumentScores], fresh: bool = False
) -> DocumentScores:
    """A cell's scores by document; from its file where there is one.

    Args:
        place: names of the cell: pair, text, method.
        code: patterns of the files that decide it.
        score: measures it.
        fresh: measure it again.
    """
    path = BUILD.joinpath("cells", *(part.replace(":", "-").replace(" ", "-") for part in place))
    path = path.with_name(f"{path.name}-{code_hash(code)}.json")
    if path.exists() and not fresh:
        kept = json.loads(path.read_text())
        return DocumentScores(np.array(kept["nats"]), np.array(kept["num_bytes"]), np.array(kept["num_tokens"]))
    logging.getLogger("vocabalign").setLevel(logging.WARNING)
    started = time.monotonic()
    scores = score()
    print(f"{' '.join(place)}: {scores.bits_per_byte:.4f} ({time.monotonic() - started:.0f} s)", file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {field.name: getattr(scores, field.name).tolist() for field in dataclasses.fields(scores)}
    path.write_text(json.dumps(kept))
    return scores


def score_model(make: Callable[[Path], str], text: str | Sequence[str]) -> DocumentScores:
    """Of the model that ``make`` writes into a folder, read back as users read it."""
    with tempfile.TemporaryDirectory(prefix="vocabalign-cell-") as temporary:
        return measure({"model": make(Path(temporary))}, documents_of(text), sample_tokens=0).scores["model"]


def score_matrices(pair: rival_rows.Pair, matrices: rival_rows.Matrices, text: str | Sequence[str]) -> DocumentScores:
    """Of the source with these matrices, in memory: what a folder with them would get."""
    model, vocabulary = pair.model, pair.vocabularies[1]
    model.get_input_embeddings().weight = torch.nn.Parameter(matrices[0], requires_grad=False)
    model.get_output_embeddings().weight = torch.nn.Parameter(matrices[1], requires_grad=False)
    texts = documents_of(text)
    ids, sizes = encode_documents(vocabulary, texts), [len(document.encode()) for document in texts]
    try:
        return score_documents(model, ids, sizes, start_id=start_token(vocabulary.roles))
    finally:
        del pair.__dict__["model"]


def documents_of(text: str | Sequence[str]) -> list[str]:
    """The documents of a file, or the documents themselves."""
    return list(read_texts([text])) if isinstance(text, str) else list(text)
