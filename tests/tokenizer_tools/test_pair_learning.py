"""The pair learner against a slow recount of everything after every step."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.tokenizer_tools.merges import MergeTable
from vocabalign.tokenizer_tools.pair_learning import MISSING, PairLearner

COUNTED = st.dictionaries(st.text("abcd", min_size=1, max_size=9), st.integers(1, 9), min_size=1, max_size=12)


def slow(words, merges, vocabulary, num_new, min_count):
    """The same from scratch: encode every word with all merges, count pairs, take the best."""
    merges, vocabulary = list(merges), set(vocabulary)
    found = []
    while len(found) < num_new:
        table, counts = MergeTable(merges), Counter()
        for word, count in words.items():
            tokens = table.apply(list(word))
            for pair in zip(tokens, tokens[1:], strict=False):
                counts[pair] += count
        best = min(((-count, *pair) for pair, count in counts.items()), default=None)
        if best is None or -best[0] < min_count:
            break
        merges.append(best[1:])
        if "".join(best[1:]) not in vocabulary:
            found.append("".join(best[1:]))
            vocabulary.add(found[-1])
    return merges, found


@given(COUNTED, st.lists(st.sampled_from(["ab", "bc", "cd", "da"]), unique=True), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_every_step_takes_the_pair_that_a_recount_finds(words, old, num_new, min_count):
    merges = [tuple(pair) for pair in old]
    vocabulary = {*"abcd", *old}
    table = MergeTable(merges)
    counted = [(table.apply(list(word)), count) for word, count in words.items()]
    learner = PairLearner(counted, table, set(vocabulary), lambda raw: True, lambda character: 2)
    steps = learner.learn(num_new, min_count)
    expected_merges, expected_new = slow(words, merges, vocabulary, num_new, min_count)
    assert [step.product for step in steps if step.is_new] == expected_new
    assert list(table.ranks) == expected_merges


def test_a_missing_character_is_worth_the_bytes_that_it_saves():
    words = [([MISSING + "\u4e16", MISSING + "\u754c"], 5), (["a", "b"], 6)]
    learner = PairLearner(words, MergeTable(), {"a", "b"}, lambda raw: True, lambda character: 3)
    steps = learner.learn(3, 1)
    assert [(step.product, step.saved) for step in steps] == [("\u4e16", 10), ("\u754c", 10), ("ab", 6)]
    assert [step.product for step in learner.learn(1, 1)] == ["\u4e16\u754c"]
