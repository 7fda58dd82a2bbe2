from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alignment.toy import WORDS, cover_counts, make_texts, word_vocabulary
from vocabalign.alignment.cooccurrence import UNIT, count_cooccurrence
from vocabalign.alignment.count_sums import merge_counts
from vocabalign.alignment.counts import Part, VocabularyCounts, count_vocabularies, load_counts
from vocabalign.errors import ArtifactError
from vocabalign.text.corpus_shards import Shard

SOURCE, TARGET = word_vocabulary(words=WORDS[:30]), word_vocabulary(order_seed=2)


def saved(counts, folder):
    folder.mkdir(parents=True)
    counts.save(folder)
    return (folder / "counts.safetensors").read_bytes()


def test_one_pass_counts_what_two_would():
    texts = make_texts(30)
    counts = count_vocabularies(SOURCE, TARGET, texts, window=7)
    covers = cover_counts(SOURCE, TARGET, texts)
    for name in ("overlap", "first", "last"):
        assert (getattr(counts.covers, name) != getattr(covers, name)).nnz == 0
    for side, vocabulary in ((counts.source, SOURCE), (counts.target, TARGET)):
        alone = count_cooccurrence(vocabulary, texts, 7)
        assert (side.following != alone.following).nnz == 0 and np.array_equal(side.token_counts, alone.token_counts)
    without = count_vocabularies(SOURCE, TARGET, texts, window=0)
    assert without.source is without.target is None and without.window == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.randoms(use_true_random=False), st.sampled_from([0, 4]))
def test_parts_in_any_order_add_up_to_the_very_file_of_one_run(tmp_path_factory, of, random, window):
    folder = tmp_path_factory.mktemp("counts")
    texts = make_texts(12)
    whole = count_vocabularies(SOURCE, TARGET, texts, window, "c")
    parts = [
        count_vocabularies(SOURCE, TARGET, texts[number::of], window, "c", Shard(number + 1, of))
        for number in range(of)
    ]
    random.shuffle(parts)
    cut = random.randint(1, of)
    # Sums of sums are sums.
    merged = merge_counts([merge_counts(parts[:cut]), *parts[cut:]])
    assert saved(merged, folder / "merged") == saved(whole, folder / "whole")
    assert merged.missing() == []


def test_what_is_saved_is_loaded(tmp_path):
    counts = count_vocabularies(SOURCE, TARGET, make_texts(5), 3, "c", Shard(2, 3))
    first = saved(counts, tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text("{}")
    again = VocabularyCounts.load(tmp_path / "a")
    assert saved(again, tmp_path / "b") == first
    assert again.parts == (Part("c", 2, 3),) and again.missing() == ["1/3", "3/3"]
    assert load_counts(tmp_path / "a", SOURCE, TARGET).window == 3
    with pytest.raises(ArtifactError, match="its source is .* its target is"):
        load_counts(tmp_path / "a", TARGET, SOURCE)
    (tmp_path / "a" / "counts.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match="cannot be read"):
        VocabularyCounts.load(tmp_path / "a")
    with pytest.raises(ArtifactError, match="vocabalign count"):
        VocabularyCounts.load(tmp_path)


def test_parts_that_do_not_belong_together_are_refused():
    texts = make_texts(4)
    first, second = (count_vocabularies(SOURCE, TARGET, texts, 3, "c", Shard(number, 2)) for number in (1, 2))
    with pytest.raises(ArtifactError, match="same text twice .shard 1/2"):
        merge_counts([first, second, first])
    with pytest.raises(ArtifactError, match="different tokenizers"):
        merge_counts([first, count_vocabularies(TARGET, SOURCE, texts, 3, "c", Shard(2, 2))])
    with pytest.raises(ArtifactError, match="windows of 3 and 4"):
        merge_counts([first, count_vocabularies(SOURCE, TARGET, texts, 4, "c", Shard(2, 2))])
    with pytest.raises(ArtifactError, match="lost its rare pairs"):
        merge_counts([first, replace(second, least=1.0)])


def test_rare_neighbours_are_left_out_by_their_weighted_count():
    counts = count_vocabularies(SOURCE, TARGET, make_texts(20), 5)
    kept = counts.without_rare(2.5)
    expected = np.where(counts.target.following.toarray() >= 2.5 * UNIT, counts.target.following.toarray(), 0)
    assert np.array_equal(kept.target.following.toarray(), expected) and 0 < np.count_nonzero(expected)
    assert kept.target.following.nnz == np.count_nonzero(expected) < counts.target.following.nnz
    assert (kept.covers.overlap != counts.covers.overlap).nnz == 0
