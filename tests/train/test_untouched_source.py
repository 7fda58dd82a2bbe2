"""The source is found through the transplant, whatever was trained since, and another one is refused."""

import json
import logging
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import make_metaspace_tokenizer
from tests.train.runs import finetuned
from vocabalign.errors import ModelError
from vocabalign.stages import TransplantConfig
from vocabalign.train.untouched_source import choose_source, find_origin
from vocabalign.transplantation import transplant_stage


@pytest.fixture
def source(tmp_path, tiny_llama):
    """A copy that a test may change."""
    return shutil.copytree(tiny_llama, tmp_path / "source")


@pytest.fixture
def transplanted(tmp_path, source):
    target = tmp_path / "target"
    make_metaspace_tokenizer(target)
    return transplant_stage.run(TransplantConfig(source=str(source), target=str(target), out=tmp_path / "transplanted"))


def change(folder):
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    weights[name] = weights[name] + 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_it_is_the_one_that_the_transplant_names(source, transplanted):
    assert find_origin(transplanted).path == str(source)
    assert choose_source(None, transplanted) == source
    assert choose_source(str(source), transplanted) == source


def test_a_copy_elsewhere_is_as_good_when_named(tmp_path, source, transplanted, caplog):
    moved = tmp_path / "moved"
    source.rename(moved)
    with caplog.at_level(logging.WARNING, "vocabalign"):
        assert choose_source(None, transplanted) is None
    assert "--source" in caplog.text
    assert choose_source(str(moved), transplanted) == moved


def test_another_model_of_the_same_shape_is_refused(tmp_path, source, transplanted, corpus_file):
    other = shutil.copytree(source, tmp_path / "other")
    change(other)
    with pytest.raises(ModelError, match="not the model that"):
        choose_source(str(other), transplanted)
    with pytest.raises(ModelError, match="not the model that"):
        finetuned(transplanted, corpus_file, tmp_path / "out", source=str(other))
    assert not (tmp_path / "out").exists()


def test_a_source_that_has_changed_since_is_not_learned_from(source, transplanted, caplog):
    change(source)
    with caplog.at_level(logging.WARNING, "vocabalign"):
        assert choose_source(None, transplanted) is None
    assert "not there as it was" in caplog.text


def test_it_is_found_through_trainings(tmp_path, source, transplanted, corpus_file):
    once = finetuned(transplanted, corpus_file, tmp_path / "once", dict(steps=1))
    twice = finetuned(once, corpus_file, tmp_path / "twice", dict(steps=1))
    assert choose_source(None, twice) == source
    shutil.rmtree(once)
    assert choose_source(None, twice) is None


def test_models_without_a_transplant_have_none(tmp_path, tiny_llama, corpus_file):
    assert choose_source(None, tiny_llama) is None
    trained = finetuned(tiny_llama, corpus_file, tmp_path / "trained", dict(steps=1))
    assert choose_source(None, trained) is None
    (trained / "manifest.json").write_text(json.dumps({"stage": "transplant"}))
    assert choose_source(None, trained) is None


def test_a_model_with_layers_left_out_learns_from_its_whole_source(tmp_path):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from vocabalign.errors import ModelError
    from vocabalign.train.untouched_source import check_same_body

    def model(layers):
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2}
        return LlamaForCausalLM(LlamaConfig(vocab_size=8, num_hidden_layers=layers, **sizes))

    check_same_body(model(1), model(2), "source")
    with pytest.raises(ModelError, match="num_hidden_layers 1 and the model 2"):
        check_same_body(model(2), model(1), "source")
