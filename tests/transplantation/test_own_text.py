import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.transplantation.builders import build, target_tokenizer
from vocabalign.errors import ConfigError, ModelError
from vocabalign.stages import TransplantConfig
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.transplantation import own_text
from vocabalign.transplantation.own_text import text_of, write_texts
from vocabalign.transplantation.transplant_stage import run


def write(folder, seed=0):
    return write_texts(folder, load_vocabulary(folder), dtype=torch.float32, device=torch.device("cpu"), seed=seed)


@pytest.fixture(autouse=True)
def little(monkeypatch):
    monkeypatch.setattr("vocabalign.transplantation.own_text.MOST_TOKENS", 6_000)


def test_a_model_writes_the_same_text_for_the_same_seed_and_draws_are_left_alone(model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    texts = write(model)
    assert torch.equal(before, torch.get_rng_state())
    assert sum(len(text) for text in texts) > 1_000
    assert texts == write(model)
    assert texts != write(model, seed=1)


def test_what_was_written_is_not_written_again(model, tmp_path, monkeypatch):
    """As long as nothing has changed: neither the weights, nor the seed."""
    texts = write(model)
    with monkeypatch.context() as patch:
        patch.setattr(own_text, "load_model", lambda *arguments, **named: pytest.fail("the model was asked again"))
        again = write(model)
        assert again == texts and again is not texts
    changed = build("llama", tmp_path / "m")
    weights = load_file(changed / "model.safetensors")
    weights["lm_head.weight"] *= 2
    write(changed)
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    assert write(changed) != texts


def test_a_model_that_would_take_too_long_writes_nothing(model, monkeypatch):
    monkeypatch.setattr("vocabalign.transplantation.own_text._OPERATIONS", {"cpu": 1e6})
    assert write(model) == []


def test_text_ends_at_its_end(model):
    vocabulary = load_vocabulary(model)
    ids = vocabulary.encode("one two")
    assert text_of(vocabulary, [*ids, 1, *ids], [1]) == "one two"


def test_a_transplant_without_a_corpus_counts_on_what_the_model_writes(model, tmp_path):
    target = target_tokenizer("metaspace", tmp_path / "t")
    out = run(TransplantConfig(source=str(model), target=str(target), own_text=True, out=tmp_path / "out"))
    metrics = json.loads((out / "manifest.json").read_text())["metrics"]
    assert metrics["head_calibrated"] and metrics["corpus_tokens"] > 1_000


def test_a_corpus_and_own_text_are_refused_as_is_an_encoder(model, tmp_path):
    target = target_tokenizer("metaspace", tmp_path / "t")
    (tmp_path / "corpus.jsonl").write_text('{"text": "one"}\n')
    values = {"source": str(model), "target": str(target), "own_text": True, "out": tmp_path / "out"}
    with pytest.raises(ConfigError, match="leave out one of the two"):
        run(TransplantConfig(**values, corpus=[str(tmp_path / "corpus.jsonl")]))
    encoder = build("bert", tmp_path / "bert")
    with pytest.raises(ModelError, match="writes no text"):
        run(TransplantConfig(**{**values, "source": str(encoder)}))
    assert not (tmp_path / "out").exists()
