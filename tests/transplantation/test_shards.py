import errno
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from vocabalign.errors import ModelError
from vocabalign.transplantation import shards
from vocabalign.transplantation.shards import copy_file, read_header, rewrite_shard


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


def refusing(number):
    def copy_file_range(*args):
        raise OSError(number, os.strerror(number))

    return copy_file_range


@pytest.mark.parametrize("way", ["within the system", "between file systems", "a system without it"])
@pytest.mark.parametrize("block", [7, 1 << 24])
def test_every_way_of_copying_gives_the_same_bytes(tmp_path, monkeypatch, way, block):
    if way == "between file systems":
        monkeypatch.setattr(os, "copy_file_range", refusing(errno.EXDEV), raising=False)
    if way == "a system without it":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    monkeypatch.setattr(shards, "_BLOCK_BYTES", block)
    monkeypatch.setattr(shards, "_WITHIN_BYTES", block)
    tensors = {"a": torch.randn(11, 3), "b": torch.randn(5), "c": torch.arange(9)}
    save_file(tensors, tmp_path / "old.safetensors")
    copy_file(tmp_path / "old.safetensors", tmp_path / "same.safetensors")
    assert (tmp_path / "same.safetensors").read_bytes() == (tmp_path / "old.safetensors").read_bytes()
    new = torch.randn(20, 3)
    rewrite_shard(tmp_path / "old.safetensors", tmp_path / "new.safetensors", {"a": new})
    read = load_file(tmp_path / "new.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in {**tensors, "a": new}.items())


def test_a_full_disk_is_not_taken_for_a_system_that_cannot_copy(tmp_path, monkeypatch):
    save_file({"a": torch.randn(5)}, tmp_path / "x.safetensors")
    monkeypatch.setattr(os, "copy_file_range", refusing(errno.ENOSPC), raising=False)
    with pytest.raises(OSError, match="No space left"):
        copy_file(tmp_path / "x.safetensors", tmp_path / "y.safetensors")


def test_a_file_that_is_cut_short_meanwhile_is_told(tmp_path, monkeypatch):
    save_file({"a": torch.randn(5), "b": torch.randn(5000)}, tmp_path / "x.safetensors")
    original = shards._read_header_bytes

    def then_cut(path):
        found = original(path)
        os.truncate(path, path.stat().st_size - 100)
        return found

    monkeypatch.setattr(shards, "_read_header_bytes", then_cut)
    with pytest.raises(ModelError, match="changed meanwhile"):
        rewrite_shard(tmp_path / "x.safetensors", tmp_path / "y.safetensors", {"a": torch.randn(6)})
