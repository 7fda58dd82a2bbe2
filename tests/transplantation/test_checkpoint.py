import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.transplantation.builders import build
from vocabalign.errors import ModelError
from vocabalign.transplantation.checkpoint import open_checkpoint


@pytest.mark.parametrize(
    ("name", "embedding", "head", "bias", "tied"),
    [
        ("llama", "model.embed_tokens.weight", "lm_head.weight", None, False),
        ("llama-tied", "model.embed_tokens.weight", None, None, True),
        ("gpt_neox", "gpt_neox.embed_in.weight", "embed_out.weight", None, False),
        ("gpt2", "transformer.wte.weight", None, None, True),
        ("phi", "model.embed_tokens.weight", "lm_head.weight", "lm_head.bias", False),
    ],
)
def test_the_vocabulary_tensors_are_found(tmp_path, name, embedding, head, bias, tied):
    found = open_checkpoint(build(name, tmp_path / "m"))
    assert (found.embedding, found.head, found.bias, found.tied) == (embedding, head, bias, tied)
    assert (found.num_rows, found.hidden_size, found.dtype) == (400, 32, torch.float32)


def test_names_without_the_base_models_prefix_are_found(tmp_path):
    folder = build("gpt2", tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    save_file({name.removeprefix("transformer."): t for name, t in tensors.items()}, folder / "model.safetensors")
    assert open_checkpoint(folder).embedding == "wte.weight"


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_cannot_be_transplanted_is_refused_by_name(tmp_path):
    folder = build("llama", tmp_path / "m")
    original = (folder / "config.json").read_text()
    change_config(folder, quantization_config={"quant_method": "gptq"})
    with pytest.raises(ModelError, match="quantised .gptq."):
        open_checkpoint(folder)
    (folder / "config.json").write_text(original)
    change_config(folder, auto_map={"AutoModelForCausalLM": "modeling.X"})
    with pytest.raises(ModelError, match="code of its own"):
        open_checkpoint(folder)
    (folder / "config.json").write_text(original)
    change_config(folder, vocab_size=401)
    with pytest.raises(ModelError, match="400.*401"):
        open_checkpoint(folder)
    (folder / "config.json").write_text(original)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        open_checkpoint(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="no weights"):
        open_checkpoint(folder)
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter only"):
        open_checkpoint(folder)


def test_a_missing_shard_is_named(tmp_path):
    folder = build("llama", tmp_path / "m", max_shard_size="40KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    with pytest.raises(ModelError, match=shards[1].name):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/tmp/x.safetensors", "sub/x.safetensors", "x.bin", 3])
def test_an_index_that_names_other_places_is_refused(tmp_path, name):
    folder = build("llama", tmp_path / "m", max_shard_size="40KB")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.weight"] = name
    path.write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lm_head.weight is in .*: expected the name"):
        open_checkpoint(folder)
