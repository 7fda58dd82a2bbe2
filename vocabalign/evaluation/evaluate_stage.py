"""The evaluate stage: models side by side on the same held-out text, with intervals, samples and speeds."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vocabalign.artifacts import stage_artifact
from vocabalign.errors import ConfigError, CorpusError, ModelError
from vocabalign.evaluation.bits_per_byte import DocumentScores, embedding_rows, score_documents, start_token
from vocabalign.evaluation.generation import default_prompt, write_sample
from vocabalign.evaluation.statistics import bootstrap_interval, paired_difference
from vocabalign.manifests import write_json
from vocabalign.models import load_model, pick_device, pick_dtype, read_model_config, resolve
from vocabalign.progress import logger
from vocabalign.stages import EvaluateConfig
from vocabalign.text.compression import encode_documents, measure_compression


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured: ``metrics`` as in metrics.json, and each model's scores by document."""

    metrics: dict[str, Any]
    scores: dict[str, DocumentScores]


def run(config: EvaluateConfig) -> Path:
    """Score the models and write ``metrics.json`` and ``documents.jsonl``.

    Raises:
        ConfigError: no models are given.
        CorpusError: the text cannot be read or is empty.
        ModelError: a folder is not a model, or its scores are not numbers.
        TokenizerError: a model's tokenizer cannot be loaded.
        ArtifactError: the output folder is in the way.
    """
    with stage_artifact("evaluate", config) as artifact:
        evaluation = measure_configured(config)
        metrics = evaluation.metrics
        write_json(artifact.folder / "metrics.json", metrics)
        _write_documents(artifact.folder / "documents.jsonl", evaluation.scores)
        artifact.metrics.update({f"bits_per_byte.{row['name']}": row["bits_per_byte"] for row in metrics["models"]})
    return artifact.out


def measure_configured(config: EvaluateConfig) -> Evaluation:
    """``measure`` with a stage's configuration; writes nothing. Raises what ``run`` raises."""
    from vocabalign.text.corpus import read_texts

    evaluation = measure(
        config.models,
        list(read_texts(config.corpus, max_bytes=config.max_bytes)),
        window=config.window,
        batch_size=config.batch_size,
        prompt=config.prompt,
        sample_tokens=config.sample_tokens,
        device=config.device,
        dtype=config.dtype,
        seed=config.seed,
    )
    evaluation.metrics["corpus"] = {"paths": config.corpus, **evaluation.metrics["corpus"]}
    return evaluation


def evaluate_models(models: Mapping[str, str], texts: Sequence[str], **options: Any) -> list[dict[str, Any]]:
    """One record for each model, as in ``metrics.json``; options as in ``measure``.

    Example:
        >>> rows = evaluate_models({"source": "run/source", "adapted": "run/finetuned"}, texts)
        >>> [(row["name"], row["bits_per_byte"]) for row in rows]
    """
    return measure(models, texts, **options).metrics["models"]


def measure(
    models: Mapping[str, str],
    texts: Sequence[str],
    *,
    window: int = 512,
    batch_size: int = 16,
    prompt: str | None = None,
    sample_tokens: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> Evaluation:
    """Score models on the same documents, one model in memory at a time.

    Args:
        models: name -> model folder, or ``demo:source`` / ``demo:teacher``; the first is what the
            others are compared with.
        texts: N held-out documents; empty ones are left out.
        window: tokens in a window, at most the model's context; windows advance by half.
        batch_size: windows in one forward pass.
        prompt: each model goes on from this; by default from the start of the first document.
        sample_tokens: tokens of each sample; 0 leaves samples out.
        device: where the models run.
        dtype: arithmetic of the forward passes; log-probabilities are float32 whatever it is.
        seed: of the bootstrap.

    Raises:
        ConfigError: no models are given.
        CorpusError: there is no text.
        ModelError: a folder is not a model, or its scores are not numbers.
        TokenizerError: a model's tokenizer cannot be loaded.
    """
    if not models:
        raise ConfigError("There are no models to evaluate: name at least one folder.")
    documents = [text for text in texts if text]
    if not documents:
        raise CorpusError("There is no text to score: the corpus is empty; give at least one document.")
    for reference in models.values():  # all of them before the first is scored
        read_model_config(resolve(reference))
    prompt = default_prompt(documents[0]) if prompt is None else prompt
    rows: list[dict[str, Any]] = []
    scores: dict[str, DocumentScores] = {}
    for name, reference in models.items():
        row, scores[name] = _measure_model(
            name, reference, documents, window=window, batch_size=batch_size, prompt=prompt,
            sample_tokens=sample_tokens, device=device, dtype=dtype, seed=seed,
        )  # fmt: skip
        rows.append(row)
        logger.info("%s: %.4f bits per byte (%.1f s)", name, row["bits_per_byte"], row["scoring_seconds"])
    first, *others = scores
    metrics = {
        "models": rows,
        "comparisons": [_compare(first, other, scores, seed) for other in others],
        "corpus": {"documents": len(documents), "bytes": int(scores[first].num_bytes.sum())},
        "prompt": prompt,
        "window_tokens": window,
        "stride": "half a window",
        "interval": "95 %, bootstrap over documents",
    }
    return Evaluation(metrics, scores)


def _measure_model(
    name: str,
    reference: str,
    texts: Sequence[str],
    *,
    window: int,
    batch_size: int,
    prompt: str,
    sample_tokens: int,
    device: str,
    dtype: str,
    seed: int,
) -> tuple[dict[str, Any], DocumentScores]:
    """One model's record and scores by document."""
    from vocabalign.text.tokenizers import load_vocabulary

    place = pick_device(device)
    folder = resolve(reference)
    vocabulary = load_vocabulary(folder)
    model = load_model(folder, dtype=pick_dtype(dtype, place), device=place)
    ids = encode_documents(vocabulary, texts)
    sizes = [len(text.encode()) for text in texts]
    started = time.perf_counter()
    try:
        scores = score_documents(
            model, ids, sizes, start_id=start_token(vocabulary.roles), window=window, batch_size=batch_size,
            description=f"Scoring {name}",
        )  # fmt: skip
    except ModelError as error:
        raise ModelError(f"{folder} ('{name}') cannot be scored. {error}") from error
    seconds = time.perf_counter() - started
    interval = bootstrap_interval(scores, seed=seed)
    compression = measure_compression(vocabulary, texts, ids)
    row: dict[str, Any] = {
        "name": name,
        "path": str(reference),
        "bits_per_byte": interval.value,
        "bits_per_byte_low": interval.low,
        "bits_per_byte_high": interval.high,
        "tokens_per_kilobyte": compression.tokens_per_kilobyte,
        "bytes_per_token": compression.bytes_per_token,
        "byte_fallback_share": compression.byte_fallback_share,
        "unknown_share": compression.unknown_share,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary_size": len(vocabulary),
        "embedding_rows": embedding_rows(model),
        "bytes": compression.bytes,
        "tokens": compression.tokens,
        "documents": compression.documents,
        "scoring_seconds": round(seconds, 3),
        "scoring_bytes_per_second": compression.bytes / seconds,
    }
    if sample_tokens:
        sample = dataclasses.asdict(write_sample(model, vocabulary, prompt, sample_tokens))
        row["sample"] = sample.pop("text")
        row.update({f"sample_{key}": value for key, value in sample.items()})
    return row, scores


def _compare(first: str, other: str, scores: Mapping[str, DocumentScores], seed: int) -> dict[str, Any]:
    """The paired difference other - first as a record."""
    paired = paired_difference(scores[first], scores[other], seed=seed)
    return {
        "name": other,
        "against": first,
        "bits_per_byte_difference": paired.difference.value,
        "bits_per_byte_difference_low": paired.difference.low,
        "bits_per_byte_difference_high": paired.difference.high,
        "documents_better": paired.documents_better,
        "documents_worse": paired.documents_worse,
    }


def _write_documents(path: Path, scores: Mapping[str, DocumentScores]) -> None:
    """One line a document: its bytes, and each model's nats and tokens."""
    sizes = next(iter(scores.values())).num_bytes
    with path.open("w", encoding="utf-8") as file:
        for i, size in enumerate(sizes.tolist()):
            nats = {name: float(score.nats[i]) for name, score in scores.items()}
            tokens = {name: int(score.num_tokens[i]) for name, score in scores.items()}
            file.write(json.dumps({"document": i, "bytes": size, "nats": nats, "tokens": tokens}) + "\n")
