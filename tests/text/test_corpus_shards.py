"""Parts of a corpus: together they are the whole, each document once."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.errors import ConfigError, CorpusError
from vocabalign.text.corpus import corpus_files, read_texts
from vocabalign.text.corpus_shards import Shard, corpus_digest, portions, read_shard


def write_corpus(folder, files):
    folder.mkdir(exist_ok=True)
    for number, documents in enumerate(files):
        lines = [json.dumps({"text": text}) for text in documents]
        (folder / f"{number:03d}.jsonl").write_text("\n".join(lines) + "\n")
    return [str(folder)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.text("abc ", max_size=40), max_size=12), min_size=1, max_size=6),
    st.integers(1, 7),
)
def test_the_parts_are_the_whole(tmp_path_factory, files, of):
    corpus = write_corpus(tmp_path_factory.mktemp("corpus"), files)
    parts = [list(read_shard(corpus, Shard(number, of))) for number in range(1, of + 1)]
    try:
        whole = list(read_texts(corpus))
    except CorpusError:  # nothing but blank documents
        whole = []
    assert sum(map(Counter, parts), Counter()) == Counter(whole)
    if of == 1:
        assert parts[0] == whole


def test_small_files_go_whole_and_evenly_large_ones_are_dealt_out(tmp_path):
    corpus = write_corpus(tmp_path, [["x" * 100] * 40, *([["y" * 50] * 4] * 8)])
    files = corpus_files(corpus)
    shares = [portions(files, Shard(number, 4)) for number in range(1, 5)]
    dealt = [[portion for portion in share if portion.step == 4] for share in shares]
    assert [[(portion.path, portion.first) for portion in share] for share in dealt] == [
        [(files[0], i)] for i in range(4)
    ]
    whole = [[portion.path for portion in share if portion.step == 1] for share in shares]
    assert sorted(path for share in whole for path in share) == files[1:]
    assert [len(share) for share in whole] == [2, 2, 2, 2]


def test_plain_text_is_dealt_out_in_pieces(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {number} with some words in it\n" for number in range(20_000)))
    parts = [list(read_shard([path], Shard(number, 3))) for number in (1, 2, 3)]
    assert sum(map(Counter, parts), Counter()) == Counter(read_texts([path])) and all(len(part) > 1 for part in parts)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/2", "a/b", "1/2/3", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ConfigError, match="i/n"):
        Shard.parse(text)


def test_shards_read_and_write_the_same():
    assert Shard.parse("2/8") == Shard(2, 8) and str(Shard(2, 8)) == "2/8"


def test_the_digest_tells_corpora_apart_wherever_they_lie(tmp_path):
    first = write_corpus(tmp_path / "a", [["one"], ["two"]])
    moved = write_corpus(tmp_path / "b", [["one"], ["two"]])
    longer = write_corpus(tmp_path / "c", [["one"], ["three"]])
    assert corpus_digest(first) == corpus_digest(moved) != corpus_digest(longer)
