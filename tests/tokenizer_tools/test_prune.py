"""Pruned tokenizers: any text comes back, and text of kept tokens is cut as before."""

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import TEXT
from tests.tokenizer_tools.toy import ANY_TEXT
from vocabalign.errors import ConfigError, TokenizerError
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.tokenizer_tools.keep import choose
from vocabalign.tokenizer_tools.parts import token_parts
from vocabalign.tokenizer_tools.prune import prune
from vocabalign.tokenizer_tools.script_filter import Scripts
from vocabalign.tokenizer_tools.state import all_ids, read_state, rebuild

LOSSLESS = ["byte-level", "metaspace", "llama-like", "ignore-merges", "sentencepiece-unigram", "sentencepiece-bpe"]
KINDS = [*LOSSLESS, "wordpiece"]
SETTINGS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def loaded(folders):
    result = {}
    for name in KINDS:
        tokenizer, state = read_state(folders[name])
        result[name] = tokenizer, state, load_vocabulary(tokenizer)
    return result


@pytest.fixture(scope="module")
def smaller(loaded):
    """name -> the vocabulary, and two pruned as far as it goes: to a size, and to a script that is not there."""

    @functools.cache
    def make(name):
        tokenizer, state, before = loaded[name]
        least = len(choose(state, before, counts=np.zeros(len(before), dtype=np.int64)).ids)
        choices = (choose(state, before, size=least + 20), choose(state, before, scripts=Scripts(["Greek"])))
        return before, *(pruned(tokenizer, state, kept) for kept in choices)

    return make


def pruned(tokenizer, state, kept):
    return load_vocabulary(rebuild(prune(state, kept.ids), tokenizer))


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
@SETTINGS
def test_text_of_kept_tokens_is_cut_as_before(name, loaded, data):
    tokenizer, state, before = loaded[name]
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    counts = random.integers(0, 3, len(before)) * random.integers(0, 2, len(before))
    kept = choose(state, before, counts=counts)
    after = pruned(tokenizer, state, kept)
    new_ids = {old: new for new, old in enumerate(kept.ids)}
    # Random text rarely has only kept tokens, so texts are also put together from them.
    tokens = [before.token_bytes[i] or b"" for i in kept.ids]
    drawn = data.draw(st.lists(st.sampled_from(tokens), max_size=6))
    texts = [*TEXT, data.draw(ANY_TEXT), b"".join(drawn).decode(errors="ignore")]
    for text in [*texts, *" ".join(texts).split()]:
        ids = before.encode(text)
        if all(i in new_ids for i in ids):
            assert [new_ids[i] for i in ids] == after.encode(text)


@pytest.mark.parametrize("name", LOSSLESS)
@given(text=ANY_TEXT)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back(name, smaller, text):
    before, *after = smaller(name)
    joined = [b"".join(v.token_bytes[i] or b"" for i in v.encode(text)) for v in (before, *after)]
    assert joined[0] == joined[1] == joined[2]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [None, 0.7])
def test_ids_are_dense_in_order_and_all_parts_are_there(name, size, loaded):
    tokenizer, state, before = loaded[name]
    counts = np.bincount([i for text in TEXT[:4] for i in before.encode(text)], minlength=len(before))
    kept = choose(state, before, counts=counts)
    if size:
        floor = len(choose(state, before, counts=np.zeros_like(counts)).ids)
        size = floor + int((len(kept.ids) - floor) * size)
        kept = choose(state, before, counts=counts, size=size)
        assert len(kept.ids) == size
    after = pruned(tokenizer, state, kept)
    assert [before.raw_tokens[i] for i in kept.ids] == list(after.raw_tokens)
    assert {before.raw_tokens[i] for i in before.special_ids | before.byte_ids} <= set(after.raw_tokens)
    assert {r: before.raw_tokens[i] for r, i in before.roles.items()} == {
        r: after.raw_tokens[i] for r, i in after.roles.items()
    }
    new = prune(state, kept.ids)
    if "merges" in state["model"] and not state["model"]["ignore_merges"]:
        # Whatever could be produced still can, by the same last merge.
        assert {raw: pair for raw, pair in token_parts(state).items() if raw in all_ids(new)} == token_parts(new)


def test_around_texts_the_same_special_tokens_are_put(loaded):
    tokenizer, state, before = loaded["ignore-merges"]
    kept = choose(state, before, counts=np.zeros(len(before), dtype=np.int64))
    after = rebuild(prune(state, kept.ids), tokenizer)
    assert after.convert_ids_to_tokens(after("A").input_ids)[0] == "<|marker_1|>" == after.bos_token
    assert after.eos_token_id == len(kept.ids) - 1 and after.chat_template == tokenizer.chat_template


def test_what_makes_the_text_longest_stays(loaded):
    """Dropping the tokens that are used least beats dropping the last ones, at every size."""
    tokenizer, state, before = loaded["byte-level"]
    counts = np.bincount([i for text in TEXT for i in before.encode(text)], minlength=len(before))
    for size in (300, 350, 400):
        lengths = [
            sum(len(pruned(tokenizer, state, choose(state, before, counts=c, size=size)).encode(t)) for t in TEXT)
            for c in (counts, None)
        ]
        assert lengths[0] <= lengths[1]


def test_characters_without_bytes_are_kept_or_named(loaded):
    _, state, before = loaded["wordpiece"]
    kept = choose(state, before, scripts=Scripts(["Latin"]))
    assert "\u0436" in kept.characters_lost and "a" not in kept.characters_lost
    everything = choose(state, before, counts=np.zeros(len(before), dtype=np.int64))
    assert not everything.characters_lost


def test_what_must_stay_is_refused_to_go(loaded):
    _, state, before = loaded["byte-level"]
    with pytest.raises(ConfigError, match="alone are 257"):
        choose(state, before, size=100)
    with pytest.raises(TokenizerError, match=r"<\|endoftext\|>' cannot be left out"):
        prune(state, range(1, 300))
