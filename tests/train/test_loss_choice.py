"""Which losses are taken, with which weight, and what is refused."""

from dataclasses import replace

import pytest

from tests.losses.toy import LARGE, SMALL, vocabulary
from vocabalign.errors import ConfigError
from vocabalign.train.coverage import measure_coverage
from vocabalign.train.loss_choice import COMPLETED_BY_TEXT, WEIGHT, WEIGHT_ADDED, choose_loss, parse_loss, weight_of

COVERAGE = measure_coverage(vocabulary(SMALL), vocabulary(LARGE), ["ab a ba", "aba bb"])
TOGETHER = replace(COVERAGE, starts=90, student_tokens=100, event_agreement=0.99)


@pytest.mark.parametrize(
    ("changes", "options", "expected"),
    [
        ({}, {}, "event"),
        ({"starts": 50, "prefix_starts": 99, "prefix_agreement": 0.99}, {}, "prefixes"),
        ({"starts": 50, "prefix_starts": 99, "prefix_agreement": 0.9}, {}, "event"),
        ({"starts": 50, "prefix_starts": 40, "prefix_agreement": 0.99}, {}, "event"),
        ({"event_agreement": 0.4}, {}, "chunks"),
        ({"event_agreement": 0.4}, {"lexicon": True}, "projection+chunks"),
        ({"starts": 4}, {}, "chunks"),
        ({"one_vocabulary": True}, {}, "token"),
        ({}, {"kind": "log-probs"}, "chunks"),
        ({}, {"kind": "top-k"}, "event"),
        ({"one_vocabulary": True}, {"kind": "sampled"}, "token"),
    ],
)
def test_auto_follows_the_coverage(changes, options, expected):
    choice = choose_loss(replace(TOGETHER, **changes), **options)
    assert str(choice) == expected and choice.reason


def test_the_weight_is_large_only_where_the_text_completes_the_loss():
    for name in COMPLETED_BY_TEXT:
        assert weight_of(None, [name]) == WEIGHT
    assert weight_of(None, ["event", "chunks"]) == weight_of(None, ["uld"]) == WEIGHT_ADDED < WEIGHT
    assert weight_of(0.0, ["event"]) == 0 and weight_of(0.3, ["chunks"]) == 0.3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ()),
        ("event", (("event", 1.0),)),
        ("event + .5*chunks", (("event", 1.0), ("chunks", 0.5))),
        ("2*prefixes", (("prefixes", 2.0),)),
    ],
)
def test_sums_with_coefficients(text, expected):
    assert parse_loss(text) == expected


@pytest.mark.parametrize("text", ["", "evnt", "event+event", "0*event", "auto+event", "sentence+chunks", "event*2"])
def test_sums_that_mean_nothing_are_refused(text):
    with pytest.raises(ConfigError):
        parse_loss(text)
