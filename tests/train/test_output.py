"""What training writes: values that its dtype holds, read back, equal for equal runs."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.train.runs import finetuned, make_neox
from vocabalign.errors import TrainingError, VerificationError
from vocabalign.manifests import read_manifest
from vocabalign.train import output
from vocabalign.train.output import check_finite, check_reads_back, copy_other_files


def test_values_that_the_dtype_cannot_hold_are_named(tiny_llama, tmp_path, corpus_file, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    check_finite(model, torch.float16)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = 70_000.0
    check_finite(model, torch.bfloat16)
    with pytest.raises(TrainingError, match=r"layers\.1\.mlp\.up_proj\.weight holds 7e\+04.*at most 65504"):
        check_finite(model, torch.float16)
    with torch.no_grad():
        model.model.embed_tokens.weight[3, 3] = float("nan")
    with pytest.raises(TrainingError, match="embed_tokens"):
        check_finite(model, torch.float32)
    half = make_neox(tmp_path / "half", torch.float16)

    def too_large(config, run, trainee, *_):
        with torch.no_grad():
            trainee.model.get_output_embeddings().weight[1, 1] = 1e6

    monkeypatch.setattr("vocabalign.train.finetune.train_parts", too_large)
    with pytest.raises(TrainingError, match="lm_head.weight holds 1e"):
        finetuned(half, corpus_file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_written_is_read_back(tiny_llama, tmp_path, monkeypatch, caplog):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    check_reads_back(model, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = torch.nextafter(tensors["model.norm.weight"][0], torch.tensor(9.0))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(VerificationError, match=r"model\.norm\.weight"):
        check_reads_back(model, folder)
    monkeypatch.setattr(output, "RELOAD_BYTES", 10)
    caplog.set_level("INFO", "vocabalign")
    check_reads_back(model, folder)
    assert "not read back" in caplog.text


def test_a_run_reads_back_what_it_wrote(tiny_llama, tmp_path, corpus_file, monkeypatch):
    original = output.copy_other_files

    def spoil(source, folder):
        original(source, folder)
        config = json.loads((folder / "config.json").read_text())
        config["num_hidden_layers"] = 1
        (folder / "config.json").write_text(json.dumps(config))

    monkeypatch.setattr(output, "copy_other_files", spoil)
    with pytest.raises(VerificationError, match="layers.1"):
        finetuned(tiny_llama, corpus_file, tmp_path / "out", {"steps": 1})
    assert not (tmp_path / "out").exists()


def test_equal_runs_give_equal_files(tiny_llama, tmp_path, corpus_file):
    a, b = (finetuned(tiny_llama, corpus_file, tmp_path / name / "out", {"steps": 2}) for name in "ab")
    assert "tokens_per_second" in read_manifest(a)["metrics"]
    assert "per second" not in (a / "README.md").read_text()
    assert read_manifest(a)["files"] == read_manifest(b)["files"]


def test_small_subfolders_are_taken_along(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "out"
    wanted = ["additional_chat_templates/tool.jinja", "tokenizer/a.json", "chat_template.jinja", "extra/deep/note.txt"]
    others = [
        ".git/config",
        "checkpoint-3/config.json",
        "state/optimizer.pt",
        "old/model.safetensors",
        "resume/trainer_state.json",
        "pytorch_model.bin",
        "README.md",
    ]
    for name in wanted + others:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    folder.mkdir()
    copy_other_files(source, folder)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == sorted(wanted)
