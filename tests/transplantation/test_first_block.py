"""What is checked where a model is too large to load."""

import json

import pytest
import torch

from tests.transplantation.builders import build, target_tokenizer
from tests.transplantation.test_verify import edit, edit_tensor
from vocabalign.errors import VerificationError
from vocabalign.stages import TransplantConfig
from vocabalign.transplantation.transplant_stage import run
from vocabalign.transplantation.verify import verify_model

ALL = ["llama", "llama-tied", "gpt_neox", "gpt2", "phi", "gemma2", "mixtral", "llava", "bert", "bert-without-head"]


def details(folder, full=False):
    return {check["name"]: check["detail"] for check in verify_model(folder, full=full)["checks"]}


@pytest.mark.parametrize("name", ALL)
def test_the_first_block_of_every_architecture_runs(tmp_path, name):
    source = build(name, tmp_path / "m", dtype=torch.bfloat16, max_shard_size="20KB")
    found = details(source)
    what = "hidden states" if name == "bert-without-head" else "logits"
    assert (
        found["first block"] == f"8 texts have finite {what} through the first block" and "running model" not in found
    )


def test_other_blocks_are_not_read(tmp_path):
    folder = build("llama", tmp_path / "m", max_shard_size="20KB")
    name = "model.layers.{}.mlp.up_proj.weight"
    edit_tensor(folder, name.format(1), lambda tensor: tensor.fill_(float("nan")))
    assert "finite logits" in details(folder)["first block"]
    with pytest.raises(VerificationError, match="running model.*not finite"):
        verify_model(folder, full=True)
    edit_tensor(folder, name.format(0), lambda tensor: tensor.fill_(float("nan")))
    with pytest.raises(VerificationError, match="first block.*not finite"):
        verify_model(folder, full=False)


def test_a_model_whose_layers_are_unclear_is_told_and_passes(tmp_path):
    folder = build("llama", tmp_path / "m")
    edit(folder / "config.json", decoder_sparse_step=2)
    assert "not applicable" in details(folder)["first block"]


@pytest.mark.parametrize(
    ("name", "corpus", "said"),
    [
        ("llama", False, "they are the mean of all rows"),
        ("llama-tied", False, "they are the mean of all rows"),
        ("phi", True, "their bias is below every token's"),
        ("bert-without-head", False, "the model has no head"),
    ],
)
def test_padded_rows_are_low_by_their_numbers(tmp_path, corpus_file, name, corpus, said):
    source = build(name, tmp_path / "m", dtype=torch.bfloat16)
    values = {"source": str(source), "target": str(target_tokenizer("metaspace", tmp_path / "t"))}
    values |= {"corpus": [str(corpus_file)] if corpus else [], "pad_to_multiple_of": 512, "head_rows": "mean"}
    if name == "bert-without-head":
        del values["head_rows"]
    out = run(TransplantConfig(**values, out=tmp_path / "out"))
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 512
    found = details(out)["padded rows"]
    assert said in found


def test_a_padded_row_that_is_raised_is_no_longer_said_to_be_low(tmp_path):
    source = build("phi", tmp_path / "m")
    values = {"source": str(source), "target": str(target_tokenizer("metaspace", tmp_path / "t"))}
    out = run(TransplantConfig(**values, pad_to_multiple_of=512, out=tmp_path / "out"))
    assert "none of them can win" in details(out)["padded rows"]
    from safetensors.torch import load_file, save_file

    tensors = load_file(out / "model.safetensors")
    tensors["lm_head.bias"][-1] = 50.0
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    assert "only seen where the model runs" in details(out)["padded rows"]
    with pytest.raises(VerificationError, match="a row that no token has is the most likely"):
        verify_model(out, full=True)
