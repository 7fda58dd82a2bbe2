"""Artefact folders: whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from vocabalign.artifacts import write_artifact
from vocabalign.errors import ArtifactError
from vocabalign.fingerprints import fingerprint_paths, fingerprint_run
from vocabalign.folders import work_folder
from vocabalign.manifests import read_manifest


def write(out: Path, text: str = "x", **options) -> None:
    with write_artifact(out, "test", {"a": 1}, {}, **options) as writer:
        (writer.folder / "file.txt").write_text(text)
        writer.metrics["number"] = 3


def test_an_artefact_has_its_files_and_a_manifest(tmp_path):
    write(tmp_path / "out", seed=5)
    manifest = read_manifest(tmp_path / "out")
    assert (tmp_path / "out" / "file.txt").read_text() == "x"
    assert manifest["stage"] == "test" and manifest["seed"] == 5 and manifest["metrics"] == {"number": 3}
    assert manifest["seconds"] >= 0 and manifest["peak_memory_bytes"] > 0 and list(manifest["files"]) == ["file.txt"]


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), SystemExit(1)])
def test_nothing_is_left_when_a_stage_fails(tmp_path, error):
    with pytest.raises(type(error)), write_artifact(tmp_path / "out", "test", {}, {}) as writer:
        (writer.folder / "half").write_text("x")
        raise error
    assert not list(tmp_path.iterdir())


def test_a_failure_before_the_first_checkpoint_leaves_no_work_folder(tmp_path):
    with pytest.raises(RuntimeError), write_artifact(tmp_path / "out", "test", {}, {}) as writer:
        assert writer.work.is_dir()
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_checkpoints_survive_a_failure_and_go_with_success(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), write_artifact(out, "test", {}, {}) as writer:
        (writer.work / "checkpoint").write_text("1")
        raise RuntimeError
    with write_artifact(out, "test", {}, {}) as writer:
        assert (writer.work / "checkpoint").read_text() == "1"
    assert not work_folder(out).exists()


def test_checkpoints_of_another_configuration_are_not_used(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), write_artifact(out, "test", {"steps": 1}, {}) as writer:
        (writer.work / "checkpoint").write_text("1")
        raise RuntimeError
    with write_artifact(out, "test", {"steps": 2}, {}) as writer:
        assert not (writer.work / "checkpoint").exists()


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(ArtifactError, match="exists already.*--overwrite"):
        write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "file.txt").read_text() == "old"


def test_overwrite_replaces_the_whole_folder_only_when_the_new_one_is_whole(tmp_path):
    write(tmp_path / "out", "old")
    with pytest.raises(RuntimeError), write_artifact(tmp_path / "out", "test", {}, {}, overwrite=True):
        raise RuntimeError
    assert (tmp_path / "out" / "file.txt").read_text() == "old"
    write(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out" / "file.txt").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_folder_that_is_no_artefact_is_never_replaced(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    with pytest.raises(ArtifactError, match="not an artefact"):
        write(tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious" / "thesis.tex").exists()


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".out.partial-1234").mkdir()
    write(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_no_space_left_is_told_in_one_sentence_and_leaves_nothing(tmp_path):
    with pytest.raises(ArtifactError, match="No space left"), write_artifact(tmp_path / "out", "test", {}, {}):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not (tmp_path / "out").exists()


def test_of_a_run_only_the_artefacts_count_and_not_the_report(tmp_path):
    write(tmp_path / "run" / "a")
    before = fingerprint_run(tmp_path / "run")
    with write_artifact(tmp_path / "run" / "page", "report", {"run": "r"}, {"run": [tmp_path / "run"]}):
        pass
    (tmp_path / "run" / "notes.txt").write_text("x")
    assert fingerprint_run(tmp_path / "run") == before
    write(tmp_path / "run" / "a", "other", overwrite=True)
    assert fingerprint_run(tmp_path / "run") != before


def test_a_corpus_with_an_artefact_inside_is_still_read_whole(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    write(tmp_path / "sub")
    before = fingerprint_paths(tmp_path)
    (tmp_path / "a.txt").write_text("b")
    assert fingerprint_paths(tmp_path) != before


def test_an_artefact_that_was_moved_aside_when_killed_comes_back(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.old-1234")
    with pytest.raises(RuntimeError), write_artifact(tmp_path / "out", "test", {}, {}, overwrite=True):
        raise RuntimeError
    assert (tmp_path / "out" / "file.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("moment", ["replace", "rmtree"])
def test_killed_while_replacing_or_cleaning_nothing_is_lost(tmp_path, moment):
    """A child process dies at each call of os.replace or shutil.rmtree in turn."""
    import multiprocessing

    for call in range(1, 4):
        out = tmp_path / f"{moment}{call}" / "out"
        out.parent.mkdir()
        write(out, "old")
        child = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(out, moment, call))
        child.start()
        child.join()
        write(out, "new", overwrite=True)
        assert (out / "file.txt").read_text() == "new"
        assert [path.name for path in out.parent.iterdir()] == ["out"]


def _write_and_die(out: Path, moment: str, call: int) -> None:
    import shutil

    module = os if moment == "replace" else shutil
    real, calls = getattr(module, moment), []

    def die(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            os._exit(9)
        return real(*arguments, **options)

    setattr(module, moment, die)
    with write_artifact(out, "test", {"b": 2}, {}, overwrite=True) as writer:
        (writer.folder / "file.txt").write_text("between")
        (writer.work / "checkpoint").write_text("1")


def test_two_runs_may_not_write_the_same_artefact_at_once(tmp_path):
    with write_artifact(tmp_path / "out", "test", {}, {}), pytest.raises(ArtifactError, match="Another run"):
        write(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
