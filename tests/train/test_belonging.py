"""A tokenizer of another model is refused before it is trained on."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import make_byte_level_tokenizer
from tests.train.runs import finetuned
from vocabalign.errors import ModelError
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.belonging import check_vocabulary_belongs


def test_too_few_tokens_for_the_rows(tmp_path, tiny_llama, corpus_file):
    shutil.copytree(tiny_llama, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.resize_token_embeddings(900, mean_resizing=False)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="has 400 tokens and the model 900 rows"):
        finetuned(tmp_path / "model", corpus_file, tmp_path / "out")


def test_a_transplanted_model_knows_its_tokens(tmp_path, tiny_llama):
    shutil.copytree(tiny_llama, tmp_path / "model")
    vocabulary, model = load_vocabulary(tiny_llama), AutoModelForCausalLM.from_pretrained(tiny_llama)
    told = {"num_tokens": 400, "least_certain": [{"id": 300, "token": vocabulary.raw_tokens[300]}]}
    (tmp_path / "model" / "provenance.json").write_text(json.dumps(told))
    check_vocabulary_belongs(model, vocabulary, tmp_path / "model")
    other = load_vocabulary(make_byte_level_tokenizer(tmp_path / "other", 400, ["other words entirely, nothing else"]))
    with pytest.raises(ModelError, match="tells of another tokenizer"):
        check_vocabulary_belongs(model, other, tmp_path / "model")


def test_real_models_with_their_own_rows_in_another_order(tmp_path, material):
    for name in ("stories260K-hf", "stories3M-hf"):
        folder = material / "models" / name
        model, vocabulary = AutoModelForCausalLM.from_pretrained(folder), load_vocabulary(folder)
        check_vocabulary_belongs(model, vocabulary, folder)
        with torch.no_grad():
            rows = model.get_input_embeddings().weight
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
            rows.copy_(rows[order].clone())
            if model.get_output_embeddings().weight is not rows:
                model.get_output_embeddings().weight.copy_(model.get_output_embeddings().weight[order].clone())
        with pytest.raises(ModelError, match="less likely than chance"):
            check_vocabulary_belongs(model, vocabulary, folder)
