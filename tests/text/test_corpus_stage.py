"""The corpus stage: two sides that never share a text, and samples within their limits."""

import json

import pytest

from vocabalign.errors import ConfigError, CorpusError
from vocabalign.manifests import read_manifest
from vocabalign.stages import CorpusConfig
from vocabalign.text import standard_library
from vocabalign.text.corpus_stage import run


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {i % 400} \u00e9"}) + "\n" for i in range(500)))
    return path


def texts(folder, side):
    return [json.loads(line)["text"] for line in (folder / f"{side}.jsonl").open(encoding="utf-8")]


def test_split(tmp_path, corpus):
    out = run(CorpusConfig(out=tmp_path / "out", corpus=[str(corpus)], heldout_percent=20))
    train, heldout = texts(out, "train"), texts(out, "heldout")
    assert len(train) + len(heldout) == 500
    assert 50 < len(heldout) < 150
    assert not set(train) & set(heldout)
    metrics = read_manifest(out)["metrics"]
    assert metrics["train_documents"] == len(train)
    assert metrics["heldout_bytes"] == sum(len(text.encode()) for text in heldout)


def test_limits_take_a_stable_spread_sample(tmp_path, corpus):
    full = run(CorpusConfig(out=tmp_path / "full", corpus=[str(corpus)], heldout_percent=20))
    config = CorpusConfig(
        out=tmp_path / "part", corpus=[str(corpus)], heldout_percent=20, max_bytes=2000, heldout_max_bytes=300
    )
    part = run(config)
    metrics = read_manifest(part)["metrics"]
    assert 1500 < metrics["train_bytes"] <= 2000 and 200 < metrics["heldout_bytes"] <= 300
    train = texts(full, "train")
    kept = set(texts(part, "train"))
    places = [i for i, text in enumerate(train) if text in kept]
    assert places[0] < len(train) / 4 and places[-1] > len(train) * 3 / 4
    assert set(texts(part, "heldout")) <= set(texts(full, "heldout"))


def test_standard_library_is_split_by_module(tmp_path):
    out = run(CorpusConfig(out=tmp_path / "out", standard_library=True, max_bytes=200_000, heldout_max_bytes=50_000))
    for side, expected in (("train", False), ("heldout", True)):
        modules = {json.loads(line)["module"] for line in (out / f"{side}.jsonl").open(encoding="utf-8")}
        assert modules and all(standard_library.is_heldout(module) == expected for module in modules)


@pytest.mark.parametrize("both", [True, False])
def test_one_source_of_text(tmp_path, both):
    with pytest.raises(ConfigError, match="both are given" if both else "neither is given"):
        run(CorpusConfig(out=tmp_path / "out", standard_library=both, corpus=["x.txt"] if both else []))


def test_nothing_is_left_behind(tmp_path):
    (tmp_path / "one.jsonl").write_text('{"text": "alone"}\n')
    with pytest.raises(CorpusError, match="heldout"):
        run(CorpusConfig(out=tmp_path / "out", corpus=[str(tmp_path / "one.jsonl")]))
    with pytest.raises(CorpusError, match="does not exist"):
        run(CorpusConfig(out=tmp_path / "out", corpus=[str(tmp_path / "no.jsonl")]))
    assert not (tmp_path / "out").exists()


def test_small_text_is_split_by_piece(tmp_path):
    """Formerly 64 kB pieces: too few for the hashes to hold one out."""
    book = "".join(f"line {i} of a book\n" for i in range(6000))
    (tmp_path / "book.txt").write_text(book)
    out = run(CorpusConfig(out=tmp_path / "out", corpus=[str(tmp_path / "book.txt")]))
    pieces = texts(out, "train") + texts(out, "heldout")
    assert len(pieces) > 6 and all(len(piece) <= 2**14 and piece.endswith("\n") for piece in pieces)
    assert sum(map(len, pieces)) == len(book)


def test_many_text_files_are_split_by_file(tmp_path):
    for number in range(20):
        text = "".join(f"line {i} of book {number}\n" for i in range(5000))
        (tmp_path / f"{number}.txt").write_text(text)
    out = run(CorpusConfig(out=tmp_path / "out", corpus=[str(tmp_path)], heldout_percent=40))
    sides = [{json.loads(line)["path"] for line in (out / f"{s}.jsonl").open()} for s in ("train", "heldout")]
    assert sides[0] and sides[1] and not sides[0] & sides[1] and len(sides[0] | sides[1]) == 20
    assert len(texts(out, "train") + texts(out, "heldout")) > 20


@pytest.mark.parametrize("percent", [0.001, 99.999])
def test_two_documents_are_enough(tmp_path, percent):
    path = tmp_path / "two.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    out = run(CorpusConfig(out=tmp_path / "out", corpus=[str(path)], heldout_percent=percent))
    assert len(texts(out, "train")) == len(texts(out, "heldout")) == 1
