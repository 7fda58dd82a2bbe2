"""Sections of what was measured: every number there, nothing for what was not measured."""

from __future__ import annotations

import copy

import pytest

from vocabalign.measures import MEASURES
from vocabalign.report.blocks import Bars, Figure, Samples, Table
from vocabalign.report.html import render_html
from vocabalign.report.markdown import render_markdown
from vocabalign.report.measured import CAPTIONS, measure_tables
from vocabalign.report.models import model_sections

from .conftest import LANGUAGES, _metrics

BARE = {"models": [{"name": "a", "path": "x", "bits_per_byte": 1.0}]}


@pytest.fixture
def metrics():
    return _metrics()


def blocks(sections, kind):
    return [block for section in sections for block in section.blocks if isinstance(block, kind)]


def test_what_was_not_measured_is_not_there():
    sections = model_sections("metrics", BARE)
    assert [section.title for section in sections] == ["Models"]
    (table,) = blocks(sections, Table)
    assert table.header == ("Model", "Bits per byte")
    assert all(section.blocks for section in sections)


def test_every_measure_has_its_table_and_caption(metrics):
    assert CAPTIONS.keys() == MEASURES.keys()
    captions = " ".join(block.caption for block in measure_tables(metrics) if isinstance(block, Table))
    for title in MEASURES:
        assert f"{title[0].upper()}{title[1:]}. " in captions
    shown = render_markdown("x", model_sections("m", metrics))
    for row in metrics["models"]:
        for columns in MEASURES.values():
            for key, _, form in columns:
                if row.get(key) is not None:
                    assert format(row[key], form) in shown, key


def test_languages_before_and_after(metrics):
    (bars,) = blocks(model_sections("m", metrics), Bars)
    # Models that cut text alike share a bar; the first is before.
    assert bars.series[0] == "source, transplanted" and len(bars.series) == 3
    assert [name for name, _ in bars.rows] == LANGUAGES
    assert max(length for _, values in bars.rows for length, _ in values) == 1
    metrics["models"] = metrics["models"][:1]
    assert not blocks(model_sections("m", metrics), Bars)  # nothing to compare with


def test_samples_stand_under_their_prompts(metrics):
    samples = blocks(model_sections("m", metrics), Samples)
    assert [sample.prompt for sample in samples] == metrics["prompts"]
    assert all(len(sample.texts) == len(metrics["models"]) for sample in samples)
    for row in metrics["models"]:
        del row["samples"]
    (only,) = blocks(model_sections("m", metrics), Samples)
    assert only.prompt == metrics["prompts"][0]


def test_missing_numbers_leave_holes_and_no_errors(metrics):
    whole = copy.deepcopy(metrics)
    for row in whole["models"]:
        for key in list(row):
            if key in ("name", "path", "bits_per_byte"):
                continue
            part = copy.deepcopy(metrics)
            for other in part["models"]:
                other.pop(key, None)
            sections = model_sections("m", part)
            assert "Models" in render_html("x", sections) and render_markdown("x", sections)
        break
    assert any(isinstance(block, (Figure, Table)) for block in blocks(model_sections("m", whole), object))
