"""Tokens that are not what a token should be."""

from __future__ import annotations

import numpy as np
import pytest

from vocabalign.text.oddities import find_oddities
from vocabalign.text.tokenizers import load_vocabulary


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Byte-level BPE with one token of each odd kind behind the 256 bytes and one good token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)}
    #        given  never given: no merge makes it  not in the alphabet  a gap at 259  control  part of a character
    extra = {"ab": 256, "xyz": 257, "\u4e2d": 258, "aĀ": 260, "Ð°": 261}
    tokenizer = Tokenizer(models.BPE(vocabulary | extra, [("a", "b"), ("a", "Ā"), ("Ð", "°")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("odd")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return load_vocabulary(folder)


def test_each_kind(odd):
    oddities = find_oddities(odd)
    assert oddities.gaps == [259]
    assert oddities.without_text == [258]
    assert oddities.never_given == [257]
    assert 260 in oddities.control_characters
    assert 256 not in oddities.control_characters + oddities.fragments + oddities.never_given
    assert {odd.token_bytes[i] for i in oddities.fragments} >= {bytes([byte]) for byte in range(128, 256)}
    assert oddities.byte_tokens == oddities.idle_byte_tokens == oddities.several_scripts == []


def test_a_used_token_is_not_called_idle(odd):
    counts = np.zeros(len(odd), dtype=np.int64)
    counts[257] = 1
    assert find_oddities(odd, counts).never_given == []


def test_byte_tokens(metaspace_folder):
    vocabulary = load_vocabulary(metaspace_folder)
    oddities = find_oddities(vocabulary)
    assert oddities.byte_tokens == sorted(vocabulary.byte_ids) and len(oddities.byte_tokens) == 256
    assert vocabulary.raw_tokens.index("<0x2E>") in oddities.idle_byte_tokens
    assert vocabulary.raw_tokens.index("<0x0A>") not in oddities.idle_byte_tokens or "\n" in vocabulary.raw_tokens


def test_what_is_called_idle_is_never_given(byte_level_folder, texts):
    vocabulary = load_vocabulary(byte_level_folder)
    oddities = find_oddities(vocabulary)
    idle = {*oddities.never_given, *oddities.duplicates, *oddities.idle_byte_tokens}
    assert not idle.intersection(i for text in texts for i in vocabulary.encode(text))


@pytest.mark.parametrize(("name", "least", "most"), [("qwen1.5", 1500, 2500), ("gpt2", 0, 0), ("llama2", 0, 0)])
def test_real_ones(material, name, least, most):
    """Qwen has some 1,900 tokens, most of them Thai, whose marks its pre-tokenizer cuts away from the letters."""
    oddities = find_oddities(load_vocabulary(material / "tokenizers" / name))
    assert least <= len(oddities.never_given) <= most
