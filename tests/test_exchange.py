"""Artefacts in files of other programs, there and back, and files that are no such thing."""

import json

import numpy as np
import pytest
from gensim.models import KeyedVectors

import vocabalign
from tests.test_lexicon_table import random_lexicon
from vocabalign.artifacts import write_artifact
from vocabalign.cli import run
from vocabalign.errors import ArtifactError, ConfigError
from vocabalign.exchange import export_artifact, import_embeddings, import_lexicon
from vocabalign.lexicon import Lexicon
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.token_embeddings import TokenEmbeddings, load_embeddings


@pytest.fixture
def lexicon_folder(tmp_path, byte_level_folder, metaspace_folder):
    sides = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    lexicon = random_lexicon(*sides, np.random.default_rng(0))
    config = {"source": str(byte_level_folder), "target": str(metaspace_folder)}
    with write_artifact(tmp_path / "lexicon", "align", config, {}) as writer:
        lexicon.save(writer.folder)
    return tmp_path / "lexicon"


@pytest.fixture
def embeddings_folder(tmp_path, byte_level_folder):
    vocabulary = load_vocabulary(byte_level_folder)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(vocabulary), 7)).astype(np.float32)
    counts = rng.integers(1, 1000, len(vocabulary))
    vectors[3:9], counts[3:9] = 0, 0
    with write_artifact(tmp_path / "embeddings", "embed", {"tokenizer": str(byte_level_folder)}, {}) as writer:
        TokenEmbeddings(vectors, counts, vocabulary.fingerprint).save(writer.folder)
    return tmp_path / "embeddings"


def assert_equal(one: Lexicon, other: Lexicon):
    for name in ("source_ids", "weights", "evidence", "confidence"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert (one.source_fingerprint, one.target_fingerprint) == (other.source_fingerprint, other.target_fingerprint)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_table_comes_back_as_the_same_lexicon(tmp_path, lexicon_folder, byte_level_folder, metaspace_folder, capsys):
    before = names(tmp_path)
    table, back = tmp_path / "sub" / "lexicon.tsv", tmp_path / "back"
    assert run(["export", str(lexicon_folder), "--out", str(table)]) == 0
    assert capsys.readouterr().out.strip() == str(table) and names(table.parent) == {"lexicon.tsv"}
    sides = ["--source", str(byte_level_folder), "--target", str(metaspace_folder)]
    assert run(["import", str(table), *sides, "--out", str(back), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["target_tokens"] == len(load_vocabulary(metaspace_folder))
    assert_equal(Lexicon.load(back), Lexicon.load(lexicon_folder))
    assert (back / "lexicon.tsv").read_bytes() == table.read_bytes()
    assert names(tmp_path) == before | {"sub", "back"}


def test_an_edited_line_is_what_the_artefact_says_then(tmp_path, lexicon_folder, byte_level_folder, metaspace_folder):
    table = export_artifact(lexicon_folder, tmp_path / "lexicon.tsv")
    lines = table.read_text(encoding="utf-8").split("\n")
    cells = lines[6].split("\t")
    lines[6] = "\t".join([cells[0], cells[1], "given", "0.9", "11=0.75 12=0.25"])
    table.write_text("\n".join(lines), encoding="utf-8")
    edited = import_lexicon(table, byte_level_folder, metaspace_folder, tmp_path / "edited")
    assert_equal(Lexicon.load(tmp_path / "edited"), edited)
    assert edited.source_ids[5, :2].tolist() == [11, 12] and edited.weights[5, :2].tolist() == [0.75, 0.25]
    others = np.arange(edited.num_targets) != 5
    width = edited.source_ids.shape[1]
    assert np.array_equal(edited.source_ids[others], Lexicon.load(lexicon_folder).source_ids[others, :width])


def test_tokaligns_file_there_and_back(tmp_path, lexicon_folder, byte_level_folder, metaspace_folder):
    path = tmp_path / "align_matrix.json"
    with pytest.raises(ArtifactError, match="fallback"):
        export_artifact(lexicon_folder, path)
    assert not path.exists()
    with pytest.raises(ConfigError, match="--fallback 100000 is no source token"):
        export_artifact(lexicon_folder, path, fallback=100_000)
    export_artifact(lexicon_folder, path, fallback=1)
    lexicon = Lexicon.load(lexicon_folder)
    best = np.where(lexicon.evidence > 0, lexicon.source_ids[:, 0], 1)
    assert json.loads(path.read_text()) == {str(i): int(best[i]) for i in range(len(best))}
    assert import_lexicon(path, byte_level_folder, metaspace_folder).source_ids[:, 0].tolist() == best.tolist()


@pytest.mark.parametrize("name", ["v.kv", "v.keyedvectors", "v.txt", "v.vec", "v.glove.txt"])
def test_vectors_there_and_back(tmp_path, embeddings_folder, byte_level_folder, name):
    path, back = tmp_path / name, tmp_path / "back"
    assert run(["export", str(embeddings_folder), "--out", str(path)]) == 0
    assert run(["import", str(path), "--tokenizer", str(byte_level_folder), "--out", str(back)]) == 0
    vocabulary = load_vocabulary(byte_level_folder)
    first, last = load_embeddings(embeddings_folder, vocabulary), load_embeddings(back, vocabulary)
    assert np.array_equal(first.vectors, last.vectors)
    # Text tells no counts.
    assert np.array_equal(last.counts, first.counts if "k" in path.suffix else np.zeros_like(first.counts))


def test_gensim_loads_what_is_exported_also_in_several_files(tmp_path, byte_level_folder):
    vocabulary = load_vocabulary(byte_level_folder)
    vectors = np.random.default_rng(0).standard_normal((len(vocabulary), 11_000_000 // len(vocabulary)), np.float32)
    with write_artifact(tmp_path / "e", "embed", {}, {}) as writer:
        TokenEmbeddings(vectors, np.ones(len(vocabulary), dtype=np.int64), vocabulary.fingerprint).save(writer.folder)
    path = export_artifact(tmp_path / "e", tmp_path / "v.kv")
    assert names(tmp_path) == {"e", "v.kv", "v.kv.vectors.npy"}
    assert np.array_equal(KeyedVectors.load(str(path))["5"], vectors[5])
    assert np.array_equal(import_embeddings(path, byte_level_folder).vectors, vectors)


def test_what_exists_is_only_replaced_when_asked(tmp_path, embeddings_folder, byte_level_folder):
    path = tmp_path / "v.txt"
    path.write_text("mine")
    with pytest.raises(ArtifactError, match="exists already.*--overwrite"):
        export_artifact(embeddings_folder, path)
    assert path.read_text() == "mine"
    export_artifact(embeddings_folder, path, overwrite=True)
    with pytest.raises(ArtifactError, match="exists already"):
        import_embeddings(path, byte_level_folder, embeddings_folder)


def test_a_disk_that_is_full_leaves_nothing(tmp_path, lexicon_folder, monkeypatch):
    def full(*args):
        args[0].write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vocabalign.exchange.write_table", full)
    before = names(tmp_path)
    with pytest.raises(ArtifactError, match="No space left"):
        export_artifact(lexicon_folder, tmp_path / "lexicon.tsv")
    assert names(tmp_path) == before


BAD = {
    "a lexicon as a picture": (["export", "LEXICON", "--out", "x.png"], 2, "ends in none of .tsv, .json"),
    "no artefact": (["export", "BYTE", "--out", "x.tsv"], 1, "not a vocabalign artefact"),
    "another kind": (["export", "OTHER", "--out", "x.tsv"], 1, "neither a lexicon nor token embeddings"),
    "other tokenizers": (["export", "LEXICON", "--out", "x.tsv", "--source", "META"], 1, "another source tokenizer"),
    "a fallback in a table": (["export", "LEXICON", "--out", "x.tsv", "--fallback", "1"], 2, "is for TokAlign's"),
    "neither said": (["import", "t.tsv", "--out", "x"], 2, "Say what the file is"),
    "both said": (["import", "t", "--tokenizer", "BYTE", "--source", "BYTE", "--out", "x"], 2, "Say what the file is"),
    "a broken table": (["import", "t.tsv", "--source", "BYTE", "--target", "META", "--out", "x"], 1, "line 1"),
    "no table": (["import", "t.png", "--source", "BYTE", "--target", "META", "--out", "x"], 1, "ends in none"),
    "a file that is not there": (
        ["import", "no.tsv", "--source", "BYTE", "--target", "META", "--out", "x"],
        1,
        "no.ts",
    ),
    "values not finite": (["import", "nan.txt", "--tokenizer", "BYTE", "--out", "x"], 1, "not finite, at the word '6'"),
    "two dimensions": (["import", "two.txt", "--tokenizer", "BYTE", "--out", "x"], 1, "line 2: expected a word and 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_a_sentence(
    tmp_path, monkeypatch, capsys, case, lexicon_folder, byte_level_folder, metaspace_folder
):
    arguments, code, said = BAD[case]
    monkeypatch.chdir(tmp_path)
    with write_artifact(tmp_path / "other", "corpus", {}, {}):
        pass
    (tmp_path / "t.tsv").write_text("a\tb\n")
    (tmp_path / "nan.txt").write_text("5 1 2 3\n6 1 nan 3\n")
    (tmp_path / "two.txt").write_text("5 1 2 3\n6 1 2\n")
    places = {"LEXICON": lexicon_folder, "BYTE": byte_level_folder, "META": metaspace_folder, "OTHER": "other"}
    before = names(tmp_path)
    assert run([str(places.get(argument, argument)) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert said in captured.err and "Traceback" not in captured.err and captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1 and names(tmp_path) == before


def test_the_functions_are_the_librarys():
    assert vocabalign.export_artifact is export_artifact and vocabalign.import_lexicon is import_lexicon
    assert vocabalign.import_embeddings is import_embeddings
