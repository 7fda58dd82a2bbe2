"""Fine-tuning on tiny models: what is trained, and what is written."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.conftest import make_byte_level_tokenizer, make_llama
from tests.train.runs import distilled, finetuned, losses, make_neox, weights
from vocabalign.manifests import read_manifest


def test_rows_alone_are_trained_and_really(tmp_path, tiny_llama, corpus_file):
    out = finetuned(tiny_llama, corpus_file, tmp_path / "out", rows_share=1.0)
    before, after = weights(tiny_llama), weights(out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight"}


def test_rows_of_tied_and_of_neox_models(tmp_path, corpus_file):
    tied = tmp_path / "tied"
    make_byte_level_tokenizer(tied)
    make_llama(tied, 400, tied=True)
    neox = make_neox(tmp_path / "neox")
    for folder, expected in (
        (tied, {"model.embed_tokens.weight"}),
        (neox, {"gpt_neox.embed_in.weight", "embed_out.weight"}),
    ):
        out = finetuned(folder, corpus_file, tmp_path / f"out-{folder.name}", rows_share=1.0)
        before, after = weights(folder), weights(out)
        assert {name for name in before if not torch.equal(before[name], after[name])} == expected


def test_two_parts_and_an_ordinary_folder(tmp_path, corpus_file, heldout_file):
    folder = make_neox(tmp_path / "model", torch.float16)
    (folder / "provenance.json").write_text('{"source": "x"}')
    out = finetuned(
        folder, corpus_file, tmp_path / "out", {"steps": 40}, learning_rate=3e-3, heldout=[str(heldout_file)]
    )
    assert all(tensor.dtype == torch.float16 for tensor in weights(out).values())
    assert any(not torch.equal(a, weights(out)[name]) for name, a in weights(folder).items() if "layers.1" in name)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "provenance.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert AutoModelForCausalLM.from_pretrained(out).config.model_type == "gpt_neox"
    assert AutoTokenizer.from_pretrained(out)
    metrics = read_manifest(out)["metrics"]
    assert metrics["steps"] == 40 and metrics["tokens"] == 40 * 4 * 32
    assert metrics["heldout_bits_per_byte"] < metrics["heldout_bits_per_byte_before"]
    assert losses(out)[-1] < losses(out)[0]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "loss" in line]
    assert max(rates[:20]) == 6.4e-4 and max(rates[20:]) == 3e-3 and rates[19] == pytest.approx(6.4e-5)


def test_bfloat16_and_gradient_checkpointing(tmp_path, tiny_llama, corpus_file):
    plain = finetuned(tiny_llama, corpus_file, tmp_path / "a")
    saving = finetuned(tiny_llama, corpus_file, tmp_path / "b", {"gradient_checkpointing": True})
    half = finetuned(tiny_llama, corpus_file, tmp_path / "c", dtype="bfloat16")
    assert losses(saving) == pytest.approx(losses(plain), abs=1e-5)
    assert losses(half) == pytest.approx(losses(plain), abs=2e-2) and losses(half) != losses(plain)


def test_real_models(tmp_path, material):
    model, corpus = material / "models" / "stories260K-hf", material / "corpora" / "tinystories" / "heldout.jsonl"
    before = finetuned(model, corpus, tmp_path / "finetuned", {"steps": 5, "context": 128}, learning_rate=1e-4)
    assert losses(before)[-1] < 5
    out = distilled(before, model, corpus, tmp_path / "distilled", {"steps": 3, "context": 128})
    assert losses(out)[-1] < 5
