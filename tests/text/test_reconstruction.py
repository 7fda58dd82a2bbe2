"""Encoding text and joining the bytes gives the text back, or the report says why not."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vocabalign.text.reconstruction import check_reconstruction
from vocabalign.text.tokenizers import load_vocabulary, probe_texts

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581<"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT)
def test_lossless_tokenizers(byte_level_folder, metaspace_folder, text):
    for folder in (byte_level_folder, metaspace_folder):
        report = check_reconstruction(_load(folder), [text])
        assert report.counts == {"exact": 1}, (folder, report)


_loaded = {}


def _load(folder):
    return _loaded.setdefault(folder, None) or _loaded.__setitem__(folder, load_vocabulary(folder)) or _loaded[folder]


def test_wrong_bytes_are_found(byte_level_folder):
    vocabulary = load_vocabulary(byte_level_folder)
    token = vocabulary.encode("The cat")[-1]
    table = list(vocabulary.token_bytes)
    table[token] = b"#" * len(table[token])
    report = check_reconstruction(dataclasses.replace(vocabulary, token_bytes=tuple(table)), ["The cat"])
    assert not report.proven and report.examples == [("different", "The cat")] and report.failing_ids == [token]


def test_reasons():
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "cat": 1, "s": 2, "##s": 3}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = load_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]"))
    report = check_reconstruction(vocabulary, ["cats", "Cats", "cat s", "dog", "[UNK]"])
    assert report.counts == {"exact": 1, "normalized": 1, "whitespace": 1, "unknown": 2}
    assert report.proven and not report.lossless
    assert report.lost_bytes[ord(" ")] == 1 and report.lost_bytes[ord("g")] == 1
    assert report.unknown == {b"dog": 1, b"[UNK]": 1} and report.lost_white_space == {" ": 1}


def test_what_was_lost_is_told_to_the_byte():
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = load_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]"))
    report = check_reconstruction(vocabulary, ["a xa bcb  b\u3000\n \u00e9 xx", "\u00e9\ta"])
    assert report.counts == {"unknown": 2} and not report.failing_ids
    assert report.unknown == {b"xa": 1, b"bcb": 1, "\u00e9".encode(): 2, b"xx": 1}
    assert report.lost_white_space == {" ": 6, "\u3000": 1, "\n": 1, "\t": 1}
    assert report.lost_bytes.total() == sum(len(k) * n for k, n in report.unknown.items()) + 6 + 3 + 1 + 1


def test_an_unknown_token_excuses_nothing_else():
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = load_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]"))
    wrong = dataclasses.replace(vocabulary, token_bytes=(None, b"a", b"c"))
    report = check_reconstruction(wrong, ["a x b"])
    assert not report.proven and report.failing_ids == [2]


def test_bytes_that_the_alphabet_lacks_are_named():
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    report = check_reconstruction(load_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer)), ["abc"])
    assert report.counts == {"unknown": 1} and dict(report.lost_bytes) == {ord("c"): 1}
    assert report.unknown == {b"c": 1}


LOSSY = {"bert-uncased", "german-unigram-30k", "tinystories-bpe_16384", "tlm-833K-hf"}


SMALL = ["tokenizers/llama2", "tokenizers/bert-uncased", "tokenizers/german-unigram-30k"]
SMALL += ["tokenizers/raw/tokenizer_4096.model", "tokenizers/raw/r50k_base.tiktoken"]
SMALL += ["tokenizers/tinystories-bpe_16384", "models/tlm-833K-hf", "models/stories260K-hf"]
LARGE = ["gpt2", "llama3", "mistral-v0.1", "o200k_base", "phi-3", "pythia-neox", "qwen1.5"]


def check_folder(material, folder):
    path = material / "corpora/tinystories/heldout.jsonl"
    stories = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()[:5]]
    vocabulary = load_vocabulary(folder)
    report = check_reconstruction(vocabulary, probe_texts())
    assert report.proven, report
    assert report.lossless == (folder.name not in LOSSY), report
    if folder.name != "bert-uncased":
        assert check_reconstruction(vocabulary, stories).counts == {"exact": 5}


@pytest.mark.parametrize("name", SMALL)
def test_small_tokenizers_of_the_material(material, name):
    check_folder(material, material / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_tokenizers_of_the_material(material, name):
    check_folder(material, material / "tokenizers" / name)


@pytest.mark.parametrize("text", ["", " ", "\u0301", "a" * 3000, "\x00\r\n"])
def test_edges(byte_level_folder, metaspace_folder, text):
    for folder in (byte_level_folder, metaspace_folder):
        assert check_reconstruction(_load(folder), [text]).lossless
