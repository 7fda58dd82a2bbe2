from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vocabalign.alignment.mixture import Events, learn_weights
from vocabalign.alignment.weighing import beliefs, joined
from vocabalign.alignment.weighing_report import told, weighing_report
from vocabalign.lexicon import Evidence

KINDS = [Evidence.COOCCURRENCE, Evidence.SEGMENTATION]
# Seen often, both layers speak.
CELL = 5 * 8 + 6
NAMES = ("Cyrillic", "Latin", "Thai")


def half(seed: int, number: int = 300) -> Events:
    """In Latin (1) counting is right, in Cyrillic (0) the source's cut."""
    rng = np.random.default_rng(seed)
    scripts = (rng.random(number) < 0.7).astype(int)
    right = rng.uniform(0.4, 0.9, number)
    probabilities = np.full((number, 3), 1e-3)
    probabilities[np.arange(number), 1 - scripts] = right
    return Events(probabilities, np.ones(number), np.arange(number), np.full(number, CELL), scripts)


def make_report(halves):
    return weighing_report(halves, learn_weights(joined(halves), beliefs(KINDS)), KINDS, NAMES)


def test_each_script_tells_what_each_kind_is_worth():
    report = make_report([half(0), half(1)])
    assert list(report) == ["all", "Latin", "Cyrillic"]
    for script, right, wrong in (
        ("Latin", "cooccurrence", "segmentation"),
        ("Cyrillic", "segmentation", "cooccurrence"),
    ):
        row = report[script]
        assert row["weights"][right] > 0.9 > 0.1 > row["weights"][wrong]
        assert row["bits"] < 1.2 and row["bits_alone"][right] == pytest.approx(row["bits"], abs=0.1)
        assert row["bits_alone"][wrong] > 8 and row["bits_without"][right] > 8
        assert row["bits_without"][wrong] == row["bits_alone"][right]
        assert row["bits_alone"]["background"] == pytest.approx(-np.log2(1e-3), abs=1e-3)
    assert sum(report["all"]["weights"].values()) == pytest.approx(1, abs=1e-3)
    assert report["all"]["tokens"] == report["Latin"]["tokens"] + report["Cyrillic"]["tokens"] == 600


def test_a_half_is_judged_by_weights_of_the_other():
    agreeing, contrary = half(0), half(1)
    contrary = replace(contrary, probabilities=contrary.probabilities[:, [1, 0, 2]])
    assert make_report([agreeing, contrary])["all"]["bits"] > 3 * make_report([agreeing, agreeing])["all"]["bits"]


def test_sentences_name_the_best_kind_alone_and_leave_small_scripts_out():
    report = make_report([half(0), half(1)])
    sentences = told(report)
    assert [sentence.split(":")[0] for sentence in sentences] == ["all", "Latin", "Cyrillic"]
    assert "by cooccurrence alone" in sentences[1] and "by segmentation alone" in sentences[2]
    assert [sentence.split(":")[0] for sentence in told(make_report([half(0, 30), half(1, 30)]))] == ["all"]


def test_without_held_out_tokens_nothing_is_told():
    nothing = half(0).of(np.zeros(300, dtype=bool))
    report = make_report([nothing, nothing])
    assert list(report) == ["all"] and report["all"]["tokens"] == 0 and told(report) == []
