"""The folder that is written: what is replaced and patched, what stays byte for byte, what a full disk leaves."""

import errno
import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.transplantation.builders import build, target_tokenizer
from vocabalign.errors import ArtifactError, ConfigError, ModelError
from vocabalign.stages import TransplantConfig
from vocabalign.transplantation import shards
from vocabalign.transplantation.checkpoint import open_checkpoint
from vocabalign.transplantation.surgery import Ids, patch_config, write_model_files
from vocabalign.transplantation.transplant_stage import run

IDS = Ids(num_rows=500, roles={"bos": 1, "eos": 2}, counterparts={0: 2, 7: 70, 9: 90})


def written(source, out, rows=500, **tensors):
    checkpoint = open_checkpoint(source)
    out.mkdir()
    embedding = torch.randn(rows, checkpoint.hidden_size).to(checkpoint.dtype)
    head = None if checkpoint.tied else torch.randn(rows, checkpoint.hidden_size).to(checkpoint.dtype)
    given = {"embedding": embedding, "head": head, "bias": None} | tensors
    write_model_files(checkpoint, out, *given.values(), IDS)
    return given


def read(folder):
    tensors = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)
    return tensors


@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_two_tensors_are_new_and_all_else_is_as_it_was(tmp_path, shard):
    source = build("llama", tmp_path / "m", dtype=torch.bfloat16, max_shard_size=shard)
    (source / "modeling_notes.txt").write_bytes(b"\xff kept \r\n")
    (source / "assets").mkdir()
    (source / "assets" / "a.bin.txt").write_text("kept too")
    for gone in ("optimizer.pt", "pytorch_model.bin", "trainer_state.json", "vocab.json", "model.gguf"):
        (source / gone).write_text("left behind")
    out = tmp_path / "out"
    given = written(source, out)
    old, new = read(source), read(out)
    changed = {"model.embed_tokens.weight": given["embedding"], "lm_head.weight": given["head"]}
    assert old.keys() == new.keys()
    for name, tensor in new.items():
        expected = changed.get(name, old[name])
        assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, expected)
    assert (out / "modeling_notes.txt").read_bytes() == b"\xff kept \r\n"
    assert (out / "assets" / "a.bin.txt").read_text() == "kept too"
    left = {"optimizer.pt", "pytorch_model.bin", "trainer_state.json", "vocab.json", "model.gguf", "tokenizer.json"}
    assert not left & {path.name for path in out.iterdir()}
    if shard != "5GB":
        index = json.loads((out / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for t in new.values())
        homes = json.loads((source / "model.safetensors.index.json").read_text())["weight_map"]
        assert index["weight_map"] == homes
        touched = {homes[name] for name in changed}
        for name in set(homes.values()) - touched:
            assert (out / name).read_bytes() == (source / name).read_bytes()


def test_the_configuration_changes_in_its_ids_alone(tmp_path):
    source = build("llama", tmp_path / "m")
    config = json.loads((source / "config.json").read_text())
    # As version 4 of transformers wrote it: later versions would rename these keys.
    config |= {"rope_theta": 500000.0, "torch_dtype": "float32", "custom": {"kept": [1, 2]}}
    config.pop("rope_parameters", None)
    (source / "config.json").write_text(json.dumps(config))
    written(source, tmp_path / "out")
    new = json.loads((tmp_path / "out" / "config.json").read_text())
    assert list(new) == list(config)
    assert {key for key in config if new[key] != config[key]} == {"vocab_size", "bos_token_id", "eos_token_id"}
    assert (new["vocab_size"], new["bos_token_id"], new["eos_token_id"]) == (500, 1, 2)


def test_nested_text_configurations_are_patched_and_pictures_keep_their_place():
    config = {
        "image_token_id": 7,
        "eos_token_id": [0, 9],
        "tie_word_embeddings": True,
        "text_config": {"vocab_size": 400, "bos_token_id": 0, "tie_word_embeddings": True},
        "vision_config": {"vocab_size": 3, "hidden_size": 8},
    }
    new = patch_config(config, IDS, untied=True)
    assert new["text_config"] == {"vocab_size": 500, "bos_token_id": 1, "tie_word_embeddings": False}
    assert new["vision_config"] == config["vision_config"] and "vocab_size" not in new
    assert (new["image_token_id"], new["eos_token_id"], new["tie_word_embeddings"]) == (70, [2, 90], False)
    assert config["text_config"]["vocab_size"] == 400  # the given one is left alone
    with pytest.raises(ConfigError, match="image_token_id.*--map-token"):
        patch_config({**config, "image_token_id": 8}, IDS, untied=False)


def test_a_head_that_is_stored_although_it_is_tied_stays_equal(tmp_path):
    source = build("llama-tied", tmp_path / "m")
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    given = written(source, tmp_path / "out")
    new = read(tmp_path / "out")
    assert torch.equal(new["lm_head.weight"], given["embedding"])
    assert torch.equal(new["model.embed_tokens.weight"], given["embedding"])


def test_untying_adds_a_head_and_says_so(tmp_path):
    source = build("llama-tied", tmp_path / "m", max_shard_size="20KB")
    head = torch.randn(500, 32)
    written(source, tmp_path / "out", head=head)
    new, index = read(tmp_path / "out"), json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert torch.equal(new["lm_head.weight"], head) and "lm_head.weight" in index["weight_map"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


def test_a_head_bias_cannot_be_forgotten(tmp_path):
    with pytest.raises(ModelError, match="head bias, lm_head.bias, and no new one"):
        written(build("phi", tmp_path / "m"), tmp_path / "out")


@pytest.mark.parametrize("where", ["copy", "write"])
def test_a_disk_that_is_full_half_way_leaves_nothing(tmp_path, monkeypatch, where):
    source = build("llama", tmp_path / "m", max_shard_size="20KB")
    target = target_tokenizer("metaspace", tmp_path / "t")
    calls = []

    def full(*args):
        calls.append(args)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args)

    original = getattr(shards, f"_{where}")
    monkeypatch.setattr(shards, f"_{where}", full)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ArtifactError, match="No space left on the disk"):
        run(TransplantConfig(source=str(source), target=str(target), out=tmp_path / "out"))
    assert len(calls) == 4 and {path.name for path in tmp_path.iterdir()} == before
