"""The corpus reader: what it gives back, and one sentence for everything that can be wrong."""

import bz2
import gzip
import json
import lzma

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.errors import CorpusError
from vocabalign.text.corpus import PIECE_BYTES, corpus_bytes, corpus_files, read_documents, read_texts

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["é", "word ", "x" * 5000, "\r\n", "語" * 9000, "line\n", "\U0001f600" * 7000])))
def test_pieces_of_a_text_file_give_it_back(tmp_path_factory, parts):
    text = "start" + "".join(parts)
    path = tmp_path_factory.mktemp("pieces") / "a.txt"
    path.write_text(text, encoding="utf-8", newline="")
    pieces = list(read_texts([path]))
    kept = "".join(pieces)
    assert kept == text or (kept.strip() == text.strip())
    assert all(len(piece.encode()) <= PIECE_BYTES for piece in pieces)


def test_pieces_end_at_line_ends(tmp_path):
    text = "".join(f"line {number}\r\n" for number in range(30_000))
    (tmp_path / "a.txt").write_text(text, newline="")
    documents = list(read_documents([tmp_path / "a.txt"]))
    assert len(documents) > 1 and [d.index for d in documents] == list(range(len(documents)))
    assert all(d.text.endswith("\r\n") for d in documents)
    assert "".join(d.text for d in documents) == text


@pytest.mark.parametrize("ending", PACK)
def test_compressed(tmp_path, ending):
    raw = b"".join(json.dumps({"text": f"t{i} \u00e9"}).encode() + b"\n" for i in range(5000))
    path = tmp_path / f"a.jsonl{ending}"
    # Two members or frames in one file, as from `cat a b`.
    path.write_bytes(PACK[ending](raw[: len(raw) // 2]) + PACK[ending](raw[len(raw) // 2 :]))
    assert list(read_texts([path])) == [f"t{i} \u00e9" for i in range(5000)]
    whole = PACK[ending](raw)
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(CorpusError, match="a.jsonl"):
        list(read_texts([path]))
    path.write_bytes(b"not compressed at all")
    with pytest.raises(CorpusError, match="cannot be read"):
        list(read_texts([path]))


def test_messages(tmp_path):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    path = write(tmp_path / "a.ndjson", {"messages": messages}, {"text": "plain", "messages": None})
    first, second = read_documents([path])
    assert first.text == "Hi\n\nYes?" and first.messages == (("user", "Hi"), ("assistant", "Yes?"))
    assert second.text == "plain" and second.messages is None and second.index == 1


def test_order_folders_globs_and_blanks(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b/2.txt", "1.txt", ".hidden/0.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "3.txt").write_text("  \n ")
    (tmp_path / "manifest.json").write_text("{}")
    assert list(read_texts([tmp_path])) == ["1.txt", "b/2.txt"]
    assert list(read_texts([tmp_path / "b", str(tmp_path / "[0-9].txt")])) == ["b/2.txt", "1.txt"]
    assert corpus_bytes([tmp_path]) == sum(p.stat().st_size for p in corpus_files([tmp_path]))


@pytest.mark.parametrize("limit", [1, 2, 7, 8, 100])
def test_max_bytes_is_never_exceeded(tmp_path, limit):
    path = write(tmp_path / "a.jsonl", {"text": "a\u00e9\u00e9"}, {"text": "second"})
    total = len("".join(read_texts([path], max_bytes=limit)).encode())
    assert limit - 1 <= total <= limit or total == 11


BAD = {
    "encoding": ("a.txt", b"abc\n" + b"\xff\xfe", "byte 4 is 0xFF"),
    "encoding late": ("a.txt", b"x" * 70_000 + b"\xe9 ", "byte 70000"),
    "encoding in lines": ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', "byte 24"),
    "json": ("a.jsonl", b'{"text": "a"}\n{"text": \n', "line 2"),
    "no field": ("a.jsonl", b'{"question": "a", "answer": "b"}\n', "'question', 'answer'"),
    "not an object": ("a.jsonl", b"[1]\n", "JSON list"),
    "not a string": ("a.jsonl", b'{"text": 3}\n', "must be a string"),
    "messages": ("a.jsonl", b'{"messages": [{"role": "user"}]}\n', "'content'"),
    "surrogate": ("a.jsonl", b'{"text": "\\ud800"}\n', "surrogate"),
    "ending": ("a.csv", b"text\n", "not recognised"),
    "empty": ("a.jsonl", b"", "no documents"),
    "blank": ("a.txt", b" \n", "only blank text"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    file, content, message = BAD[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        list(read_documents([tmp_path / file]))
    assert file in str(caught.value) and "\n" not in str(caught.value)


def test_both_sides_of_a_split_are_not_read_together(tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    for name in ("train", "heldout"):
        (folder / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    assert sorted(read_texts(folder)) == ["heldout", "train"], "any folder may hold files of these names"
    (folder / "manifest.json").write_text('{"stage": "corpus"}')
    for corpus in (folder, tmp_path, str(tmp_path / "spl*")):
        with pytest.raises(CorpusError, match="both sides of a split: give .*train.jsonl"):
            list(read_texts([corpus]))
    assert list(read_texts(folder / "train.jsonl")) == ["train"]


def test_bad_paths(tmp_path):
    for corpus, message in (
        ([tmp_path / "no.txt"], "does not exist"),
        ([str(tmp_path / "*.txt")], "matches nothing"),
        ([tmp_path], "holds no text files"),
        ([], "No corpus"),
    ):
        with pytest.raises(CorpusError, match=message):
            list(read_documents(corpus))
