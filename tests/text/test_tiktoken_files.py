"""tiktoken files: the ids of the algorithm itself, and of the same vocabulary in a tokenizer.json."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.errors import TokenizerError
from vocabalign.text.reconstruction import check_reconstruction
from vocabalign.text.tiktoken_encodings import ENCODINGS, Encoding
from vocabalign.text.tiktoken_files import convert_tiktoken, is_tiktoken, merge_by_rank, reference_encoder
from vocabalign.text.tokenizers import load_tokenizer, load_vocabulary, save_tokenizer

PATTERN = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
WORDS = [b"th", b"the", b" the", b"aa", b"aaaa", b"aaa", "\u00e9".encode(), "\u0436\u0430".encode()]
RANKS = {bytes([byte]): byte for byte in range(256)} | {word: 256 + i for i, word in enumerate(WORDS)}


def write(path, ranks):
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write(folder / "own.tiktoken", RANKS)
    config = {"tiktoken_pattern": PATTERN, "added_tokens_decoder": {"300": {"content": "<|end|>"}, "301": "<|x|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|end|>"}))
    return folder


@pytest.fixture(scope="module")
def own(folder):
    return load_vocabulary(folder)


def test_exact_bytes_gaps_and_roles(own):
    assert own.token_bytes[:256] == tuple(bytes([byte]) for byte in range(256))
    assert own.token_bytes[256 : 256 + len(WORDS)] == tuple(WORDS)
    assert len(own) == 302 and own.raw_tokens[270] == "" and own.special_ids == {300, 301}
    assert own.roles == {"eos": 300} and own.name == "own" or own.name.startswith("own")


@settings(max_examples=200, deadline=None)
@given(
    st.text(
        st.one_of(st.sampled_from("ath e\u00e9\u0436\u0430\n1"), st.characters(exclude_categories=["Cs"])), max_size=30
    )
)
def test_ids_are_those_of_the_algorithm(own, text):
    if "<|" not in text:
        assert own.encode(text) == reference_encoder(RANKS, Encoding(PATTERN))(text)
        assert check_reconstruction(own, [text]).counts == {"exact": 1}


def test_a_whole_word_comes_before_merges():
    assert merge_by_rank(RANKS, b" the") == [258] and merge_by_rank(RANKS, b" thee") == [258, 101]
    assert merge_by_rank(RANKS, b"aaaaa") == [260, 97]


def test_it_becomes_an_ordinary_folder(folder, own, tmp_path):
    save_tokenizer(folder / "own.tiktoken", tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    assert load_vocabulary(tmp_path).fingerprint == own.fingerprint
    assert load_tokenizer(tmp_path)("the <|end|>").input_ids == own.encode("the <|end|>")


@pytest.mark.parametrize("case", ["pattern", "bytes", "twice", "rank", "line", "special", "possessive"])
def test_refused(tmp_path, case):
    ranks, config = dict(RANKS), {"tiktoken_pattern": PATTERN}
    path = tmp_path / "t.tiktoken"
    if case == "pattern":
        config, message = {}, "tiktoken_pattern"
    elif case == "bytes":
        del ranks[b"a"]
        message = r"no token for 1 bytes \(the first is 97\)"
    elif case == "rank":
        ranks[b"zz"] = 5
        message = "same rank"
    elif case == "special":
        config["added_tokens_decoder"] = {"97": "<|x|>"}
        message = r"id 97 of the special token <\|x\|> is that of b'a'"
    elif case == "possessive":
        ranks[b"34"] = 999
        config["tiktoken_pattern"], message = r"\p{N}{1,3}+|[^\p{N}]+", "Possessive"
    else:
        message = "line 1: expected" if case == "line" else "there twice"
    write(path, ranks)
    if case == "line":
        path.write_bytes(b"YQ== 0 1\n" + path.read_bytes())
    elif case == "twice":
        path.write_bytes(path.read_bytes() + b"YQ== 900\n")
    with pytest.raises(TokenizerError, match=message):
        convert_tiktoken(path, config)


def test_what_is_a_tiktoken_file(tmp_path, folder):
    assert is_tiktoken(folder / "own.tiktoken") and not is_tiktoken(folder / "tokenizer_config.json")
    (tmp_path / "x").write_bytes(b"\x0a\x0e\x0a\x05<unk>")
    assert not is_tiktoken(tmp_path / "x")


def test_published_file(material):
    """r50k_base is GPT-2's vocabulary: same bytes, same ids."""
    own = load_vocabulary(material / "tokenizers/raw/r50k_base.tiktoken")
    other = load_vocabulary(material / "tokenizers/gpt2")
    assert own.token_bytes == other.token_bytes and own.roles["eos"] == 50256
    for name in ("ntrex/ru.txt", "ntrex/th.txt", "code/python_psf_requests.txt"):
        text = (material / "corpora" / name).read_text(encoding="utf-8")[:100_000]
        assert own.encode(text) == other.encode(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encoding"), [("llama3", "llama3"), ("o200k_base", "o200k_base"), ("qwen1.5", "qwen")]
)
def test_other_published_files(material, tmp_path, name, encoding):
    """Files written from the same vocabularies have the published SHA-256, so they are known without a name."""
    other = load_vocabulary(material / "tokenizers" / name)
    first_special = min(ENCODINGS[encoding].special_tokens.values())
    ranks = {token: i for i, token in enumerate(other.token_bytes[:first_special]) if token is not None}
    if encoding == "o200k_base":
        ranks = {token: i for token, i in ranks.items() if i < 199998}
    own = load_vocabulary(write(tmp_path / "x.tiktoken", ranks))
    text = (material / "corpora/hfcourse/ru.txt").read_text(encoding="utf-8")[:100_000]
    assert own.encode(text) == other.encode(text)
    assert own.raw_tokens[own.roles["eos"]].startswith("<|end")
