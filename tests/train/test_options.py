"""What is refused before anything is trained, and what is warned of."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, FalconConfig, FalconForCausalLM, OPTConfig, OPTForCausalLM

from tests.train.runs import distilled, finetuned, make_neox
from vocabalign.errors import ConfigError, ModelError
from vocabalign.train.head import separates_documents


@pytest.mark.parametrize("option", ["label_smoothing_factor", "group_by_length", "dataloader_drop_last"])
def test_options_without_effect_are_refused(tmp_path, tiny_llama, corpus_file, option):
    with pytest.raises(ConfigError, match=f"{option} has no effect"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", trainer={option: 0.9})
    with pytest.raises(ConfigError, match="remove_unused_columns"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", trainer={"remove_unused_columns": True})


def test_float16_is_refused(tmp_path, tiny_llama, corpus_file, monkeypatch):
    for more in ({"dtype": "float16"}, {"trainer": {"fp16": True}}):
        with pytest.raises(ConfigError, match="bfloat16 or float32"):
            finetuned(tiny_llama, corpus_file, tmp_path / "out", **more)
        with pytest.raises(ConfigError, match="bfloat16 or float32"):
            distilled(tiny_llama, tiny_llama, corpus_file, tmp_path / "out", **more)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ConfigError, match="mixed_precision: fp16 would"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out")


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_teacher_with_code_of_its_own(tmp_path, tiny_llama, corpus_file, weight):
    folder = tmp_path / "teacher"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "its-own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="needs code of its own"):
        distilled(tiny_llama, folder, corpus_file, tmp_path / "out", distillation_weight=weight)
    (folder / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ModelError, match="cannot be (read|loaded) as a "):
        distilled(tiny_llama, folder, corpus_file, tmp_path / "out", distillation_weight=weight)


def test_models_that_mix_documents_are_found(tmp_path, tiny_llama):
    torch.manual_seed(0)
    falcon = FalconConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True)
    opt = OPTConfig(
        vocab_size=64, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32
    )
    assert not separates_documents(FalconForCausalLM(falcon))
    assert not separates_documents(OPTForCausalLM(opt))
    assert separates_documents(AutoModelForCausalLM.from_pretrained(tiny_llama))
    assert separates_documents(AutoModelForCausalLM.from_pretrained(make_neox(tmp_path / "neox")))


def test_mixing_is_warned_of_once(tmp_path, tiny_llama, corpus_file, monkeypatch, caplog):
    caplog.set_level("WARNING", "vocabalign")
    finetuned(tiny_llama, corpus_file, tmp_path / "a", {"steps": 2})
    assert "apart" not in caplog.text
    monkeypatch.setattr("vocabalign.train.schedule.separates_documents", lambda _: False)
    finetuned(tiny_llama, corpus_file, tmp_path / "b", {"steps": 2})
    assert caplog.text.count("does not keep the documents of a sequence apart") == 1
