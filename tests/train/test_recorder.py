"""What is recorded of a run: scores by domain, the best and the last, early ends, trackers."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import TEXT
from tests.train.runs import Interrupted, finetuned, interrupted_at, same, weights
from vocabalign.errors import ConfigError
from vocabalign.manifests import read_manifest
from vocabalign.text.heldout_text import read_heldout
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.heldout import HeldOut
from vocabalign.train.recorder import Recorder
from vocabalign.train.trackers import tracker_names


@pytest.fixture
def two_domains(tmp_path):
    (tmp_path / "prose.txt").write_text(TEXT[0] + TEXT[2])
    with (tmp_path / "rest.jsonl").open("w") as file:
        for number, text in enumerate(TEXT[3:]):
            file.write(json.dumps({"text": text, "language": "ru" if number == 1 else "de"}) + "\n")
    return [str(tmp_path / "prose.txt"), str(tmp_path / "rest.jsonl")]


def test_domains_and_languages_are_those_of_their_documents_alone(two_domains, tiny_llama):
    vocabulary = load_vocabulary(tiny_llama)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    text = read_heldout(two_domains)
    scores = HeldOut(text, vocabulary, 32, 2).scores(model)
    assert set(scores) == {"heldout_bits_per_byte", "domains", "languages"}
    for kind, key in (("domain", "domains"), ("language", "languages")):
        names = {name for name in text.labels[kind] if name}
        assert set(scores[key]) == names
        for name in names:
            alone = [t for t, label in zip(text.texts, text.labels[kind], strict=True) if label == name]
            expected = HeldOut(alone, vocabulary, 32, 3).bits_per_byte(model)
            assert scores[key][name] == pytest.approx(expected, abs=1e-5)
    assert scores["heldout_bits_per_byte"] == pytest.approx(
        HeldOut(text.texts, vocabulary, 32, 7).bits_per_byte(model), abs=1e-5
    )


def test_patience(tmp_path):
    recorder = Recorder(tmp_path, None, 1, True, patience=2)
    for step, value in enumerate([3.0, 2.0, 2.5, 2.1], 1):
        recorder.add({"step": step, "stage": "a", "heldout_bits_per_byte": value})
        assert recorder.patience_is_over("a") == (step == 4)
        assert not recorder.patience_is_over("b")
    assert not Recorder(tmp_path, None, 1, True).patience_is_over("a")


def test_the_best_is_the_model_and_the_last_is_beside_it(tmp_path, tiny_llama, corpus_file, two_domains):
    # A rate that spoils the model after a good beginning.
    training = {"steps": 30, "evaluate_every": 1, "patience": 4, "warmup_share": 0.5, "checkpoint_every": 3}
    arguments = dict(rows_share=0, learning_rate=0.5, heldout=two_domains)
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", {**training, "loss_spike": None}, **arguments)
    metrics = read_manifest(out)["metrics"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["heldout_bits_per_byte"] for line in lines if "heldout_bits_per_byte" in line}
    assert metrics["stopped_early"] == ["everything"] and max(scores) < 30
    later = {step: score for step, score in scores.items() if step}
    assert metrics["best_step"] == min(later, key=later.get) == max(scores) - 4
    assert metrics["heldout_bits_per_byte"] == min(later.values()) < metrics["heldout_bits_per_byte_last"]
    vocabulary = load_vocabulary(out)
    heldout = HeldOut(read_heldout(two_domains), vocabulary, 128, 4)
    for folder, key in ((out, "heldout_bits_per_byte"), (out / "last", "heldout_bits_per_byte_last")):
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert heldout.bits_per_byte(model) == pytest.approx(metrics[key], abs=1e-4)
    assert not all(torch.equal(value, weights(out / "last")[name]) for name, value in weights(out).items())


@pytest.mark.parametrize("calls", [5, 12, 18])  # the last one when it has begun to be worse
def test_an_early_end_is_the_same_after_an_interruption(tmp_path, tiny_llama, corpus_file, heldout_file, calls):
    training = {"steps": 30, "evaluate_every": 1, "patience": 2, "checkpoint_every": 2, "loss_spike": None}
    arguments = dict(rows_learning_rate=0.1, learning_rate=0.1, heldout=[str(heldout_file)])
    undisturbed = finetuned(tiny_llama, corpus_file, tmp_path / "a", training, **arguments)
    with interrupted_at(calls, HeldOut, "scores", Interrupted):
        finetuned(tiny_llama, corpus_file, tmp_path / "b", training, **arguments)
    again = finetuned(tiny_llama, corpus_file, tmp_path / "b", training, **arguments)
    assert read_manifest(again)["metrics"]["stopped_early"]
    assert same(again, undisturbed)
    assert (again / "metrics.jsonl").read_text() == (undisturbed / "metrics.jsonl").read_text()


def test_a_tracker_gets_what_is_recorded(tmp_path, tiny_llama, corpus_file, two_domains):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = finetuned(
        tiny_llama, corpus_file, tmp_path / "out", {"evaluate_every": 3}, heldout=two_domains,
        trainer={"report_to": "tensorboard"},
    )  # fmt: skip
    read = events.EventAccumulator(str(tmp_path / "trackers" / "out")).Reload()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = {event.step: event.value for event in read.Scalars("loss")}
    assert found == {line["step"]: pytest.approx(line["loss"], rel=1e-6) for line in lines if "loss" in line}
    scores = {event.step: event.value for event in read.Scalars("domains/prose")}
    assert scores == {line["step"]: pytest.approx(line["domains"]["prose"]) for line in lines if "domains" in line}
    assert set(scores) == {0, 3, 6}


def test_trackers_that_are_not_there_are_refused(tmp_path, tiny_llama, corpus_file):
    with pytest.raises(ConfigError, match="'unheard-of' in trainer.report_to is unknown"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", trainer={"report_to": ["unheard-of"]})
    with pytest.raises(ConfigError, match="'comet_ml' in trainer.report_to is not installed"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", trainer={"report_to": "comet_ml"})
    assert tracker_names("none") == tracker_names(None) == tracker_names([]) == []
    with pytest.raises(ConfigError, match="expected the name"):
        tracker_names(3)


def test_an_end_by_scores_needs_scores(tmp_path, tiny_llama, corpus_file):
    with pytest.raises(ConfigError, match="there are none"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", {"patience": 2})
