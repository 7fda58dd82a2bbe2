"""Artefact folders: whole or not there."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.artifacts import write_artifact
from vocabalign.errors import ArtifactError
from vocabalign.fingerprints import fingerprint_folder, fingerprint_paths, fingerprint_run, fingerprint_value
from vocabalign.folders import work_folder
from vocabalign.manifests import is_up_to_date, read_manifest, run_identity


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


def test_a_missing_input_is_told(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        fingerprint_paths(tmp_path / "nothing")


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=20), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_fingerprint_is_of_names_and_contents_alone(tmp_path_factory, files):
    first, second = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    for folder, names in ((first, list(files)), (second, list(reversed(files)))):
        for name in names:
            (folder / name).write_bytes(files[name])
    assert fingerprint_folder(first) == fingerprint_folder(second)
    name = next(iter(files))
    (second / name).write_bytes(files[name] + b"!")
    assert fingerprint_folder(first) != fingerprint_folder(second)


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


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="is a file"):
        write(tmp_path / "file" / "out")


def test_a_value_has_one_fingerprint_whatever_the_order_of_its_keys():
    assert fingerprint_value({"a": 1, "b": [2]}) == fingerprint_value({"b": [2], "a": 1})
    assert fingerprint_value({"a": 1}) != fingerprint_value({"a": 2})


def test_a_manifest_is_json_that_reads_back(tmp_path):
    write(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["python"].startswith("3.")


def test_globs_are_expanded_at_every_depth(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.txt").write_text("x")
    pattern = f"{tmp_path}/**/*.txt"
    before = fingerprint_paths(pattern)
    (tmp_path / "y.txt").write_text("y")
    assert fingerprint_paths(pattern) != before
