"""Tokenizers of bytes and of characters that are written in Python."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer, CanineTokenizer, PreTrainedTokenizer

from vocabalign.errors import TokenizerError
from vocabalign.text.reconstruction import check_reconstruction
from vocabalign.text.tokenizers import load_tokenizer, load_vocabulary, probe_texts, save_tokenizer

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.fixture(scope="module")
def pair():
    tokenizer = ByT5Tokenizer()
    return tokenizer, load_vocabulary(tokenizer)


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_bytes(pair, text):
    tokenizer, vocabulary = pair
    assert vocabulary.encode(text) == tokenizer.encode(text, add_special_tokens=False)
    assert vocabulary.encode(text) == [byte + 3 for byte in text.encode()]
    assert check_reconstruction(vocabulary, [text]).counts == {"exact": 1}


def test_special_tokens_of_a_byte_tokenizer(pair):
    tokenizer, vocabulary = pair
    assert vocabulary.token_bytes[3:259] == tuple(bytes([byte]) for byte in range(256))
    assert vocabulary.roles == {"eos": 1, "pad": 0, "unk": 2} and set(range(259, 384)) <= vocabulary.special_ids
    assert vocabulary.tokenizer("abc").input_ids == tokenizer("abc").input_ids
    texts = probe_texts(["<extra_id_0>", "</s>"])
    assert vocabulary.encode_batch(texts) == [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def test_from_a_folder_and_into_one(pair, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    vocabulary = load_vocabulary(tmp_path / "in")
    assert vocabulary.fingerprint == pair[1].fingerprint
    save_tokenizer(tmp_path / "in", tmp_path / "out")
    assert load_vocabulary(tmp_path / "out").fingerprint == vocabulary.fingerprint
    assert load_tokenizer(tmp_path / "out")("abc").input_ids == pair[0]("abc").input_ids


@pytest.mark.slow
def test_characters():
    vocabulary = load_vocabulary(CanineTokenizer())
    assert vocabulary.encode("a\u00e9\U0001f600\n") == [ord(c) for c in "a\u00e9\U0001f600\n"]
    assert vocabulary.token_bytes[0x1F600] == "\U0001f600".encode() and vocabulary.token_bytes[0xD800] is None
    report = check_reconstruction(vocabulary, probe_texts())
    # NUL is this tokenizer's padding.
    assert report.counts["exact"] == report.num_texts - 1 and report.counts["special"] == 1


class Words(PreTrainedTokenizer):
    """Neither bytes nor characters."""

    vocab_size = 2

    def get_vocab(self):
        return {"<unk>": 0, "a": 1}

    def _tokenize(self, text):
        return text.split()

    def _convert_token_to_id(self, token):
        return self.get_vocab().get(token, 0)

    def _convert_id_to_token(self, index):
        return ["<unk>", "a"][index]


def test_others_are_refused():
    with pytest.raises(TokenizerError, match="neither to bytes nor to characters"):
        load_vocabulary(Words(unk_token="<unk>"))
