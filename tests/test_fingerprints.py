"""Fingerprints: of content, not of names of machines or times."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.errors import ArtifactError
from vocabalign.fingerprints import fingerprint_file, fingerprint_folder, fingerprint_paths, fingerprint_value


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


def test_a_value_has_one_fingerprint_whatever_the_order_of_its_keys():
    assert fingerprint_value({"a": 1, "b": [2]}) == fingerprint_value({"b": [2], "a": 1})
    assert fingerprint_value({"a": 1}) != fingerprint_value({"a": 2})


def test_globs_are_expanded_at_every_depth(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.txt").write_text("x")
    pattern = f"{tmp_path}/**/*.txt"
    before = fingerprint_paths(pattern)
    (tmp_path / "y.txt").write_text("y")
    assert fingerprint_paths(pattern) != before


def test_a_large_file_that_changes_has_another_fingerprint(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"a" * 2**23)
    before = fingerprint_file(path)
    assert fingerprint_file(path) == before
    path.write_bytes(b"a" * (2**23 - 1) + b"b")
    os.utime(path, ns=(1, 1))
    assert fingerprint_file(path) != before
