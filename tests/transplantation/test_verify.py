import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import make_byte_level_tokenizer
from tests.transplantation.builders import build, target_tokenizer
from vocabalign.errors import VerificationError
from vocabalign.provenance import copied_rows
from vocabalign.stages import TransplantConfig
from vocabalign.transplantation.transplant_stage import run
from vocabalign.transplantation.verify import run_verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("verify")
    source = build("llama", root / "m", max_shard_size="40KB")
    target = target_tokenizer("metaspace", root / "t")
    return run(TransplantConfig(source=str(source), target=str(target), out=root / "out", pad_to_multiple_of=64))


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def edit_tensor(folder, name, change):
    shard = folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][name]
    tensors = load_file(shard)
    change(tensors[name])
    save_file(tensors, shard, metadata={"format": "pt"})


def test_a_whole_model_passes(folder):
    report = run_verify(folder)
    assert report["full"] and all(check["ok"] for check in report["checks"])
    assert "bit for bit" in next(check["detail"] for check in report["checks"] if check["name"] == "copied rows")


def detail_of(report, name):
    return next(check["detail"] for check in report["checks"] if check["name"] == name)


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_copies_that_calibration_moves_are_named(tmp_path, corpus_file, name):
    """Every token of the source has a row that is its row bit for bit, or is counted as moved and by what."""
    source, target = build(name, tmp_path / "m"), target_tokenizer("metaspace", tmp_path / "t")
    values = {"source": str(source), "target": str(target), "corpus": [str(corpus_file)]}
    for calibrated, fits in ((True, True), (True, False), (False, False)):
        out = run(TransplantConfig(
            **values, out=tmp_path / "out", overwrite=True, calibrate_head=calibrated, fit_rows=fits
        ))  # fmt: skip
        provenance = json.loads((out / "provenance.json").read_text())
        twins = {row for row, confidence in enumerate(provenance["confidence"]) if confidence >= 1}
        detail = detail_of(run_verify(out), "copied rows")
        for part in ("input",) if name == "llama-tied" else ("input", "head"):
            copied, moved = set(copied_rows(provenance, part)[0].tolist()), provenance["moved"][part]
            assert len(copied & twins) + sum(moved.values()) == len(twins) > 100 and f"{len(copied):,} of " in detail
            assert all(f"{count:,} {how}" in detail for how, count in moved.items())
        side = "input" if name == "llama-tied" else "head"
        assert bool(provenance["moved"][side]) == calibrated
        if not calibrated:
            assert "moved" not in detail


def test_a_plain_model_folder_passes(tmp_path):
    assert run_verify(build("gpt2", tmp_path / "m"))["full"]


def copied_row(folder):
    provenance = json.loads((folder / "provenance.json").read_text())
    return provenance["classes"].index(0)


BREAKAGES = {
    "special ids": lambda f: edit(f / "generation_config.json", eos_token_id=[2, 9999]),
    "weight files": lambda f: sorted(f.glob("model-*.safetensors"))[0].unlink(),
    "highest id": lambda f: make_byte_level_tokenizer(f, 900, ["".join(map(chr, range(0x400, 0x700)))]),
    "copied rows": lambda f: edit_tensor(f, "model.embed_tokens.weight", lambda t: t[copied_row(f)].add_(1)),
    "finite rows": lambda f: edit_tensor(f, "lm_head.weight", lambda t: t[7].fill_(float("nan"))),
    "running model": lambda f: edit_tensor(f, "lm_head.weight", lambda t: t[-1].copy_(50 * torch.ones(32).sign())),
    "dtypes": lambda f: edit(f / "config.json", dtype="bfloat16"),
}


@pytest.mark.parametrize("check", sorted(BREAKAGES))
def test_what_is_broken_is_named(folder, check):
    BREAKAGES[check](folder)
    with pytest.raises(VerificationError, match=check):
        run_verify(folder)


def test_a_tokenizer_that_reloads_differently_is_caught(tmp_path):
    """transformers 5 builds qwen2 tokenizers anew from their class, whatever tokenizer.json says."""
    folder = build("qwen2", tmp_path / "m")
    with pytest.raises(VerificationError, match="tokenizer"):
        run_verify(folder)
