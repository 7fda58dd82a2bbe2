"""Trained tokenizers: any text comes back, the same text gives the same tokenizer, SentencePiece agrees."""

import json

import pytest
from hypothesis import HealthCheck, given, settings

from tests.conftest import TEXT
from tests.tokenizer_tools.toy import ANY_TEXT, trained
from vocabalign.errors import ConfigError
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.tokenizer_tools.components import components_like, make_components
from vocabalign.tokenizer_tools.state import all_ids, read_state, rebuild
from vocabalign.tokenizer_tools.train import KINDS, train


@pytest.fixture(scope="module")
def tokenizers():
    result = {}
    for kind in KINDS:
        state, components = trained(kind, 450)
        result[kind] = rebuild(state, None, components.roles), state
    return result


@pytest.mark.parametrize("kind", KINDS)
@given(text=ANY_TEXT)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back(kind, tokenizers, text):
    tokenizer, _ = tokenizers[kind]
    # SentencePiece writes the space as a sign of its own, and cannot tell that sign from a space.
    text = text.replace("\u2581", "") if kind.startswith("sentencepiece") else text
    ids = tokenizer(text, add_special_tokens=False).input_ids
    special = [token for token in tokenizer.all_special_tokens if token in text]
    assert special or tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_gives_the_same_tokenizer(kind, tokenizers):
    state, _ = trained(kind, 450)
    assert json.dumps(state) == json.dumps(tokenizers[kind][1])
    assert len(all_ids(state)) <= 450


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_words_are_cut_as_sentencepiece_cuts_them(model_type, tmp_path, tokenizers):
    import sentencepiece

    from vocabalign.tokenizer_tools.pieces import Pieces
    from vocabalign.tokenizer_tools.train import _as_tokenizer, _run_sentencepiece

    tokenizer, state = tokenizers[f"sentencepiece-{model_type}"]
    words = Pieces(_as_tokenizer(state), state).count(TEXT * 4, fine=False)
    options = {"coverage": 0.9995, "max_token_length": 32}
    path = _run_sentencepiece(model_type, tmp_path, words, 450 - 3 + 1, options)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    # The tokenizer puts the first space there itself.
    texts = {word: word[1:].replace("\u2581", " ") for word in words if word[0] == "\u2581"}
    assert len(texts) > 50
    for word, text in texts.items():
        assert tokenizer.tokenize(text) == processor.encode(word, out_type=str)


def test_like_takes_over_what_surrounds_the_model(folders):
    tokenizer, state = read_state(folders["ignore-merges"])
    components = components_like("byte-level-bpe", tokenizer, state, extra=("<tool>",))
    new = rebuild(train("byte-level-bpe", TEXT, 320, components=components), tokenizer, components.roles)
    assert new.convert_ids_to_tokens(range(5)) == [*(token["content"] for token in state["added_tokens"]), "<tool>"]
    assert new.bos_token == "<|marker_1|>" and new.chat_template == tokenizer.chat_template
    assert new("A").input_ids[0] == new.bos_token_id
    for text in TEXT:
        pieces = [t.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text) for t in (tokenizer, new)]
        assert pieces[0] == pieces[1]


def test_kinds_that_do_not_fit_are_refused(folders):
    tokenizer, state = read_state(folders["wordpiece"])
    with pytest.raises(ConfigError, match="cannot take the pre-tokenizer of a wordpiece one"):
        components_like("sentencepiece-bpe", tokenizer, state)


@pytest.mark.parametrize(("kind", "size"), [("byte-level-bpe", 257), ("sentencepiece-bpe", 200)])
def test_a_size_without_room_is_refused(kind, size):
    with pytest.raises(ConfigError, match="has no room for words"):
        trained(kind, size)


def test_a_size_without_room_for_characters_is_refused():
    with pytest.raises(ConfigError, match=r"is \d+ tokens too small for bytes and the characters"):
        trained("sentencepiece-unigram", 270)


def test_bos_before_texts_and_normal_forms():
    components = make_components("sentencepiece-bpe", normalizer="nfkc", begin_with_bos=True)
    tokenizer = rebuild(train("sentencepiece-bpe", TEXT, 400, components=components), None, components.roles)
    assert tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    assert load_vocabulary(tokenizer).encode("\uff41") == load_vocabulary(tokenizer).encode("a")
    with pytest.raises(ConfigError, match="no token has this role"):
        make_components("byte-level-bpe", {"eos": "</s>"}, begin_with_bos=True)
