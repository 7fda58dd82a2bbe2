"""The card of a transplant: the numbers are those of the transplant."""

from __future__ import annotations

from huggingface_hub import ModelCard

from vocabalign.stages import TransplantConfig
from vocabalign.transplantation.card import CLASS_NAMES, write_transplant_card
from vocabalign.transplantation.sources import TokenClass

from ..conftest import make_byte_level_tokenizer, make_llama


def test_what_it_says(tmp_path):
    source = make_llama(make_byte_level_tokenizer(tmp_path / "small"), 400)
    (source / "README.md").write_text("---\nlicense: mit\n---\n")
    config = TransplantConfig(source=str(source), target="models/large", out=tmp_path / "out", keep_layers="0")
    metrics = {
        "rows": 1000, "tokens": 990, "classes": {"identical": 900, "mean": 90, "padding": 10, "role": 0},
        "input_rows": "last", "head_rows": "first", "head_calibrated": False, "tied": True, "corpus_share_copied": 0.5,
        "fitted": {"held_out_bits_per_byte": {"plain": 2.5, "heads": 2.25}, "tying_cost_bits_per_byte": 0.125},
    }  # fmt: skip
    (tmp_path / "out").mkdir()
    write_transplant_card(tmp_path / "out", config, "models/large", metrics)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "# small with the vocabulary of large" in text and ModelCard(text).data.license == "mit"
    assert "| rows copied from the token with the same bytes | 900 |" in text and "role" not in text.partition("##")[2]
    assert "not calibrated; one matrix for both" in text and "these were kept: 0." in text and "50.00%" in text
    assert "| bits per byte of documents not fitted on, after it | 2.2500 |" in text
    assert "| of which one matrix for both costs | +0.1250 |" in text


def test_every_class_has_words():
    assert {kind.name.lower() for kind in TokenClass} == CLASS_NAMES.keys()
