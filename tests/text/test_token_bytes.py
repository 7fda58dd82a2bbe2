"""Bytes of tokens: from components alone, for every kind."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from vocabalign.errors import TokenizerError
from vocabalign.text.token_bytes import byte_alphabet, read_components, read_token_bytes


def state_of(tokenizer):
    return json.loads(tokenizer.to_str())


def test_alphabet_is_that_of_the_library():
    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))
    assert byte_alphabet()["\u0120"] == 0x20 and byte_alphabet()["\u010a"] == 0x0A


def test_byte_level(byte_level_folder):
    table = read_token_bytes(json.loads((byte_level_folder / "tokenizer.json").read_text()))
    assert table.components.kind == "byte-level" and not table.byte_ids
    assert table.special_ids == {0} and table.token_bytes[0] is None
    assert {bytes([byte]) for byte in range(256)} <= set(table.token_bytes)


def test_sentencepiece(metaspace_folder):
    table = read_token_bytes(json.loads((metaspace_folder / "tokenizer.json").read_text()))
    components = table.components
    assert components.kind == "sentencepiece" and components.dummy_prefix and not components.normalizer
    assert table.special_ids == {0, 1, 2} and len(table.byte_ids) == 256
    assert table.token_bytes[table.raw_tokens.index("<0x0A>")] == b"\n"
    assert table.token_bytes[table.raw_tokens.index("\u2581")] == b" "


def test_byte_tokens_are_literal_without_fallback(metaspace_folder):
    state = json.loads((metaspace_folder / "tokenizer.json").read_text())
    state["model"]["byte_fallback"] = False
    state["decoder"]["decoders"] = [d for d in state["decoder"]["decoders"] if d["type"] != "ByteFallback"]
    table = read_token_bytes(state)
    assert not table.byte_ids and table.token_bytes[table.raw_tokens.index("<0x0A>")] == b"<0x0A>"


def test_word_piece_unigram_and_words():
    piece = Tokenizer(models.WordPiece({"[UNK]": 0, "un": 1, "##able": 2}, unk_token="[UNK]"))
    table = read_token_bytes(state_of(piece))
    assert table.token_bytes == (None, b"un", b"able") and table.special_ids == {0}
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("\u2581a", -1.0), ("\u00e9", -2.0)], unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    assert read_token_bytes(state_of(unigram)).token_bytes == (None, b" a", "\u00e9".encode())
    words = Tokenizer(models.WordLevel({"<u>": 0, "word": 1}, unk_token="<u>"))
    assert read_token_bytes(state_of(words)).token_bytes == (None, b"word")
    assert read_components(state_of(words)).kind == "plain"


def test_word_end_suffix():
    bpe = Tokenizer(models.BPE({"a": 0, "a</w>": 1}, [], end_of_word_suffix="</w>"))
    assert read_token_bytes(state_of(bpe)).token_bytes == (b"a", b"a")


def test_added_tokens_and_gaps(byte_level_folder):
    tokenizer = Tokenizer.from_file(str(byte_level_folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("\u00e9\u00e9", special=False), AddedToken("<|x|>", special=True)])
    state = state_of(tokenizer)
    state["added_tokens"][-1]["id"] += 3
    table = read_token_bytes(state)
    literal, special = table.raw_tokens.index("\u00e9\u00e9"), table.raw_tokens.index("<|x|>")
    assert table.token_bytes[literal] == "\u00e9\u00e9".encode()  # not the bytes that the alphabet gives
    assert special in table.special_ids and table.token_bytes[special] is None
    assert special == literal + 4 and table.raw_tokens[literal + 1] == "" and table.token_bytes[literal + 1] is None
    assert literal + 1 not in table.special_ids


@pytest.mark.parametrize("case", ["model", "both", "decoder", "alphabet"])
def test_refused(byte_level_folder, case):
    state = json.loads((byte_level_folder / "tokenizer.json").read_text())
    if case == "model":
        state["model"]["type"] = "Other"
    elif case == "both":
        state["normalizer"] = json.loads(state_of_normalizer())
    elif case == "decoder":
        state["pre_tokenizer"] = None
    else:
        state["model"]["vocab"] = {f"\u2581{i}": i for i in range(100)}
    with pytest.raises(TokenizerError, match="cannot be told as bytes"):
        read_token_bytes(state, "this one")


def state_of_normalizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Fuse()
    return json.dumps(state_of(tokenizer)["normalizer"])
