"""Extended tokenizers: old ids stay, words are produced, and what is learned is what running text gives."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import TEXT
from tests.tokenizer_tools.toy import ANY_TEXT
from vocabalign.errors import TokenizerError
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.tokenizer_tools.extend import extend, read_words
from vocabalign.tokenizer_tools.state import all_ids, read_state, rebuild

NEW_TEXT = ["Quixotic zebras waltz; the quick zebra jinxed a quartz fox.", "\u4e16\u754c\u7ecf\u6d4e" * 3] * 5
LEARNING = ["byte-level", "llama-like", "ignore-merges", "sentencepiece-unigram", "sentencepiece-bpe"]
ALL = [*LEARNING, "wordpiece"]


def build(folder, **options):
    tokenizer, state = read_state(folder)
    result = extend(state, **options)
    return load_vocabulary(tokenizer), load_vocabulary(rebuild(result.state, tokenizer)), result


@pytest.mark.parametrize("name", LEARNING)
def test_learned_tokens_follow_the_old_ones_and_shorten_text(name, folders):
    before, after, result = build(folders[name], texts=NEW_TEXT, num_tokens=30)
    assert result.learned == 30 == len(after) - len(before)
    assert after.raw_tokens[: len(before)] == before.raw_tokens
    assert list(result.added.values()) == list(range(len(before), len(after)))
    ids = [i for text in NEW_TEXT for i in after.encode(text)]
    assert len(ids) < 0.8 * sum(len(before.encode(text)) for text in NEW_TEXT)
    assert len(set(ids) & set(result.added.values())) >= 5
    for text in NEW_TEXT:
        joined = [b"".join(v.token_bytes[i] or b"" for i in v.encode(text)) for v in (before, after)]
        assert joined[0] == joined[1]


@pytest.mark.parametrize("name", ["byte-level", "llama-like", "sentencepiece-bpe"])
def test_the_learners_picture_is_the_text(name, folders):
    """Tokens saved by the steps are exactly the tokens that running text has fewer."""
    tokenizer, state = read_state(folders[name])
    from tokenizers import Tokenizer

    from vocabalign.tokenizer_tools.additions import grow
    from vocabalign.tokenizer_tools.pieces import Pieces

    text = " ".join(NEW_TEXT)
    pieces = Pieces(Tokenizer.from_str(json.dumps(state)), state)
    result = extend(state, texts=[text], num_tokens=25)
    cut = grow(result.state)
    expected = sum(len(cut.tokens(word)) * count for word, count in pieces.count([text]).items())
    assert len(load_vocabulary(rebuild(result.state, tokenizer)).encode(text)) == expected


@pytest.mark.parametrize("name", ALL)
@given(words=st.lists(st.text("abcdefghijklmnop\u0436\u044f", min_size=2, max_size=12), min_size=1, max_size=8))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_words_come_out_as_one_token(name, folders, words):
    _, after, result = build(folders[name], words=list(dict.fromkeys(words)), word_forms="spaced")
    ids = all_ids(result.state)
    assert set(result.words) | set(result.not_produced) == set(words)
    for word, (raw,) in result.words.items():
        assert ids[raw] in after.encode(f"the {word} cat"), (word, raw)
    assert not result.not_produced


@pytest.mark.parametrize("name", ["byte-level", "metaspace", "sentencepiece-unigram"])
@given(text=ANY_TEXT)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_as_before(name, folders, text):
    if name not in _built:
        _built[name] = build(folders[name], words=["zebra", "quartz"], texts=NEW_TEXT, num_tokens=20)[:2]
    joined = [b"".join(v.token_bytes[i] or b"" for i in v.encode(text)) for v in _built[name]]
    assert joined[0] == joined[1]


_built: dict = {}


def test_text_without_the_new_words_is_left_alone(folders):
    """A Unigram piece wins only where its word is; nothing else moves."""
    before, after, _ = build(folders["sentencepiece-unigram"], words=["zebra", "quartz", "Zyx"])
    assert all(before.encode(text) == after.encode(text) for text in TEXT)


def test_both_forms(folders):
    _, after, result = build(folders["byte-level"], words=["zebra"], word_forms="both")
    spaced, bare = (all_ids(result.state)[raw] for raw in result.words["zebra"])
    assert after.encode("zebra zebra") == [bare, spaced]


def test_auto_takes_the_form_that_the_script_has(folders):
    _, after, result = build(folders["llama-like"], words=["zebra", "\u4e16\u754c"])
    assert result.words == {"zebra": ["\u2581zebra"], "\u4e16\u754c": ["\u4e16\u754c"]}
    assert all_ids(result.state)["\u4e16\u754c"] in after.encode("a\u4e16\u754cb")


def test_what_cannot_be_produced_is_told_with_the_reason(folders):
    _, _, result = build(folders["byte-level"], words=["two words", "zebra"])
    assert list(result.words) == ["zebra"]
    assert result.not_produced == {"two words": "the pre-tokenizer makes of it:  two |  words"}
    before, after, result = build(folders["byte-level"], words=["two words"], literal=True)
    assert result.literal == ["two words"] and not result.not_produced
    assert len(before) in after.encode("of two words.") and len(after) == len(before) + 1


def test_wordpiece_has_no_merges_to_continue(folders):
    with pytest.raises(TokenizerError, match="no merges that could be continued"):
        build(folders["wordpiece"], texts=NEW_TEXT, num_tokens=5)


def test_too_little_text_is_told(folders, caplog):
    _, _, result = build(folders["byte-level"], texts=["xy xy"], num_tokens=50)
    assert result.learned < 5 and "of 50 tokens could be learned" in caplog.text


def test_lists_of_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one\n\n two \none\n")
    assert read_words(str(path)) == ["one", "two"]
    path.write_text("\n \n")
    with pytest.raises(TokenizerError, match="holds no words"):
        read_words(str(path))
    with pytest.raises(TokenizerError, match="cannot be read"):
        read_words(str(tmp_path / "none.txt"))
