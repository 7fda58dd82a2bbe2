"""Which text is scored, under which names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.errors import CorpusError
from vocabalign.text.heldout_text import file_names, groups_of, read_heldout


def write_lines(path: Path, *records: dict) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_one_file_without_labels_has_no_groups(tmp_path):
    text = read_heldout([write_lines(tmp_path / "a.jsonl", {"text": "x"}, {"text": "y"})])
    assert text.texts == ["x", "y"]
    assert list(groups_of(text.labels)) == []


def test_names_before_fields_before_files(tmp_path):
    a = write_lines(tmp_path / "a.jsonl", {"text": "1", "domain": "law", "language": "de"}, {"text": "2"})
    (tmp_path / "b.txt").write_text("3")
    files = read_heldout([a, str(tmp_path / "b.txt")])
    assert files.labels == {"domain": ["law", "a", "b"], "language": ["de", None, None]}
    named = read_heldout({"mine": a, "other": str(tmp_path / "b.txt")})
    assert named.labels["domain"] == ["mine", "mine", "other"]
    assert read_heldout([a]).labels["domain"] == ["law", None]


def test_groups_hold_every_labelled_document_once(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", *({"text": str(i), "language": "abc"[i % 3]} for i in range(10)))
    groups = {name: documents.tolist() for _, name, documents in groups_of(read_heldout([path]).labels)}
    assert groups == {"a": [0, 3, 6, 9], "b": [1, 4, 7], "c": [2, 5, 8]}


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5), limit=st.integers(1, 200))
def test_a_limit_is_shared_evenly(tmp_path_factory, sizes, limit):
    folder = tmp_path_factory.mktemp("shares")
    for number, size in enumerate(sizes):
        write_lines(folder / f"{number}.jsonl", *({"text": "x"} for _ in range(size)))
    text = read_heldout([str(folder)], limit)
    got = [text.labels["domain"].count(str(n)) if len(sizes) > 1 else len(text.texts) for n in range(len(sizes))]
    assert sum(got) == min(limit, sum(sizes))
    # What is cut is cut to the same length, but for what does not divide evenly.
    cut = [share for share, size in zip(got, sizes) if share < size]
    assert all(share <= min(cut) + 1 for share in got) if cut else got == sizes


def test_order_is_that_of_the_files(tmp_path):
    paths = [write_lines(tmp_path / f"{name}.jsonl", {"text": name * size}) for name, size in (("b", 9), ("a", 1))]
    assert read_heldout(paths, 100).texts == ["b" * 9, "a"]


def test_an_empty_file_among_others_is_left_out(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", {"text": "x"})
    (tmp_path / "empty.txt").write_text("")
    assert read_heldout([path, str(tmp_path / "empty.txt")]).texts == ["x"]
    with pytest.raises(CorpusError, match="no documents"):
        read_heldout([str(tmp_path / "empty.txt")])


def test_file_names_are_short_and_different():
    paths = [Path("/x/news/de.txt"), Path("/x/course/de.txt"), Path("/x/code.jsonl.zst"), Path("/x/a.b.txt")]
    assert list(file_names(paths).values()) == ["news/de", "course/de", "code", "a.b"]
    same = file_names([Path("/x/a.txt"), Path("/x/a.jsonl")])
    assert len(set(same.values())) == 2
