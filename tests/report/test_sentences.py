"""The three sentences: never more, and none of what is not known."""

from __future__ import annotations

import json

from vocabalign.artifacts import write_artifact
from vocabalign.report.collect import collect_run
from vocabalign.report.sentences import summary


def make(folder, models, **stages):
    for name, (stage, config) in stages.items():
        with write_artifact(folder / name, stage, config, {}):
            pass
    if models:
        with write_artifact(folder / "metrics", "evaluate", {}, {}) as writer:
            rows = [{"name": name, "path": f"r/{name}", "bits_per_byte": value} for name, value in models.items()]
            (writer.folder / "metrics.json").write_text(json.dumps({"models": rows}))
    return summary(collect_run(folder))


def test_three_at_most(tmp_path):
    sentences = make(
        tmp_path / "r",
        {"source": 2.0, "finetuned": 1.0, "control": 0.5},
        transplanted=("transplant", {"source": "m/small", "target": "m/large"}),
        finetuned=("finetune", {"model": "r/transplanted", "training": {"steps": 1000}}),
        control=("distill", {"student": "r/finetuned", "teacher": "m/large", "distillation_weight": 0}),
    )
    assert sentences == [
        "The model small was given the vocabulary of large.",
        "In training, finetuned was fine-tuned from transplanted in 1,000 steps; "
        "control was trained directly from finetuned.",
        "On held-out text, finetuned takes 1.0000 bits per byte and source 2.0000 (50.0% less; less is better).",
    ]


def test_models_alone_are_listed(tmp_path):
    assert make(tmp_path / "r", {"a": 1.5, "b": 1.25}) == [
        "Bits per byte on held-out text (less is better): a 1.5000, b 1.2500."
    ]


def test_nothing_known(tmp_path):
    assert make(tmp_path / "r", {}, text=("corpus", {})) == []


def test_several_teachers(tmp_path):
    config = {"student": "m/s", "teacher": ["m/a", "m/b"], "training": {"steps": 2}}
    (sentence,) = make(tmp_path / "r", {}, distilled=("distill", config))
    assert "distilled was distilled from a and b into s in 2 steps" in sentence
