import pytest
import torch
from safetensors.torch import load_file, save_file

from vocabalign.errors import ModelError
from vocabalign.transplantation.shards import read_header, rewrite_shard


def test_replaced_and_added_tensors_and_the_rest_as_it_was(tmp_path):
    tensors = {"b": torch.randn(3, 4), "a": torch.randn(5).bfloat16(), "c": torch.arange(6)}
    save_file(tensors, tmp_path / "old.safetensors", metadata={"format": "pt"})
    new = {"b": torch.randn(7, 4), "d": torch.randn(2, 2).half()}
    added = rewrite_shard(tmp_path / "old.safetensors", tmp_path / "new.safetensors", new)
    read = load_file(tmp_path / "new.safetensors")
    assert added == 4 * 4 * 4 + 8
    assert all(torch.equal(read[name], value) for name, value in {**tensors, **new}.items())
    assert read_header(tmp_path / "new.safetensors")[0]["__metadata__"] == {"format": "pt"}


def test_same_shapes_leave_the_file_bit_for_bit(tmp_path):
    tensors = {"b": torch.randn(3, 4), "a": torch.randn(5)}
    save_file(tensors, tmp_path / "old.safetensors")
    rewrite_shard(tmp_path / "old.safetensors", tmp_path / "new.safetensors", {"b": tensors["b"]})
    assert (tmp_path / "old.safetensors").read_bytes() == (tmp_path / "new.safetensors").read_bytes()


@pytest.mark.parametrize("damage", [lambda raw: raw[:-5], lambda raw: b"\xff" * 40, lambda raw: b""])
def test_broken_files_are_refused(tmp_path, damage):
    save_file({"a": torch.randn(5)}, tmp_path / "x.safetensors")
    raw = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(damage(raw))
    with pytest.raises(ModelError, match="x.safetensors"):
        read_header(tmp_path / "x.safetensors")
