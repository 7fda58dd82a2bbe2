"""Models side by side on the same held-out text, one model in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vocabalign.errors import ConfigError, CorpusError, ModelError
from vocabalign.evaluation.bits_per_byte import DocumentScores, embedding_rows, score_documents, start_token
from vocabalign.evaluation.cost import add_costs, check_prices
from vocabalign.evaluation.generation import pick_prompts, sample_record, write_sample
from vocabalign.evaluation.options import MeasureOptions, Place, Subject, Text
from vocabalign.evaluation.records import comparison_records, group_records, score_record
from vocabalign.models import load_model, pick_device, pick_dtype, read_model_config, resolve
from vocabalign.progress import logger
from vocabalign.text.compression import Compression, encode_documents, measure_compression
from vocabalign.text.heldout_text import Labels
from vocabalign.text.vocabulary import Vocabulary

Measure = Callable[[Subject], dict[str, Any]]


@dataclass(frozen=True)
class Evaluation:
    """What was measured: ``metrics`` as in metrics.json, each model's scores by document, and the documents' labels."""

    metrics: dict[str, Any]
    scores: dict[str, DocumentScores]
    labels: Labels


@dataclass(frozen=True, eq=False)
class _Measured:
    """What stays of a model when the next one is loaded."""

    row: dict[str, Any]
    scores: DocumentScores
    vocabulary: Vocabulary


def measure(
    models: Mapping[str, str], texts: Sequence[str], *, labels: Labels | None = None, **options: Any
) -> Evaluation:
    """Score models on the same documents.

    Args:
        models: name -> model folder, or ``demo:source`` / ``demo:teacher``; the first is what the
            others are compared with.
        texts: N held-out documents; empty ones are left out.
        labels: "domain" and "language" -> N names, where they are known.
        options: as in ``MeasureOptions``.

    Raises:
        ConfigError: no models are given, or options that do not go together.
        CorpusError: there is no text.
        ModelError: a folder is not a model, or its scores are not numbers.
        TokenizerError: a model's tokenizer cannot be loaded.
        ArtifactError: the lexicon cannot be read.

    Example:
        >>> rows = measure({"source": "run/source", "adapted": "run/finetuned"}, texts).metrics["models"]
        >>> [(row["name"], row["bits_per_byte"]) for row in rows]
    """
    settings = MeasureOptions(**options)
    text = _text_of(texts, labels or {}, settings)
    _check_models(models, settings)
    device = pick_device(settings.device)
    place = Place(device, pick_dtype(settings.dtype, device))
    measures = [make(settings, text, place, models) for option, make in MEASURES.items() if getattr(settings, option)]
    measured: dict[str, _Measured] = {}
    for name, reference in models.items():
        measured[name] = _measure_model(name, reference, text, settings, place, measures)
        row = measured[name].row
        logger.info("%s: %.4f bits per byte (%.1f s)", name, row["bits_per_byte"], row["scoring_seconds"])
    metrics = _summary(measured, text, settings)
    if settings.lexicon:
        from vocabalign.evaluation.alignment import score_alignment

        known = [one.vocabulary for one in measured.values()]
        metrics["alignment"] = score_alignment(settings.lexicon, known, text, settings.encoder, place)
    return Evaluation(metrics, {name: one.scores for name, one in measured.items()}, text.labels)


def _text_of(texts: Sequence[str], labels: Labels, settings: MeasureOptions) -> Text:
    kept = [i for i, text in enumerate(texts) if text]
    if not kept:
        raise CorpusError("There is no text to score: the corpus is empty; give at least one document.")
    documents = [texts[i] for i in kept]
    names = {kind: [values[i] for i in kept] for kind, values in labels.items()}
    prompts = settings.prompts or pick_prompts(documents, names.get("domain", []), settings.num_prompts)
    return Text(documents, names, prompts)


def _check_models(models: Mapping[str, str], settings: MeasureOptions) -> None:
    """All folders before the first is scored."""
    if not models:
        raise ConfigError("There are no models to evaluate: name at least one folder.")
    check_prices(settings.price_per_million_tokens, list(models))
    for reference in (*models.values(), settings.teacher, settings.draft_for):
        if reference:
            read_model_config(resolve(reference))


def _measure_model(
    name: str, reference: str, text: Text, settings: MeasureOptions, place: Place, measures: Sequence[Measure]
) -> _Measured:
    """One model's record and scores by document."""
    from vocabalign.text.tokenizers import load_vocabulary

    folder = resolve(reference)
    vocabulary = load_vocabulary(folder)
    model = load_model(folder, dtype=place.dtype, device=place.device)
    subject = Subject(name, folder, model, vocabulary, encode_documents(vocabulary, text.documents))
    scores, seconds = _score(subject, text, settings)
    compression = measure_compression(vocabulary, text.documents, subject.ids)
    row: dict[str, Any] = {
        "name": name,
        "path": str(reference),
        **score_record(scores),
        **_compression_record(compression),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary_size": len(vocabulary),
        "embedding_rows": embedding_rows(model),
        "scoring_seconds": round(seconds, 3),
        "scoring_bytes_per_second": compression.bytes / seconds,
    }
    if settings.sample_tokens:
        samples = [write_sample(model, vocabulary, prompt, settings.sample_tokens) for prompt in text.prompts]
        row.update(sample_record(samples, text.prompts))
    for one in measures:
        row.update(one(subject))
    return _Measured(row, scores, vocabulary)


def _score(subject: Subject, text: Text, settings: MeasureOptions) -> tuple[DocumentScores, float]:
    """Scores by document, and how many seconds they took."""
    sizes = [len(document.encode()) for document in text.documents]
    started = time.perf_counter()
    try:
        scores = score_documents(
            subject.model, subject.ids, sizes, start_id=start_token(subject.vocabulary.roles), window=settings.window,
            batch_size=settings.batch_size, description=f"Scoring {subject.name}",
        )  # fmt: skip
    except ModelError as error:
        raise ModelError(f"{subject.folder} ('{subject.name}') cannot be scored. {error}") from error
    return scores, time.perf_counter() - started


def _compression_record(compression: Compression) -> dict[str, Any]:
    return {
        "tokens_per_kilobyte": compression.tokens_per_kilobyte,
        "bytes_per_token": compression.bytes_per_token,
        "byte_fallback_share": compression.byte_fallback_share,
        "unknown_share": compression.unknown_share,
        "bytes": compression.bytes,
        "tokens": compression.tokens,
        "documents": compression.documents,
    }


def _summary(measured: Mapping[str, _Measured], text: Text, settings: MeasureOptions) -> dict[str, Any]:
    """metrics.json: all models, what they are beside each other, and how it was measured."""
    scores = {name: one.scores for name, one in measured.items()}
    rows = [one.row for one in measured.values()]
    first = next(iter(measured))
    comparisons = comparison_records(rows, scores, settings.seed)
    group_records(rows, scores, text.labels, comparisons, settings.seed)
    add_costs(rows, settings.price_per_million_tokens)
    return {
        "models": rows,
        **comparisons,
        "corpus": {"documents": len(text.documents), "bytes": int(np.sum(scores[first].num_bytes))},
        "prompt": text.prompts[0],
        "prompts": list(text.prompts),
        "window_tokens": settings.window,
        "stride": "half a window",
        "interval": "95 %, bootstrap over documents",
        "normalised_perplexity_tokenizer": first,
    }


def _teacher(settings: MeasureOptions, text: Text, place: Place, models: Mapping[str, str]) -> Measure:
    from vocabalign.evaluation.teacher import TeacherComparison

    return TeacherComparison(str(settings.teacher), text.documents, place, window=settings.window)


def _draft(settings: MeasureOptions, text: Text, place: Place, models: Mapping[str, str]) -> Measure:
    from vocabalign.evaluation.drafting import DraftTrial

    tokens = settings.sample_tokens or MeasureOptions.sample_tokens
    return DraftTrial(str(settings.draft_for), text.prompts, place, tokens, settings.draft_tokens)


def _tasks(settings: MeasureOptions, text: Text, place: Place, models: Mapping[str, str]) -> Measure:
    from vocabalign.evaluation.tasks import TaskRun

    return TaskRun(settings, next(iter(models.values())), place)


MEASURES: dict[str, Callable[[MeasureOptions, Text, Place, Mapping[str, str]], Measure]] = {
    "teacher": _teacher,
    "draft_for": _draft,
    "tasks": _tasks,
}
"""Measures that cost time, by the option that asks for them; each is made once and then sees every model."""
