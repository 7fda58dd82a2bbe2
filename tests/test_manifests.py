"""Manifests: what an artefact was made from, and whether it would be made the same again."""

import json
from pathlib import Path

import pytest

from vocabalign.artifacts import write_artifact
from vocabalign.errors import ArtifactError
from vocabalign.manifests import code_version, is_up_to_date, read_manifest, run_identity
from vocabalign.stages import STAGES


def write(out: Path) -> None:
    with write_artifact(out, "test", {"a": 1}, {}) as writer:
        (writer.folder / "file.txt").write_text("x")


def test_a_missing_or_broken_manifest_is_told(tmp_path):
    with pytest.raises(ArtifactError, match=r"no manifest\.json"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_manifest(tmp_path)


def test_up_to_date_means_same_config_inputs_and_code(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("a")
    inputs = {"corpus": [str(text)]}
    with write_artifact(tmp_path / "out", "test", {"a": 1, "out": "here"}, inputs):
        pass
    same = run_identity("test", {"a": 1, "out": "elsewhere"}, inputs)
    assert is_up_to_date(tmp_path / "out", same)
    assert not is_up_to_date(tmp_path / "out", run_identity("test", {"a": 2}, inputs))
    assert not is_up_to_date(tmp_path / "out", {**same, "code_version": "other"})
    text.write_text("b")
    assert not is_up_to_date(tmp_path / "out", run_identity("test", {"a": 1}, inputs))


def test_an_artefact_that_lost_a_file_is_not_up_to_date(tmp_path):
    write(tmp_path / "out")
    identity = run_identity("test", {"a": 1}, {})
    assert is_up_to_date(tmp_path / "out", identity)
    (tmp_path / "out" / "file.txt").unlink()
    assert not is_up_to_date(tmp_path / "out", identity)


def test_a_manifest_is_json_that_reads_back(tmp_path):
    write(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["python"].startswith("3.")


def test_every_stage_has_a_code_version_of_its_own_packages():
    versions = {stage: code_version(stage) for stage in STAGES}
    assert all(versions.values()) and versions["finetune"] == versions["distill"] != versions["corpus"]
    assert code_version("no stage") == ""
