"""Folders that are whole or not there."""

import errno
import os

import pytest

from vocabalign.errors import ArtifactError
from vocabalign.folders import (
    discard,
    is_disk_full,
    make_folder,
    only_one,
    refuse_existing,
    remove_left_overs,
    replace_folder,
    told,
)


def test_an_empty_folder_is_not_in_the_way_and_a_foreign_one_always_is(tmp_path):
    (tmp_path / "empty").mkdir()
    refuse_existing(tmp_path / "empty", overwrite=False)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ArtifactError):
            refuse_existing(tmp_path / "thesis", overwrite)


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="is a file"):
        refuse_existing(tmp_path / "file" / "out", overwrite=False)
    with pytest.raises(ArtifactError, match="cannot be made"):
        make_folder(tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file"), True),
        (OSError(errno.EACCES, "x"), False),
    ],
)
def test_a_full_disk_is_known_in_the_words_of_every_library(error, full):
    assert is_disk_full(error) == full


def test_what_may_not_be_written_is_told_and_other_errors_stay(tmp_path):
    assert "cannot be written" in str(told(OSError(errno.EROFS, os.strerror(errno.EROFS)), tmp_path))
    error = ValueError("x")
    assert told(error, tmp_path) is error


def test_one_writer_at_a_time_and_the_lock_goes_with_it(tmp_path):
    with only_one(tmp_path / "out"), pytest.raises(ArtifactError, match="Another run"), only_one(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


def test_replacing_leaves_one_folder_and_left_overs_go(tmp_path):
    for name, text in (("out", "old"), (".out.partial-1", "new"), (".out.partial-2", "half")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
    replace_folder(tmp_path / ".out.partial-1", tmp_path / "out")
    remove_left_overs(tmp_path / "out")
    discard(tmp_path / ".out.work")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "new"
