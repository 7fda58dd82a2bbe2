"""How much a text costs a model beside what it expects."""

import math

import pytest
import torch

from vocabalign.transplantation.expectations import Head
from vocabalign.transplantation.surprise import FOREIGN_NATS, Surprise, measure_surprise

CPU = torch.device("cpu")


def a_head(scale=1.0, soft_cap=0.0, vocabulary=50):
    generator = torch.Generator().manual_seed(0)
    bias = torch.randn(vocabulary, generator=generator)
    return Head(torch.randn(vocabulary, 8, generator=generator), bias, scale, soft_cap, CPU)


def texts(head, count=6, length=400, *, own=True):
    """Each follower drawn from what the head says, or from all tokens alike."""
    generator = torch.Generator().manual_seed(1)
    result = []
    for _ in range(count):
        states = torch.randn(length, 8, generator=generator)
        shares = head.probabilities(states) if own else torch.ones(length, len(head.rows))
        followers = torch.multinomial(shares[:-1], 1, generator=generator).flatten()
        result.append((torch.cat([torch.zeros(1, dtype=torch.long), followers]), states))
    return result


@pytest.mark.parametrize(("scale", "soft_cap"), [(1.0, 0.0), (0.5, 0.0), (1.0, 2.0)])
def test_text_drawn_from_the_model_costs_what_it_expects_and_other_text_more(scale, soft_cap):
    head = a_head(scale, soft_cap)
    own = measure_surprise(texts(head), head)
    assert abs(own.found - own.expected) < 0.1 and not own.foreign
    other = measure_surprise(texts(head, own=False), head)
    assert other.found > other.expected + 0.3


def test_what_can_never_follow_is_expected_to_cost_nothing():
    head = a_head()
    assert head.bias is not None
    head.bias[7] = -torch.inf
    found = measure_surprise(texts(head), head)
    assert math.isfinite(found.expected) and abs(found.found - found.expected) < 0.1 and not found.foreign


def test_it_is_the_mean_of_single_places():
    head = a_head()
    (ids, states), *_ = texts(head, count=1, length=30)
    found = expected = 0.0
    for place in range(29):
        logits = [float(states[place].double() @ row.double()) + float(b) for row, b in zip(head.rows, head.bias)]
        norm = math.log(sum(map(math.exp, logits)))
        found += norm - logits[ids[place + 1]]
        expected += sum(math.exp(logit - norm) * (norm - logit) for logit in logits)
    surprise = measure_surprise([(ids, states)], head)
    assert surprise.found == pytest.approx(found / 29, rel=1e-4)
    assert surprise.expected == pytest.approx(expected / 29, rel=1e-4)


def test_unknown_tokens_are_left_out_and_counted():
    head = a_head()
    (ids, states), *_ = texts(head, count=1, length=101)
    plain = measure_surprise([(ids, states)], head)
    unknown = ids.clone()
    unknown[1:61] = 7
    some = measure_surprise([(unknown, states)], head, 7)
    assert some.unknown >= 0.6 and some.foreign
    # What is left are the places that were not overwritten, but for those that were 7 before.
    kept = measure_surprise([(ids[60:], states[60:])], head, 7)
    assert some.found == pytest.approx(kept.found, rel=1e-5) and plain.unknown == 0


def test_nothing_to_read_is_no_surprise():
    assert measure_surprise([], a_head()) == Surprise(0.0, 0.0)
    assert measure_surprise([(torch.zeros(1, dtype=torch.long), torch.zeros(1, 8))], a_head()) == Surprise(0.0, 0.0)
    assert Surprise(2.0 + 1.01 * FOREIGN_NATS, 2.0).foreign and not Surprise(2.0 + 0.99 * FOREIGN_NATS, 2.0).foreign
