"""The page and the tables of an inspection: whole, safe, and the same numbers everywhere."""

from __future__ import annotations

import json
import re

import pytest

from vocabalign.cli import run
from vocabalign.report.blocks import Bars, Section
from vocabalign.report.inspect_page import render_inspection
from vocabalign.report.inspect_tables import facts_table, names_of, script_table, sharing_table, shown_token
from vocabalign.report.markdown import render_markdown
from vocabalign.text.inspection import inspect_vocabularies
from vocabalign.text.tokenizers import load_vocabulary

from .conftest import EVIL, TOKENS
from .test_report_stage import Page


@pytest.fixture(scope="module")
def result(byte_level_folder, metaspace_folder, corpus_file):
    a, b = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    return inspect_vocabularies(a, b, [corpus_file])


@pytest.fixture(scope="module")
def page(result):
    return Page(render_inspection(result))


def evil_result():
    """A vocabulary whose name and tokens try to break the page."""
    tokens = [*(token.encode() for token in TOKENS), b"\xff", None]
    vocabulary = load_vocabulary((tokens, lambda text: [0] * len(text)))
    result = inspect_vocabularies(vocabulary)
    result["vocabularies"][0]["name"] = EVIL
    return result


def test_all_sections_are_there_and_linked(page):
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = [attributes["href"] for attributes in page.named("a")]
    assert {"#summary", "#sharing", "#compression", "#scripts", "#lengths", "#odd", "#specials"} <= set(links)
    assert {link[1:] for link in links} <= targets


def test_numbers_are_those_of_the_result(page, result):
    share = result["shared"]["bytes"]["type_share_of_b"]
    assert page.text.count(f"{share:.2%}") >= 3
    for entry in result["vocabularies"]:
        assert f"{entry['compression']['bytes_per_token']:.3f}" in page.text


def test_bars_have_their_numbers_beside_them(result):
    source = render_inspection(result)
    lengths = [float(value) for value in re.findall(r"--length:([0-9.]+)", source)]
    assert len(lengths) > 50 and all(0 <= length <= 1 for length in lengths) and max(lengths) == 1
    # Read aloud, each number comes with the name of its series.
    assert source.count('<div class="bar">') == len(lengths)
    assert all(name in source for name in names_of(result))


def test_nothing_is_fetched_and_no_token_is_markup():
    source = render_inspection(evil_result())
    page = Page(source)
    assert "http://" not in source and "https://" not in source and "<script>alert" not in source
    assert EVIL in page.text and not page.named("img")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in source and "\x00" not in source


def test_one_vocabulary_without_text(byte_level_folder):
    result = inspect_vocabularies(load_vocabulary(byte_level_folder))
    page = Page(render_inspection(result))
    links = {attributes["href"] for attributes in page.named("a")}
    assert "#summary" in links and not links & {"#sharing", "#compression"}


def test_same_names_are_told_apart(byte_level_folder):
    vocabulary = load_vocabulary(byte_level_folder)
    result = inspect_vocabularies(vocabulary, vocabulary)
    assert names_of(result) == [f"{vocabulary.name} (A)", f"{vocabulary.name} (B)"]
    for table in (facts_table(result), sharing_table(result), script_table(result, 2)):
        assert all(len(row) == len(table.header) for row in table.rows)
    assert len(script_table(result, 2).rows) == 2


def test_tokens_on_one_short_line():
    assert shown_token(" a\n") == "\N{OPEN BOX}a\\n"
    assert len(shown_token("\x00" * 100)) < 50


def test_command(byte_level_folder, metaspace_folder, corpus_file, tmp_path, capsys):
    out = tmp_path / "pages" / "two.html"
    words = ["inspect", str(byte_level_folder), str(metaspace_folder), "--corpus", str(corpus_file)]
    assert run([*words, "--html", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Compared by" in printed and "byte-level BPE" in printed and EVIL not in printed
    first = out.read_bytes()
    assert run([*words, "--html", str(out), "--json"]) == 1
    assert "exists already" in capsys.readouterr().err and out.read_bytes() == first
    assert run([*words, "--html", str(out), "--json", "--overwrite"]) == 0
    assert json.loads(capsys.readouterr().out)["shared"]["bytes"]
    assert run([*words, "--html", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err
    assert [path.name for path in out.parent.iterdir()] == ["two.html"]


def test_bars_are_a_table_in_markdown():
    bars = Bars("Shares.", "Script", ["A", "B"], [("Latin", [(0.5, "50%"), (1.0, "100%")])])
    text = render_markdown("x", [Section("s", "S", [bars])])
    assert "| Script | A | B |" in text and "| Latin | 50% | 100% |" in text
