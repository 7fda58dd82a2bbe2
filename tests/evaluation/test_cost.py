"""Ratios to the first model, and prices."""

from __future__ import annotations

import pytest

from vocabalign.errors import ConfigError
from vocabalign.evaluation.cost import add_costs, check_prices


def make_rows():
    rows = [{"name": name, "tokens": tokens, "bytes": 4000, "bytes_per_token": 4000 / tokens} for name, tokens in SIZES]
    rows[0]["generation_bytes_per_second"], rows[1]["generation_bytes_per_second"] = 100.0, 150.0
    return rows


SIZES = (("source", 1000), ("adapted", 800), ("worse", 2000))


def test_ratios_belong_together():
    rows = make_rows()
    add_costs(rows, None)
    assert [row["tokens_relative"] for row in rows] == [1, 0.8, 2]
    assert [row["cost_relative"] for row in rows] == [1, 0.8, 2]
    for row in rows:
        assert row["bytes_per_1000_tokens_relative"] * row["tokens_relative"] == pytest.approx(1)
        assert row["bytes_per_1000_tokens"] == 1000 * row["bytes_per_token"]
        assert "cost_per_megabyte" not in row
    assert [row.get("generation_bytes_per_second_relative") for row in rows] == [1, 1.5, None]


def test_a_price_for_all():
    rows = make_rows()
    add_costs(rows, 2.0)
    # A megabyte is 250,000 tokens of the first model.
    assert rows[0]["cost_per_megabyte"] == pytest.approx(0.5)
    assert rows[1]["cost_per_megabyte"] == pytest.approx(0.4)


def test_prices_by_name():
    rows = make_rows()
    add_costs(rows, {"source": 1.0, "adapted": 3.0})
    assert [row["cost_relative"] for row in rows] == pytest.approx([1, 2.4, 2])
    for row in rows:
        assert row["cost_per_megabyte"] / rows[0]["cost_per_megabyte"] == pytest.approx(row["cost_relative"])


def test_prices_that_cannot_be_used_are_told():
    with pytest.raises(ConfigError, match="'other', which is not measured"):
        check_prices({"other": 1.0}, ["source"])
    with pytest.raises(ConfigError, match="above 0"):
        check_prices(0.0, ["source"])
    check_prices(None, ["source"])
