"""Cards: what the Hub reads of them, and what is handed on from model to model."""

from __future__ import annotations

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from vocabalign.model_card import (
    corpus_languages,
    hub_name,
    inherited_metadata,
    loading_from,
    measured_rows,
    read_card,
    write_card,
    write_scores,
)


def make_source(folder, card="", **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    if card:
        (folder / "README.md").write_text(card)
    return folder


def made_from(source, folder, **values):
    folder.mkdir(parents=True)
    write_card(folder, source, **{"title": folder.name, "done": ["Something was done."], **values})
    return (folder / "README.md").read_text()


def test_licence_languages_and_base_are_handed_on(tmp_path):
    card = "---\nlicense: other\nlicense_name: gemma\nlicense_link: https://x.y/z\nlanguage:\n- en\n- no\n---\nText\n"
    source = make_source(tmp_path / "source", card, _name_or_path="org/model-1b")
    made_from(source, tmp_path / "first", languages=["de", "en", "not a code"])
    text = made_from(tmp_path / "first", tmp_path / "second", done=["Trained on."], measures=[("tokens", 12345)])
    data = ModelCard(text).data
    assert (data.license, data.license_name, data.license_link) == ("other", "gemma", "https://x.y/z")
    assert data.language == ["en", "no", "de"] and data.base_model == ["org/model-1b"]
    assert data.library_name == "transformers" and "vocabalign" in data.tags
    # What was done is the whole story; what was measured is this model's own.
    assert text.index("* Something was done.") < text.index("* Trained on.")
    assert "| tokens | 12,345 |" in text and 'from_pretrained("PATH")' in text


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("", {}),
        ("no front matter", {}),
        ("---\n[broken\n---\n", {}),
        ("---\n- a list\n---\n", {}),
        ("---\nlicense: mit\n---\n", {"license": "mit"}),
        ("---\r\nlicense: mit\r\n---\r\n", {"license": "mit"}),
    ],
)
def test_cards_that_are_found(tmp_path, card, expected):
    source = make_source(tmp_path / "source", card)
    assert read_card(source)[0] == expected
    found = inherited_metadata(source, read_card(source)[0])
    assert found.get("license") == expected.get("license") and found["base_model"] == ["source"]
    assert "language" not in found


def test_a_licence_that_is_only_a_file(tmp_path):
    source = make_source(tmp_path / "source")
    (source / "LICENSE").write_text("All rights reserved")
    found = inherited_metadata(source, {})
    assert found["license"] == "other" and found["license_link"] == "LICENSE"


def test_names_on_the_hub(tmp_path):
    assert hub_name(make_source(tmp_path / "models--org--name" / "snapshots" / "0123")) == "org/name"
    assert hub_name(make_source(tmp_path / "a", _name_or_path="org/b.c-1")) == "org/b.c-1"
    assert hub_name(make_source(tmp_path / "d", _name_or_path="/home/me/secret/d")) == "d"
    assert hub_name("demo:source") == "vocabalign-demo-source"


def test_nothing_in_a_cell_ends_it(tmp_path):
    text = made_from(make_source(tmp_path / "s"), tmp_path / "m", measures=[("a|b\nc", 0.123456789)])
    assert "| a\\|b c | 0.123457 |" in text
    assert yaml.safe_load(text.split("---")[1])["pipeline_tag"] == "text-generation"


def test_rows_of_metrics():
    metrics = {
        "learned_from": "/home/me",
        "steps": 3,
        "tied": True,
        "tokens_per_second": 5.0,
        "nested": {},
        "loss": 1.5,
    }
    assert measured_rows(metrics, ["tokens_per_second"]) == [("steps", 3), ("loss", 1.5)]


def test_scores_stand_before_how_to_load(tmp_path):
    text = made_from(make_source(tmp_path / "s"), tmp_path / "m")
    assert write_scores(text, []) == text and write_scores("another card", [{"name": "x"}]) == "another card"
    scored = write_scores(
        text, [{"name": "x", "bits_per_byte": 1.0, "bits_per_byte_low": 0.9, "bits_per_byte_high": 2}]
    )
    assert scored.index("| x | 1.0000 | 0.9000 to 2.0000 |  |") < scored.index("## How to load it")
    assert 'from_pretrained("someone/m")' in loading_from(scored, "someone/m")


def test_languages_of_a_corpus(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": "x", "language": code}) + "\n" for code in ("ur", "en", "ur")))
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"text": "x", "language": "de"}) + "\n")
    assert corpus_languages([f"{path}=0.5", str(other)]) == ["de", "en", "ur"] and corpus_languages([]) == []
    assert corpus_languages([str(tmp_path / "gone.jsonl"), str(other)]) == ["de"]
