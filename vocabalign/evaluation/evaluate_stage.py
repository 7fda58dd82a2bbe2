"""The evaluate stage: models side by side on the same held-out text, with intervals, samples and speeds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from vocabalign.artifacts import stage_artifact
from vocabalign.evaluation.measuring import Evaluation, measure
from vocabalign.evaluation.options import MeasureOptions
from vocabalign.manifests import write_json
from vocabalign.stages import EvaluateConfig
from vocabalign.text.heldout_text import read_heldout


def run(config: EvaluateConfig) -> Path:
    """Score the models and write ``metrics.json`` and ``documents.jsonl``.

    Raises:
        ConfigError: no models are given, or settings that do not go together.
        CorpusError: the text cannot be read or is empty.
        ModelError: a folder is not a model, or its scores are not numbers.
        TokenizerError: a model's tokenizer cannot be loaded.
        ArtifactError: the output folder is in the way, or the lexicon cannot be read.
    """
    with stage_artifact("evaluate", config) as artifact:
        evaluation = measure_configured(config)
        metrics = evaluation.metrics
        write_json(artifact.folder / "metrics.json", metrics)
        _write_documents(artifact.folder / "documents.jsonl", evaluation)
        artifact.metrics.update({f"bits_per_byte.{row['name']}": row["bits_per_byte"] for row in metrics["models"]})
    return artifact.out


def measure_configured(config: EvaluateConfig) -> Evaluation:
    """``measure`` with a stage's configuration; writes nothing. Raises what ``run`` raises."""
    text = read_heldout(config.corpus, config.max_bytes)
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(MeasureOptions)}
    evaluation = measure(config.models, text.texts, labels=text.labels, **options)
    evaluation.metrics["corpus"] = {"paths": config.corpus, **evaluation.metrics["corpus"]}
    return evaluation


def _write_documents(path: Path, evaluation: Evaluation) -> None:
    """One line a document: its bytes and labels, and each model's nats and tokens."""
    scores = evaluation.scores
    sizes = next(iter(scores.values())).num_bytes
    with path.open("w", encoding="utf-8") as file:
        for i, size in enumerate(sizes.tolist()):
            known = {kind: names[i] for kind, names in evaluation.labels.items() if names[i] is not None}
            nats = {name: float(score.nats[i]) for name, score in scores.items()}
            tokens = {name: int(score.num_tokens[i]) for name, score in scores.items()}
            record = {"document": i, "bytes": size, **known, "nats": nats, "tokens": tokens}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
