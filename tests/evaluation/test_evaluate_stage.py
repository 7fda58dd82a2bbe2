"""The evaluate stage as a user calls it, and against the scorer of the issues."""

from __future__ import annotations

import importlib.util
import io
import json

import pytest
import torch

from vocabalign.errors import ConfigError, CorpusError, ModelError
from vocabalign.evaluation.evaluate_stage import run
from vocabalign.evaluation.measuring import evaluate_models, measure
from vocabalign.evaluation.table import format_score, format_table, shorten
from vocabalign.stages import EvaluateConfig


@pytest.fixture(scope="module")
def artefact(tmp_path_factory, tiny_llama, corpus_file):
    out = tmp_path_factory.mktemp("evaluate") / "metrics"
    models = {"source": str(tiny_llama), "again": str(tiny_llama)}
    config = EvaluateConfig(out=out, models=models, corpus=[str(corpus_file)], max_bytes=3000, sample_tokens=8)
    assert run(config) == out.absolute()
    return out


def test_metrics(artefact, tiny_llama):
    metrics = json.loads((artefact / "metrics.json").read_text())
    first, second = metrics["models"]
    assert [first["name"], second["name"]] == ["source", "again"]
    assert first["path"] == str(tiny_llama)
    assert first["bits_per_byte_low"] <= first["bits_per_byte"] <= first["bits_per_byte_high"]
    assert first["bits_per_byte"] == second["bits_per_byte"]
    assert first["vocabulary_size"] == first["embedding_rows"] == 400
    assert first["tokens_per_kilobyte"] == pytest.approx(first["tokens"] * 1000 / first["bytes"])
    assert isinstance(first["sample"], str)
    assert first["sample_tokens"] <= 8
    assert metrics["comparisons"][0]["bits_per_byte_difference"] == 0
    assert metrics["corpus"]["documents"] == first["documents"]
    assert metrics["prompt"]


def test_documents_add_up(artefact):
    metrics = json.loads((artefact / "metrics.json").read_text())["models"][0]
    rows = [json.loads(line) for line in (artefact / "documents.jsonl").read_text().splitlines()]
    assert sum(row["bytes"] for row in rows) == metrics["bytes"]
    assert sum(row["tokens"]["source"] for row in rows) == metrics["tokens"]
    bits = sum(row["nats"]["source"] for row in rows) / 0.6931471805599453
    assert bits / metrics["bytes"] == pytest.approx(metrics["bits_per_byte"], rel=1e-9)


def test_nothing_to_do_is_told(tiny_llama):
    with pytest.raises(ConfigError, match="no models"):
        evaluate_models({}, ["text"])
    with pytest.raises(CorpusError, match="no text"):
        evaluate_models({"a": str(tiny_llama)}, ["", ""])


def test_all_models_are_looked_at_before_the_first_is_scored(tiny_llama, tmp_path, monkeypatch):
    scored = []
    monkeypatch.setattr("vocabalign.evaluation.measuring._measure_model", lambda *a, **k: scored.append(a))
    (tmp_path / "empty").mkdir()
    for bad in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(ModelError, match=bad.name):
            evaluate_models({"a": str(tiny_llama), "b": str(bad)}, ["text"])
    assert scored == []


def test_prompt_and_no_sample(tiny_llama, texts):
    evaluation = measure({"a": str(tiny_llama)}, texts, prompt="Hello", sample_tokens=0)
    assert evaluation.metrics["prompt"] == "Hello"
    assert "sample" not in evaluation.metrics["models"][0]
    assert evaluation.metrics["comparisons"] == []


def test_table_shows_markup_and_control_characters_as_text(artefact):
    from rich.console import Console

    metrics = json.loads((artefact / "metrics.json").read_text())
    metrics["models"][0]["sample"] = "[bold]x[/bold]\n\x1b[31m\u202e"
    console = Console(file=io.StringIO(), width=120)
    console.print(format_table(metrics))
    text = console.file.getvalue()
    assert "[bold]x[/bold]\\n\\x1b[31m\\u202e" in text
    assert format_score(metrics["models"][0]) in text


def test_shorten():
    assert shorten("abcdef", 4) == "abc\N{HORIZONTAL ELLIPSIS}"
    assert shorten("a\tb", 10) == "a\\tb"
    assert format_score({"bits_per_byte": 1.0}) == "1.0000"


def score_module(material):
    path = material.parent / "tools" / "score.py"
    if not path.is_file():
        pytest.skip("score.py is not beside the material")
    specification = importlib.util.spec_from_file_location("score", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["stories260K-hf", "tlm-833K-hf"])
def test_equals_the_scorer_of_the_issues(material, name):
    torch.set_num_threads(1)
    scorer = score_module(material)
    documents = scorer.read(str(material / "corpora/tinystories/heldout.jsonl"))[:5]
    folder = str(material / "models" / name)
    expected = scorer.score(folder, documents)
    row = evaluate_models({name: folder}, documents, sample_tokens=0, batch_size=3)[0]
    assert row["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], abs=6e-5)
    assert (row["bytes"], row["tokens"]) == (expected["bytes"], expected["tokens"])


@pytest.mark.slow
def test_known_score_of_stories260k(material):
    documents = score_module(material).read(str(material / "corpora/tinystories/heldout.jsonl"))
    row = evaluate_models({"a": str(material / "models/stories260K-hf")}, documents, sample_tokens=32)[0]
    assert row["bits_per_byte"] == pytest.approx(1.006, abs=1e-3)
    assert row["sample_unknown_tokens"] == 0
