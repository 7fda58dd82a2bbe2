"""The lexicon as an artefact."""

from dataclasses import replace

import numpy as np
import pytest

from vocabalign.artifacts import write_artifact
from vocabalign.errors import ArtifactError
from vocabalign.lexicon import Evidence, Lexicon


def make_lexicon(counts: np.ndarray | None = None) -> Lexicon:
    return Lexicon(
        source_ids=np.array([[3, 1], [2, -1], [-1, -1]], dtype=np.int32),
        weights=np.array([[0.75, 0.25], [1, 0], [0, 0]], dtype=np.float32),
        evidence=np.array([Evidence.COOCCURRENCE, Evidence.IDENTICAL, Evidence.NONE], dtype=np.uint8),
        confidence=np.array([0.5, 1, 0], dtype=np.float32),
        source_fingerprint="s",
        target_fingerprint="t",
        target_counts=counts,
    )


def test_a_lexicon_reads_back_as_it_was_written(tmp_path):
    lexicon = make_lexicon()
    with write_artifact(tmp_path / "l", "align", {}, {}) as writer:
        lexicon.save(writer.folder)
    again = Lexicon.load(tmp_path / "l")
    for name in ("source_ids", "weights", "evidence", "confidence"):
        assert np.array_equal(getattr(again, name), getattr(lexicon, name))
    assert (again.source_fingerprint, again.target_fingerprint) == ("s", "t")


def test_the_way_back_is_kept_but_not_by_an_assignment(tmp_path):
    lexicon = replace(make_lexicon(), reverse=np.array([2, -1, 0, 0]))
    with write_artifact(tmp_path / "l", "align", {}, {}) as writer:
        lexicon.save(writer.folder)
    assert Lexicon.load(tmp_path / "l").reverse.tolist() == lexicon.top(1).reverse.tolist() == [2, -1, 0, 0]
    assert lexicon.only(np.array([3, 2, -1])).reverse is None


@pytest.mark.parametrize("counts", [None, np.array([5, 0, 2])])
def test_counts_of_the_text_are_kept_where_there_was_one(tmp_path, counts):
    lexicon = make_lexicon(counts)
    with write_artifact(tmp_path / "l", "align", {}, {}) as writer:
        lexicon.save(writer.folder)
    for kept in (Lexicon.load(tmp_path / "l").target_counts, lexicon.top(1).target_counts):
        assert kept is None if counts is None else np.array_equal(kept, counts)


def test_equal_lexicons_give_equal_files(tmp_path):
    files = []
    for name in "abcdef":
        (tmp_path / name).mkdir()
        make_lexicon().save(tmp_path / name)
        files.append((tmp_path / name / "lexicon.safetensors").read_bytes())
    assert len(set(files)) == 1


def test_evidence_is_counted_by_class():
    counts = make_lexicon().evidence_counts()
    assert counts["identical"] == counts["cooccurrence"] == counts["none"] == 1 and sum(counts.values()) == 3


def test_a_folder_without_a_lexicon_and_a_broken_file_are_told(tmp_path):
    with pytest.raises(ArtifactError, match="holds no lexicon"):
        Lexicon.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "lexicon.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match="cannot be read"):
        Lexicon.load(tmp_path)
