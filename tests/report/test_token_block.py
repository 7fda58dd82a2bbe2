"""The table of tokens as data for the page: all of it, compact, and below the size that a page may have."""

from __future__ import annotations

import json
import re

import pytest

from vocabalign.report import token_block
from vocabalign.report.token_block import MOST_SOURCES, PAGE_ROWS, table_data
from vocabalign.report.token_table import read_lexicon_table

from .conftest import EVIL, make_run


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("block") / "run", 300)
    return read_lexicon_table(folder / "lexicon" / "lexicon.tsv", "lexicon")


def rebuilt(data, row):
    """Sources of a row as the script reads them."""
    first = sum(data["counts"][:row])
    entries = range(first, first + data["counts"][row])
    return [(data["sources"][data["entries"][i]], data["weights"][i] / 1000) for i in entries]


def test_the_data_are_the_table(table):
    data, limit = table_data(table)
    assert limit == MOST_SOURCES
    for row in range(len(table.ids)):
        assert data["ids"][row] == table.ids[row]
        expected = [weight for _, weight in table.sources(row)]
        assert [weight for _, weight in rebuilt(data, row)] == pytest.approx(expected, abs=5e-4)
    assert json.loads(json.dumps(data)) == data


def test_too_much_data_keeps_every_token_and_fewer_sources(table, monkeypatch):
    monkeypatch.setattr(token_block, "DATA_CHARACTERS", 100)
    data, limit = table_data(table)
    assert limit == 1 and len(data["tokens"]) == len(table.ids) and max(data["counts"]) == 1
    assert "At most 1 sources of each are shown" in token_block.token_block(table, "tokens-0")


def test_the_first_rows_stand_there_and_nothing_is_markup(table):
    page = token_block.token_block(table, "tokens-0")
    body = page[page.index("<tbody") : page.index("</tbody>")]
    assert body.count("<tr ") == PAGE_ROWS
    assert EVIL not in page and "&lt;script&gt;alert(1)" in body
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert EVIL in data["tokens"]
