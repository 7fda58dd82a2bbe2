"""Inspection: the known figures, and numbers that agree with each other."""

from __future__ import annotations

import json

import pytest

from vocabalign.errors import CorpusError
from vocabalign.text.inspection import inspect_vocabularies
from vocabalign.text.tokenizers import load_vocabulary


def test_one(byte_level_folder, corpus_file):
    vocabulary = load_vocabulary(byte_level_folder)
    result = json.loads(json.dumps(inspect_vocabularies(vocabulary, None, [corpus_file])))
    entry = result["vocabularies"][0]
    assert entry["kind"] == "byte-level" and entry["size"] == 400
    assert entry["special_tokens"] == [{"id": 0, "token": "<|endoftext|>", "roles": ["bos", "eos"]}]
    compression = entry["compression"]
    assert compression["tokens"] * compression["bytes_per_token"] == pytest.approx(result["corpus"]["bytes"])
    assert compression["bytes_in_tokens_share"] == 1 and compression["unknown_share"] == 0
    assert sum(entry["lengths"]["types"].values()) == 399
    assert sum(entry["lengths"]["tokens"].values()) == compression["tokens"]
    assert sum(counts["types"] for counts in entry["scripts"].values()) == 400
    assert sum(counts["tokens"] for counts in entry["scripts"].values()) == compression["tokens"]
    longest = [token["bytes"] for token in entry["longest_tokens"]]
    assert longest == sorted(longest, reverse=True) and longest[0] == max(map(int, entry["lengths"]["types"]))
    assert "shared" not in result


def test_files_add_up(byte_level_folder, metaspace_folder, corpus_file, tmp_path):
    (tmp_path / "ru.txt").write_text("Жила-была маленькая девочка.\n" * 30, encoding="utf-8")
    a, b = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    result = inspect_vocabularies(a, b, [corpus_file, tmp_path])
    files = result["corpus"]["files"]
    assert [file["label"] for file in files] == ["corpus", "ru"]
    assert result["corpus"]["bytes"] == sum(file["bytes"] for file in files)
    for i, side in enumerate("ab"):
        tokens = [file["compression"][i]["tokens"] for file in files]
        assert sum(tokens) == result["vocabularies"][i]["compression"]["tokens"]
        for rule, shares in result["shared"].items():
            parts = [file["shared"][rule][f"token_share_of_{side}"] for file in files]
            mean = sum(n * share for n, share in zip(tokens, parts)) / sum(tokens)
            assert mean == pytest.approx(shares[f"token_share_of_{side}"])


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
    assert result["false_friends"]["count"] == 123
    oddities = result["vocabularies"][0]["oddities"]
    # The model's own tokens for runs of spaces: added tokens for the same runs come first.
    assert a.ids_by_bytes()[b" " * 4] in oddities["duplicates"] and oddities["never_given"]
