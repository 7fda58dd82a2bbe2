"""The evaluate stage as a user calls it, and against the scorer of the issues."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

from vocabalign.cli import run as cli_run
from vocabalign.errors import ConfigError, CorpusError, ModelError
from vocabalign.evaluation.evaluate_stage import run
from vocabalign.evaluation.measuring import measure
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
        measure({}, ["text"])
    with pytest.raises(CorpusError, match="no text"):
        measure({"a": str(tiny_llama)}, ["", ""])


def test_all_models_are_looked_at_before_the_first_is_scored(tiny_llama, tmp_path, monkeypatch):
    scored = []
    monkeypatch.setattr("vocabalign.evaluation.measuring._measure_model", lambda *a, **k: scored.append(a))
    (tmp_path / "empty").mkdir()
    for bad in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(ModelError, match=bad.name):
            measure({"a": str(tiny_llama), "b": str(bad)}, ["text"])
    assert scored == []


def test_prompt_and_no_sample(tiny_llama, texts):
    evaluation = measure({"a": str(tiny_llama)}, texts, prompt="Hello", sample_tokens=0)
    assert evaluation.metrics["prompt"] == "Hello"
    assert "sample" not in evaluation.metrics["models"][0]
    assert evaluation.metrics["comparisons"] == []


def score_module(material):
    path = material.parent / "tools" / "score.py"
    if not path.is_file():
        pytest.skip("score.py is not beside the material")
    specification = importlib.util.spec_from_file_location("score", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["stories260K-hf", "tlm-833K-hf", "stories3M-hf"])
def test_equals_the_independent_scorer(material, name):
    torch.set_num_threads(1)
    scorer = score_module(material)
    documents = scorer.read(str(material / "corpora/tinystories/heldout.jsonl"))[:4]
    # Another language: byte fallback, and documents of many windows.
    documents.append((material / "corpora/tinystories-ru/heldout.jsonl").read_text().partition("\n")[0][:2000])
    documents = documents[: -1 if name.startswith("tlm") else None]
    folder = str(material / "models" / name)
    expected = scorer.score(folder, documents)
    row = measure({name: folder}, documents, sample_tokens=0, batch_size=3).metrics["models"][0]
    assert row["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], abs=6e-5)
    assert (row["bytes"], row["tokens"]) == (expected["bytes"], expected["tokens"])


@pytest.mark.slow
def test_known_score_of_stories260k(material):
    documents = score_module(material).read(str(material / "corpora/tinystories/heldout.jsonl"))
    models = {"a": str(material / "models/stories260K-hf")}
    row = measure(models, documents, sample_tokens=32).metrics["models"][0]
    assert row["bits_per_byte"] == pytest.approx(1.006, abs=1e-3)
    assert row["sample_unknown_tokens"] == 0


@pytest.fixture
def named_corpora(tmp_path, texts):
    for name, chosen in (("prose", texts[:3]), ("code", texts[3:6])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in chosen))
    return tmp_path


def test_named_corpora_from_the_command_line(named_corpora, tiny_llama, capsys):
    arguments = ["evaluate", str(tiny_llama), "--json", "--price", "2", "-o", "sample_tokens=4", "--num-prompts", "2"]
    for name in ("prose", "code"):
        arguments += ["--corpus", f"my-{name}={named_corpora}/{name}.jsonl"]
    assert cli_run(arguments) == 0
    metrics = json.loads(capsys.readouterr().out)
    row = metrics["models"][0]
    assert set(row["domains"]) == {"my-prose", "my-code"}
    assert sum(domain["documents"] for domain in row["domains"].values()) == metrics["corpus"]["documents"] == 6
    assert len(metrics["prompts"]) == len(row["samples"]) == 2
    assert row["cost_per_megabyte"] == pytest.approx(2 * row["tokens"] / row["bytes"])
    assert metrics["corpus"]["paths"]["my-code"].endswith("code.jsonl")


def test_files_are_domains_by_their_names(named_corpora, tiny_llama, tmp_path):
    out = tmp_path / "metrics"
    config = EvaluateConfig(out=out, models={"a": str(tiny_llama)}, corpus=str(named_corpora), sample_tokens=0)
    run(config)
    assert set(json.loads((out / "metrics.json").read_text())["models"][0]["domains"]) == {"prose", "code"}
    assert {json.loads(line)["domain"] for line in (out / "documents.jsonl").read_text().splitlines()} == {
        "prose",
        "code",
    }


@pytest.mark.parametrize(
    ("corpus", "message"),
    [(["a=x.txt", "y.txt"], "a name or none"), (["a=x.txt", "a=y.txt"], "given twice")],
)
def test_names_that_do_not_work_are_told(corpus, message, capsys, tiny_llama):
    arguments = ["evaluate", str(tiny_llama)]
    for item in corpus:
        arguments += ["--corpus", item]
    assert cli_run(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_file_may_have_the_sign_in_its_name(tmp_path, tiny_llama):
    path = tmp_path / "a=b.txt"
    path.write_text("text")
    for given in (str(path), [str(path)]):
        assert EvaluateConfig(out="x", models={"a": str(tiny_llama)}, corpus=given).corpus == [str(path)]


def test_prices_that_cannot_be_read_are_told(tiny_llama, capsys):
    assert cli_run(["evaluate", str(tiny_llama), "--corpus", "x.txt", "--price", "cheap"]) == 2
    assert cli_run(["evaluate", str(tiny_llama), "--corpus", "x.txt", "--price", "1", "--price", "a=2"]) == 2


def test_all_measures_together(named_corpora, tiny_llama, texts):
    models = {"a": str(tiny_llama)}
    options = {"teacher": str(tiny_llama), "draft_for": str(tiny_llama), "sample_tokens": 8}
    row = measure(models, texts, **options).metrics["models"][0]
    assert row["teacher_top1_agreement"] == 1
    assert row["draft_acceptance_rate"] > 0.5


def test_options_that_need_another_are_told(tiny_llama, texts):
    with pytest.raises(ConfigError, match="'encoder' is of use only with 'lexicon'"):
        measure({"a": str(tiny_llama)}, texts, encoder=str(tiny_llama))
    with pytest.raises(ConfigError, match="'floor' is of use only with 'tasks'"):
        measure({"a": str(tiny_llama)}, texts, floor=str(tiny_llama))


def test_a_missing_teacher_is_told_before_anything_is_scored(tiny_llama, texts, tmp_path):
    for option in ("teacher", "draft_for"):
        with pytest.raises(ModelError, match="nowhere"):
            measure({"a": str(tiny_llama)}, texts, **{option: str(tmp_path / "nowhere")})
