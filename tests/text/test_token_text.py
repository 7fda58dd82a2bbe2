"""Tokens for people: on one line, and no two alike."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alignment.toy import make_vocabulary
from vocabalign.text.token_text import is_text, token_text

TOKEN = st.binary(min_size=1, max_size=5) | st.text(min_size=1, max_size=4).map(lambda text: text.encode())
AWKWARD = [b"\x85", "\u0085".encode(), b"\\x85", b"\t", b"\\t", b"\\", b"\xff", "\u2028".encode(), b"a\nb"]


@settings(max_examples=100, deadline=None)
@given(st.lists(TOKEN | st.sampled_from(AWKWARD), min_size=1, unique=True))
def test_different_bytes_give_different_text_on_one_line(tokens):
    vocabulary = make_vocabulary(tokens)
    texts = [token_text(vocabulary, token_id) for token_id in range(len(tokens))]
    assert len(set(texts)) == len(texts)
    assert all(text.isprintable() for text in texts)


def test_ordinary_text_is_as_it_is():
    vocabulary = make_vocabulary([b" the", "\u0436\u00ff".encode(), None])
    assert [token_text(vocabulary, i) for i in range(3)] == [" the", "\u0436\u00ff", "<s>"]


@given(st.binary(max_size=5) | st.text(max_size=4).map(lambda text: text.encode()))
def test_text_is_what_decodes_to_the_same_bytes(token):
    assert is_text(token) is (token.decode("utf-8", "ignore").encode() == token)
    assert not is_text(None)
