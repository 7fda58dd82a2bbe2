"""Merging is what the tokenizers library does, and the parts of a token are what it is really made of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from vocabalign.tokenizer_tools.merges import MergeTable
from vocabalign.tokenizer_tools.parts import token_parts
from vocabalign.tokenizer_tools.state import read_state


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_merging_is_the_librarys(data):
    """Random merges of a three-letter alphabet, also several that make one token."""
    tokens = list("abc")
    merges = []
    for _ in range(data.draw(st.integers(1, 8))):
        pair = data.draw(st.sampled_from(tokens)), data.draw(st.sampled_from(tokens))
        if pair not in merges and len("".join(pair)) < 8:
            merges.append(pair)
            tokens = list(dict.fromkeys([*tokens, "".join(pair)]))
    library = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    table = MergeTable(merges)
    for word in data.draw(st.lists(st.text("abc", min_size=1, max_size=14), min_size=1, max_size=10)):
        assert table.apply(table.symbols(word)) == library.encode(word).tokens


@pytest.mark.parametrize("name", ["byte-level", "metaspace", "llama-like"])
def test_parts_are_joined_by_a_merge_and_make_the_token(name, folders):
    _, state = read_state(folders[name])
    table, parts = MergeTable.from_model(state["model"]), token_parts(state)
    assert sum(bool(pair) for pair in parts.values()) > 50
    for raw, pair in parts.items():
        if pair:
            assert pair in table.ranks and table.product(*pair) == raw and set(pair) <= set(parts)


def test_word_ends_and_continuations_keep_their_marks():
    suffixed = MergeTable([("a", "b</w>")], suffix="</w>")
    assert suffixed.apply(suffixed.symbols("ab")) == ["ab</w>"] and suffixed.last_pair("ab</w>") == ("a", "b</w>")
    prefixed = MergeTable([("a", "##b")], prefix="##")
    assert prefixed.apply(prefixed.symbols("ab")) == ["ab"] and prefixed.last_pair("ab") == ("a", "##b")
