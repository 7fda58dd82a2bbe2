"""What a transplant tells of itself."""

import json

import pytest

from tests.transplantation.builders import build, target_tokenizer
from vocabalign.stages import TransplantConfig
from vocabalign.transplantation.foreign_text import CORPUS
from vocabalign.transplantation.surprise import Surprise
from vocabalign.transplantation.transplant_stage import run


@pytest.mark.parametrize("given", [True, False])
def test_metrics_say_what_was_counted_on(tmp_path, corpus_file, monkeypatch, given):
    source, target = build("llama", tmp_path / "m"), target_tokenizer("metaspace", tmp_path / "t")
    home = Surprise(3.25, 3.125)
    monkeypatch.setattr("vocabalign.transplantation.source_states.measure_surprise", lambda *arguments: home)
    corpus = [str(corpus_file)] if given else []
    out = run(TransplantConfig(source=str(source), target=str(target), corpus=corpus, out=tmp_path / "out"))
    metrics = json.loads((out / "manifest.json").read_text())["metrics"]
    provenance = json.loads((out / "provenance.json").read_text())
    assert metrics["moved_rows"] == provenance["moved"] and sum(metrics["classes"].values()) == metrics["rows"]
    assert [row["id"] for row in metrics["least_certain"]] == [row["id"] for row in provenance["least_certain"][:10]]
    if given:
        assert metrics["counted_on"] == CORPUS and metrics["calibrated_by"] == "counts"
        assert metrics["corpus_nats_per_token"] == {"found": 3.25, "expected": 3.125}
        assert not metrics["corpus_of_another_domain"] and 0 < metrics["corpus_share_copied"] < 1
    else:
        assert metrics["calibrated_by"] == "ranks"
        assert not {"counted_on", "corpus_documents", "corpus_of_another_domain"} & metrics.keys()
