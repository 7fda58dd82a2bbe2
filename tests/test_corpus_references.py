"""How an entry of a corpus is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.corpus_references import HubDataset, is_hub, split_weight
from vocabalign.errors import CorpusError
from vocabalign.fingerprints import fingerprint_paths


@given(st.floats(1e-3, 1e6))
def test_a_weight_is_what_stands_behind_the_last_equals_sign(weight):
    assert split_weight(f"a=b/c.txt={weight!r}") == ("a=b/c.txt", weight)


@pytest.mark.parametrize("entry", ["a.txt", "a=b.txt", "=2", "a=", "a=-1", "a=nan", "@text/train.jsonl"])
def test_what_is_no_weight_belongs_to_the_path(entry):
    assert split_weight(entry) == (entry, 1.0)


def test_a_file_of_that_name_wins_and_the_weight_counts_for_the_fingerprint(tmp_path):
    (tmp_path / "a=2").write_text("x")
    (tmp_path / "a").write_text("x")
    assert split_weight(str(tmp_path / "a=2")) == (str(tmp_path / "a=2"), 1.0)
    plain = fingerprint_paths([str(tmp_path / "a")])
    assert plain != fingerprint_paths([f"{tmp_path / 'a'}=3"]) != fingerprint_paths([f"{tmp_path / 'a'}=4"])
    with pytest.raises(CorpusError, match="above 0"):
        split_weight("a=0")


def test_datasets_of_the_hub(tmp_path):
    assert HubDataset.parse("hub:o/n") == HubDataset("o/n", None, None, "train")
    assert HubDataset.parse("hub:o/n@v1:ru:test") == HubDataset("o/n", "v1", "ru", "test")
    assert is_hub("hub:x") and not is_hub("x")
    for wrong in ("hub:", "hub:a:b:c:d", "hub:a::b"):
        with pytest.raises(CorpusError, match="is not the name of a dataset"):
            HubDataset.parse(wrong)
    before = fingerprint_paths([f"hub:{tmp_path}"])
    (tmp_path / "train.jsonl").write_text("{}")
    assert fingerprint_paths([f"hub:{tmp_path}"]) != before
    assert fingerprint_paths(["hub:o/n"]) != fingerprint_paths(["hub:o/n:test"])
