"""Ends in the original text, where a normalizer changed it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from tests.text.multilingual import texts
from vocabalign.text.alignment import align_tokens
from vocabalign.text.normalization import normalized
from vocabalign.text.original_offsets import original_ends
from vocabalign.text.spans import verified_ends
from vocabalign.text.tokenizers import load_vocabulary

COMPOSED = st.text(st.sampled_from("ae\u0301\u0323o\u00e9 \u00c5\u212b\n\u0436"), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def composing(byte_level_folder):
    tokenizer = Tokenizer.from_file(str(byte_level_folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.NFC()
    return load_vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer))


@pytest.fixture(scope="module")
def plain(byte_level_folder):
    return load_vocabulary(byte_level_folder)


@settings(max_examples=200, deadline=None)
@given(COMPOSED)
def test_every_part_is_what_its_tokens_say(composing, plain, text):
    ids = composing.encode(text)
    ends = original_ends(composing, ids, text)
    raw = text.encode()
    assert ends is not None
    assert ends[-1] == len(raw) and (np.diff(ends) >= 0).all()
    first = start = 0
    for index, end in enumerate(ends):
        if index + 1 < len(ends) and ends[index + 1] == end:
            continue
        part = b"".join(composing.token_bytes[i] for i in ids[first : index + 1])
        assert normalized(composing, raw[start:end].decode()).encode() == part
        first, start = index + 1, end
    # The other side cuts the text as it was: chunks are the same bytes of the original.
    alignment = align_tokens(composing, ids, plain, plain.encode(text), text)
    assert alignment.num_bytes == len(raw)


def test_a_composed_letter_ends_where_its_mark_ends(composing):
    text = "caf\u0065\u0301 ole\u0301"
    ends = verified_ends(composing, composing.encode(text), text)
    assert ends[-1] == len(text.encode()) and 4 not in ends and 6 in ends


def test_without_a_tokenizer_nothing_is_told():
    custom = load_vocabulary(([b"a"], lambda text: [0]))
    assert original_ends(custom, [0], "a") is None


@pytest.mark.parametrize("name", ["tokenizers/bert-uncased", "models/tlm-833K-hf", "tokenizers/german-unigram-30k"])
def test_real_normalizers(material, plain, name):
    vocabulary = load_vocabulary(material / name)
    text = "The \u00dcber-CAF\u00c9  had 3\u00bd items, na\u00efve \ufb01sh."
    ids = vocabulary.encode(text)
    ends = verified_ends(vocabulary, ids, text)
    if vocabulary.roles.get("unk") in ids:
        assert ends is None
    else:
        assert ends is not None and ends[-1] == len(text.encode())
        assert len(align_tokens(vocabulary, ids, plain, plain.encode(text), text)) > 5


@settings(max_examples=40, deadline=None)
@given(text=texts)
def test_refused_or_covering(material, text):
    vocabulary = load(material / "tokenizers/bert-uncased")
    ends = verified_ends(vocabulary, vocabulary.encode(text), text)
    assert ends is None or not len(ends) or (ends[-1] == len(text.encode()) and (np.diff(ends) >= 0).all())


_loaded = {}


def load(path):
    if path not in _loaded:
        _loaded[path] = load_vocabulary(path)
    return _loaded[path]
