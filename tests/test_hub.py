"""Pushing models: the whole way through the command, to a stand-in for the Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from vocabalign.hub import scores_beside

from .conftest import make_byte_level_tokenizer, make_llama, make_metaspace_tokenizer
from .hub_stand_in import TOKEN, hub


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    source = make_llama(make_byte_level_tokenizer(folder / "source"), 400)
    (source / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n# A model\n")
    return source, make_metaspace_tokenizer(folder / "target")


def command(*words, **environment):
    """The program in a process of its own: the Hub's library reads its settings when it is imported."""
    settings = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    line = [sys.executable, "-m", "vocabalign", *map(str, words)]
    return subprocess.run(line, env={**os.environ, **settings}, capture_output=True, text=True, timeout=300)


def test_a_transplant_is_pushed_when_it_is_whole(models, tmp_path):
    source, target = models
    out = tmp_path / "run" / "transplanted"
    words = ["transplant", "--source", source, "--target", target, "--out", out, "--json"]
    with hub() as server:
        result = command(*words, "--push-to-hub", "someone/adapted", HF_ENDPOINT=server.address, HF_TOKEN=TOKEN)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["pushed_to"] == f"{server.address}/someone/adapted"
        made = server.repositories["someone/adapted"]
        assert made.get("private") is True or made.get("visibility") == "private", made
        written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert set(server.files) == written
        for name in written - {"README.md"}:
            assert server.files[name] == (out / name).read_bytes(), name
        card = server.files["README.md"].decode()
        assert 'from_pretrained("someone/adapted")' in card and "PATH" not in card
        data = ModelCard(card).data
        assert data.license == "mit" and data.language == ["en"] and data.base_model == ["source"]

        # With an evaluation beside it, its scores are in the card.
        scores = [{"name": "transplanted", "path": str(out), "bits_per_byte": 1.23456, "tokens_per_kilobyte": 280.0}]
        (out.parent / "metrics").mkdir()
        (out.parent / "metrics" / "manifest.json").write_text("{}")
        (out.parent / "metrics" / "metrics.json").write_text(json.dumps({"models": scores}))
        assert scores_beside(out) == scores
        words = ["verify", out, "--push-to-hub", "someone/adapted"]
        result = command(*words, HF_ENDPOINT=server.address, HF_TOKEN=TOKEN)
        assert result.returncode == 0, result.stderr
        assert "| transplanted | 1.2346 |  | 280.0 |" in server.files["README.md"].decode()


def test_what_cannot_be_pushed_is_told_before_the_work(models, tmp_path):
    source, target = models
    words = ["transplant", "--source", source, "--target", target, "--out", tmp_path / "out", "--push-to-hub"]
    with hub() as server:
        for name, token, message in (
            ("not a name", TOKEN, "is no name of a repository"),
            ("someone/adapted", "hf_another", "status 401"),
        ):
            result = command(*words, name, HF_ENDPOINT=server.address, HF_TOKEN=token)
            assert result.returncode == 1 and message in result.stderr, result.stderr
        address = server.address
    result = command(*words, "someone/adapted", HF_ENDPOINT=address, HF_TOKEN=TOKEN)
    assert result.returncode == 1 and "cannot be reached" in result.stderr, result.stderr
    result = command(*words, "someone/adapted", HF_HUB_OFFLINE="1", HF_TOKEN=TOKEN)
    assert result.returncode == 1 and "HF_HUB_OFFLINE is set" in result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "out").exists()


def test_a_push_that_fails_leaves_the_model_and_says_how_to_try_again(models, tmp_path):
    source, target = models
    out = tmp_path / "out"
    with hub() as server:
        server.refuse_commits = True
        words = ["transplant", "--source", source, "--target", target, "--out", out, "--push-to-hub", "someone/adapted"]
        result = command(*words, HF_ENDPOINT=server.address, HF_TOKEN=TOKEN)
    assert result.returncode == 1 and "You have no storage left" in result.stderr
    assert f"vocabalign verify {out} --push-to-hub someone/adapted" in " ".join(result.stderr.split())
    assert (out / "manifest.json").is_file()


def test_scores_beside_nothing(tmp_path):
    assert scores_beside(tmp_path / "alone") == []
    (Path(tmp_path) / "metrics").mkdir()
    (tmp_path / "metrics" / "manifest.json").write_text("{}")
    (tmp_path / "metrics" / "metrics.json").write_text("[]")
    assert scores_beside(tmp_path / "alone") == []
