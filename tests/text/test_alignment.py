"""Chunks and start pairs: the invariants of byte alignment, against a slow and obvious reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.text.alignment import AlignmentTally, Cut, align_cuts, align_tokens
from vocabalign.text.roles import SPECIAL, role_bit
from vocabalign.text.tokenizers import load_vocabulary

BOS, EOS, PAD = (SPECIAL | role_bit(role) for role in ("bos", "eos", "pad"))
BOTH = BOS | EOS
TOKEN = st.one_of(st.integers(0, 4), st.sampled_from([BOS, EOS, PAD, BOTH, SPECIAL]).map(lambda mask: -mask))
SIDE = st.lists(TOKEN, max_size=14)


def make_cut(tokens):
    """Lengths of tokens of text, and -mask for special ones."""
    lengths = [max(token, 0) for token in tokens]
    return Cut(np.cumsum(lengths, dtype=np.int64), np.array([max(-token, 0) for token in tokens], dtype=np.uint32))


def columns(alignment):
    return list(
        zip(*(getattr(alignment, n).tolist() for n in ("cs_start", "cs_end", "ct_start", "ct_end", "byte_end")))
    )


def places(cut):
    """(byte, role mask or 0) of every token, with tokens of text that have no bytes joined to a neighbour."""
    return [(int(end), int(mask)) for end, mask in zip(cut.ends, cut.masks)]


def slow_alignment(s, t):
    """Chunks of two cuts without zero-width text: every common end, and special tokens met from the front."""
    ends = [{end for end, mask in places(cut) if not mask} for cut in (s, t)]
    chunks, last = [], (-1, -1, 0)
    for byte in sorted({0} | (ends[0] & ends[1])):
        if byte:
            tokens = [
                [i for i, (end, mask) in enumerate(places(cut)) if not mask and last[2] < end <= byte] for cut in (s, t)
            ]
            inside = sum(1 for cut, own in zip((s, t), tokens) for i in range(own[0], own[-1]) if cut.masks[i])
            chunks.append((tokens[0][0], tokens[0][-1] + 1, tokens[1][0], tokens[1][-1] + 1, byte, inside))
            last = (0, 0, byte)
        here = [[i for i, (end, mask) in enumerate(places(cut)) if end == byte and mask > 1] for cut in (s, t)]
        partners = [
            [i for i in here[a] if any(int(x.masks[i]) & int(y.masks[j]) & ~1 for j in here[1 - a])]
            for a, (x, y) in enumerate(((s, t), (t, s)))
        ]
        for i, j in zip(*partners):
            if not int(s.masks[i]) & int(t.masks[j]) & ~1:
                break
            chunks.append((i, i + 1, j, j + 1, byte, 0))
    return chunks


def slow_start_pairs(chunks):
    pairs = []
    for number, chunk in enumerate(chunks):
        if number == 0:
            if chunk[0] and chunk[2]:
                pairs.append([0, chunk[0] - 1, chunk[2] - 1])
        elif chunks[number - 1][1] == chunk[0] and chunks[number - 1][3] == chunk[2]:
            pairs.append([chunks[number - 1][4], chunk[0] - 1, chunk[2] - 1])
    return pairs


@settings(max_examples=300, deadline=None)
@given(SIDE, SIDE)
def test_against_the_reference(first, second):
    s, t = (make_cut([token for token in tokens if token]) for tokens in (first, second))
    alignment = align_cuts(s, t)
    chunks = slow_alignment(s, t)
    assert columns(alignment) == [chunk[:5] for chunk in chunks if not chunk[5]]
    assert alignment.start_pairs.tolist() == slow_start_pairs(chunks)
    assert alignment.refused[0] == sum(chunk[5] > 0 for chunk in chunks)
    assert alignment.num_bytes == max([chunk[4] for chunk in chunks], default=0)


@settings(max_examples=300, deadline=None)
@given(SIDE, SIDE)
def test_invariants(first, second):
    s, t = make_cut(first), make_cut(second)
    alignment = align_cuts(s, t)
    swapped = align_cuts(t, s)
    assert [(c, d, a, b, e) for a, b, c, d, e in columns(alignment)] == columns(swapped)
    assert alignment.start_pairs[:, [0, 2, 1]].tolist() == swapped.start_pairs.tolist()
    assert alignment.truncated == swapped.truncated[::-1] and alignment.refused == swapped.refused
    assert alignment.unmatched_specials == swapped.unmatched_specials[::-1]
    assert alignment.num_bytes <= min(s.ends[-1:].sum(), t.ends[-1:].sum())
    # Chunks and what was refused are all the bytes up to the last common end.
    own = np.diff(alignment.byte_end, prepend=0).sum() if len(alignment) else 0
    assert alignment.num_bytes >= own and alignment.refused[1] >= 0
    for starts, ends in ((alignment.cs_start, alignment.cs_end), (alignment.ct_start, alignment.ct_end)):
        assert (starts < ends).all() and (starts[1:] >= ends[:-1]).all()
    for byte, i, j in alignment.start_pairs.tolist():
        assert s.ends[i] == t.ends[j] == byte


@settings(max_examples=100, deadline=None)
@given(SIDE)
def test_identical_cuts_are_one_to_one(tokens):
    cut = make_cut([token for token in tokens if token and token != -SPECIAL])
    alignment = align_cuts(cut, cut)
    n = len(cut.ends)
    assert alignment.cs_start.tolist() == alignment.ct_start.tolist() == list(range(n))
    assert alignment.cs_end.tolist() == list(range(1, n + 1)) and alignment.truncated == (0, 0)
    assert alignment.start_pairs[:, 1].tolist() == list(range(n - 1))


def test_special_tokens():
    s, t = make_cut([-BOS, 5, 5, -EOS]), make_cut([-BOTH, 10, -BOTH, -PAD])
    alignment = align_cuts(s, t)
    assert columns(alignment) == [(0, 1, 0, 1, 0), (1, 3, 1, 2, 10), (3, 4, 2, 3, 10)]
    assert alignment.start_pairs.tolist() == [[0, 0, 0], [10, 2, 1]]
    assert alignment.truncated == (0, 1)
    # A turn that only one side sees: what it divides is refused, and counted.
    alignment = align_cuts(make_cut([3, -SPECIAL, 2, 4]), make_cut([5, 4]))
    assert columns(alignment) == [(3, 4, 1, 2, 9)] and alignment.refused == (1, 5)
    # The order of one side contradicts the other's.
    assert not len(align_cuts(make_cut([-BOS, -EOS]), make_cut([-EOS, -BOS])))


def test_without_a_beginning_the_first_byte_has_no_predictor():
    for first in ([4], [-BOS, 4]):
        assert not len(align_cuts(make_cut(first), make_cut([4])).start_pairs)
    assert align_cuts(make_cut([-SPECIAL, 4]), make_cut([-BOS, 4])).start_pairs.tolist() == [[0, 0, 0]]


def test_a_dummy_prefix_begins_the_first_chunk():
    alignment = align_cuts(Cut(np.array([0, 0, 5]), np.array([BOS, 0, 0], np.uint32)), make_cut([-BOS, 5]))
    assert columns(alignment) == [(0, 1, 0, 1, 0), (1, 3, 1, 2, 5)]
    # Behind a turn's marker too.
    s = Cut(np.array([5, 5, 5, 9]), np.array([0, EOS, 0, 0], np.uint32))
    assert columns(align_cuts(s, make_cut([5, -EOS, 4]))) == [(0, 1, 0, 1, 5), (1, 2, 1, 2, 5), (2, 4, 2, 3, 9)]


def test_bad_cuts():
    with pytest.raises(ValueError, match="decrease"):
        align_cuts(Cut(np.array([2, 1])), Cut(np.array([2])))
    with pytest.raises(ValueError, match="shape"):
        align_cuts(Cut(np.array([2, 3]), np.zeros(1, np.uint32)), Cut(np.array([2])))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581<"), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def pair(byte_level_folder, metaspace_folder):
    return load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_tokens_of_text(pair, text):
    ids = [vocabulary.encode(text) for vocabulary in pair]
    alignment = align_tokens(pair[0], ids[0], pair[1], ids[1], text)
    blind = align_tokens(pair[0], ids[0], pair[1], ids[1])
    assert columns(alignment) == columns(blind) and alignment.num_bytes == len(text.encode())
    sides = (
        (pair[0], ids[0], alignment.cs_start, alignment.cs_end),
        (pair[1], ids[1], alignment.ct_start, alignment.ct_end),
    )
    start = 0
    for number, end in enumerate(alignment.byte_end.tolist()):
        for vocabulary, own, starts, stops in sides:
            joined = b"".join(vocabulary.token_bytes[i] for i in own[starts[number] : stops[number]])
            assert (
                joined.removeprefix(b" " if not start and vocabulary.dummy_prefix else b"") == text.encode()[start:end]
            )
        start = end


def test_other_text_is_refused_and_counted(pair):
    a, b = (vocabulary.encode("The cat sat") for vocabulary in pair)
    tally = AlignmentTally()
    tally.add(align_tokens(pair[0], a, pair[1], b, "The cat sat"))
    tally.add(align_tokens(pair[0], a, pair[1], b, "The cut sat"))
    tally.add(align_tokens(pair[0], a, pair[1], pair[1].encode("The dog")))
    assert (tally.texts, tally.texts_refused, tally.num_bytes) == (1, 2, 11)
    # An unknown token stands for text that nobody knows.
    assert align_tokens(pair[0], a, pair[1], [*b, pair[1].roles["unk"]]) is None


def test_one_side_cut_short(pair):
    text = "The cat sat on the mat, and the dog"
    a, b = (vocabulary.encode(text) for vocabulary in pair)
    alignment = align_tokens(pair[0], a, pair[1], b[: len(b) // 2])
    kept = b"".join(pair[0].token_bytes[i] for i in a[: alignment.cs_end[-1]])
    assert text.encode().startswith(kept) and len(kept) == alignment.num_bytes > 0
    assert alignment.truncated[0] == len(a) - alignment.cs_end[-1] > 0


def test_russian_and_repetition(russian_and_repetition):
    (a, b), texts = russian_and_repetition
    for text in texts:
        ids = a.encode(text), b.encode(text)
        alignment = align_tokens(a, ids[0], b, ids[1], text)
        assert alignment.num_bytes == len(text.encode()) and alignment.refused == (0, 0)
        start = 0
        for number, end in enumerate(alignment.byte_end.tolist()):
            x = ids[0][alignment.cs_start[number] : alignment.cs_end[number]]
            assert b"".join(a.token_bytes[i] for i in x) == text.encode()[start:end]
            start = end
        assert len(alignment) > 0.15 * len(ids[1])
