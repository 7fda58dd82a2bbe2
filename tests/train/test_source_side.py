"""The source's side of a batch: which places are matched, for any tokenizers, blocks and contexts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import TEXT
from vocabalign.losses.continuations import Continuations
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.data import Blocks, Fragment, tokenize
from vocabalign.train.source_side import SourceSide, pack_chunks, rows_to_read, unpack_chunks


@pytest.fixture(scope="module")
def sides(tmp_path_factory, byte_level_folder, metaspace_folder):
    folder = tmp_path_factory.mktemp("tokens")
    vocabularies = [load_vocabulary(path) for path in (byte_level_folder, metaspace_folder)]
    return [(tokenize(TEXT, v, folder, str(number)), v) for number, v in enumerate(vocabularies)]


def batches(sides, context, source_context, size=2, **more):
    (mine, a), (theirs, b) = sides
    side = SourceSide(mine, a, theirs, b, context, source_context, **more)
    blocks = Blocks(mine, context, 0, extend=side)
    for number in range(0, blocks.blocks_per_epoch - size + 1, size):
        yield blocks.__getitems__(list(range(number, number + size)))


def read_by(vocabulary, ids, positions, place):
    """The bytes that a model has read of its document at a flat place of a batch."""
    row, column = divmod(place, ids.shape[1])
    first = column - int(positions[row, column])
    return b"".join(vocabulary.token_bytes[i] or b"" for i in ids[row, first : column + 1].tolist())


@pytest.mark.parametrize("turned", [False, True])
@settings(max_examples=12, deadline=None)
@given(context=st.integers(4, 40), source_context=st.sampled_from([8, 16, 64, None]), packed=st.booleans())
def test_pairs_have_read_the_same_bytes(sides, turned, context, source_context, packed):
    chosen = sides[::-1] if turned else sides
    (_, a), (_, b) = chosen
    for batch in list(batches(chosen, context, source_context, packed=packed))[:6]:
        assert batch["source_positions"].max() < (source_context or 1 << 62)
        for name in ("ends", "starts"):
            for place, source_place in batch[name].tolist():
                assert not packed or place // context == source_place // batch["source_ids"].shape[1]
                text = read_by(a, batch["input_ids"], batch["position_ids"], place)
                source_text = read_by(b, batch["source_ids"], batch["source_positions"], source_place)
                # In a block that begins inside a document the student has read less than a chunk more.
                assert text.endswith(source_text) or source_text.strip() == text.strip()


@pytest.mark.parametrize("turned", [False, True])
def test_most_of_the_text_is_matched(sides, turned):
    chosen = sides[::-1] if turned else sides
    found = [(len(batch["ends"]), batch["input_ids"].numel()) for batch in batches(chosen, 24, None)]
    ends, tokens = map(sum, zip(*found, strict=True))
    assert ends > 0.2 * tokens


def test_the_same_tokenizer_matches_every_place(sides):
    same = [sides[0], sides[0]]
    for batch in list(batches(same, 24, None, size=3))[:4]:
        # All but what begins documents, and the first token of a block that begins inside one.
        text = int((batch["input_ids"] != sides[0][1].roles["bos"]).sum())
        assert text - 3 <= len(batch["ends"]) <= text
        ids, source_ids = (batch[name].flatten() for name in ("input_ids", "source_ids"))
        assert torch.equal(source_ids[batch["ends"][:, 1]], ids[batch["ends"][:, 0]])
        assert np.all(np.diff(batch["ends"][:, 0].numpy()) > 0)


def test_continuations_lie_inside_tokens(sides):
    (_, a), (_, b) = sides
    trie = Continuations(a, b)
    seen = 0
    for batch in batches(sides, 24, None, continuations=trie):
        for place, source_place, node in batch["continuations"].tolist():
            before = read_by(a, batch["input_ids"], batch["position_ids"], place)
            read = read_by(b, batch["source_ids"], batch["source_positions"], source_place)
            inside = [a.token_bytes[i] for i in trie.members[trie.members_at[node] : trie.members_at[node + 1]]]
            tail = read[-1:]
            assert any(tail in (token or b"") for token in inside)
            assert not before.endswith(read) or not read
            seen += 1
    assert seen > 3


def test_chunks_travel_with_the_batch(sides):
    batch = next(iter(batches(sides, 24, None, chunks=True)))
    chunks = unpack_chunks(batch)
    again = pack_chunks(chunks)
    assert all(torch.equal(batch[name], value) for name, value in again.items())
    assert len(chunks) == len(batch["chunk_bytes"]) > 0
    # What the rows of a chunk predict is the text that is there.
    labels = batch["labels"].flatten()[chunks.student.positions]
    observed = chunks.student.labels
    assert torch.equal(labels[observed >= 0], observed[observed >= 0])


@pytest.mark.parametrize("share", [1.0, 0.75, 0.6, 0.1])
def test_a_share_of_the_sequences_is_read_and_what_is_matched_there_is_the_same(sides, share):
    (mine, a), (theirs, b) = sides
    trie = Continuations(a, b)
    whole, some = (list(batches(sides, 24, None, 4, continuations=trie, share=part)) for part in (1.0, share))
    seen = set()
    for one, two in zip(whole, some, strict=True):
        assert torch.equal(one["input_ids"], two["input_ids"]) and torch.equal(one["labels"], two["labels"])
        rows = len(two["source_ids"]) if len(two["ends"]) else 0  # of none that is read one token is left
        seen.add(rows)
        for name in ("ends", "starts", "continuations"):
            kept = one[name][one[name][:, 0] < rows * 24]
            assert torch.equal(kept[:, 0], two[name][:, 0])
    assert seen <= {int(share * 4), math.ceil(share * 4)}


@given(share=st.floats(0.01, 1), size=st.integers(1, 6), shift=st.integers(0, 1 << 20))
def test_over_many_batches_the_share_is_exact(share, size, shift):
    counts = [rows_to_read(share, [[Fragment(number + shift, 0, 9)]] * size) for number in range(4000)]
    assert set(counts) <= {int(share * size), math.ceil(share * size)}
    assert sum(counts) / 4000 == pytest.approx(share * size, abs=0.05)
