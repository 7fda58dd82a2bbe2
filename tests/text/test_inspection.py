"""Inspection: the known figures, and a table."""

import json

import pytest

from vocabalign.errors import CorpusError
from vocabalign.text.inspection import format_inspection, inspect_vocabularies
from vocabalign.text.tokenizers import load_vocabulary


def test_one(byte_level_folder, corpus_file):
    vocabulary = load_vocabulary(byte_level_folder)
    result = inspect_vocabularies(vocabulary, None, [corpus_file])
    entry = json.loads(json.dumps(result))["vocabularies"][0]
    assert entry["kind"] == "byte-level" and entry["size"] == 400 and entry["special_tokens"] == ["<|endoftext|>"]
    compression = entry["compression"]
    assert compression["tokens"] * compression["bytes_per_token"] == pytest.approx(result["corpus"]["bytes"])
    assert compression["bytes_in_tokens_share"] == 1 and compression["unknown_share"] == 0
    assert "bytes per token" in format_inspection(result) and "shared" not in result


def test_two(byte_level_folder, metaspace_folder, corpus_file):
    a, b = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    shared = inspect_vocabularies(a, b, [corpus_file])["shared"]
    assert shared["raw_string"]["types_of_b"] < shared["bytes"]["types_of_b"]
    for side in "ab":
        for measure in ("type_share_of_", "token_share_of_"):
            values = [entry[measure + side] for name, entry in shared.items() if name != "raw_string"]
            assert values == sorted(values) and 0 < values[0] <= values[-1] <= 1
    same = inspect_vocabularies(a, a)["shared"]
    assert same["raw_string"]["type_share_of_a"] == 1 and same["bytes"]["types_of_a"] == 399
    table = format_inspection(inspect_vocabularies(a, b))
    assert "shared by" in table and "byte-level BPE" in table


def test_custom_vocabulary_and_bad_corpus(tmp_path):
    vocabulary = load_vocabulary(([b"a", b"A"], lambda text: [0] * len(text)))
    assert inspect_vocabularies(vocabulary)["vocabularies"][0]["kind"] == "custom"
    with pytest.raises(CorpusError, match="does not exist"):
        inspect_vocabularies(vocabulary, None, [tmp_path / "no.txt"])


def test_pythia_and_llama(material):
    a, b = (load_vocabulary(material / "tokenizers" / name) for name in ("pythia-neox", "llama2"))
    result = inspect_vocabularies(a, b, [material / "corpora/hfcourse/en.txt"], max_bytes=100_000)
    shared = result["shared"]
    assert round(100 * shared["raw_string"]["type_share_of_b"], 2) == 28.10
    assert round(100 * shared["bytes"]["type_share_of_b"], 2) == 68.51
    assert shared["bytes"]["token_share_of_b"] > 0.98
    assert result["vocabularies"][0]["unreachable_duplicates"]
