"""What two tokenizers share, what that speaks for, and how a loss is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXT
from vocabalign.errors import ConfigError
from vocabalign.text.tokenizers import load_vocabulary
from vocabalign.train.coverage import measure_coverage
from vocabalign.train.distill_inspect import inspect_pair
from vocabalign.train.loss_choice import ACROSS, LOSSES_OF_KIND, LossChoice, check_known, choose_loss, parse_loss


@pytest.fixture(scope="module")
def two(byte_level_folder, metaspace_folder):
    return load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)


def test_one_vocabulary_agrees_with_itself(two):
    found = measure_coverage(two[0], two[0], TEXT)
    assert found.one_vocabulary and found.exact_agreement == found.event_agreement == found.prefix_agreement == 1
    assert found.chunks == found.student_tokens == found.teacher_tokens and found.one_to_one == 1
    assert found.starts == found.student_tokens - found.texts
    assert str(choose_loss(found)) == "token"


def test_counts_are_those_of_the_texts(two):
    found = measure_coverage(*two, TEXT)
    back = measure_coverage(*reversed(two), TEXT)
    assert found.num_bytes == sum(len(text.encode()) for text in TEXT) == back.num_bytes
    assert found.student_tokens == sum(len(two[0].encode(text)) for text in TEXT) == back.teacher_tokens
    assert (found.chunks, found.starts, found.classes) == (back.chunks, back.starts, back.classes)
    assert found.event_agreement == back.event_agreement >= found.exact_agreement
    assert found.chunk_tokens == tuple(reversed(back.chunk_tokens))
    assert all(abs(sum(shares) - 1) < 1e-3 for shares in found.chunk_tokens)
    assert measure_coverage(*two, TEXT, max_bytes=100).num_bytes <= 100


@pytest.mark.parametrize("kind", LOSSES_OF_KIND)
def test_auto_takes_only_what_the_teacher_is_good_for(two, kind):
    for student, teacher in (two, two[::-1], (two[0], two[0])):
        choice = choose_loss(measure_coverage(student, teacher, TEXT), kind)
        assert {name for name, _ in choice.terms} <= set(LOSSES_OF_KIND[kind]) and choice.reason
        check_known(choice.terms, kind, student is teacher, False)


def test_without_agreement_distributions_are_not_compared(two):
    from dataclasses import replace

    found = replace(measure_coverage(*two, TEXT), event_agreement=0.2)
    assert str(choose_loss(found)) == "chunks"
    assert "projection" in str(choose_loss(found, lexicon=True))


@given(st.dictionaries(st.sampled_from(ACROSS), st.sampled_from([0.1, 0.5, 1.0, 2.0]), min_size=1))
def test_what_auto_says_can_be_given_to_the_option(terms):
    choice = LossChoice(tuple(terms.items()), "")
    assert parse_loss(str(choice)) == choice.terms


@pytest.mark.parametrize("text", ["", "event+", "event*2", "-1*event", "event,chunks", "auto+event", "sentence+event"])
def test_losses_that_cannot_be_read(text):
    with pytest.raises(ConfigError):
        parse_loss(text)


def test_inspection_needs_tokenizers_alone(byte_level_folder, metaspace_folder, corpus_file):
    result = inspect_pair(str(byte_level_folder), str(metaspace_folder), [str(corpus_file)])
    assert set(result["auto"]) == {"online", "top-k", "sampled", "log-probs"}
    assert 0 < result["alignment_rate"] <= 1 and result["auto"]["log-probs"]["loss"] == "chunks"
