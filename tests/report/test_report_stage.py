"""The page: whole, safe, self-contained, and the same numbers in both forms."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from vocabalign.artifacts import write_artifact
from vocabalign.errors import ArtifactError
from vocabalign.manifests import read_manifest
from vocabalign.report import figures
from vocabalign.report.report_stage import run
from vocabalign.stages import ReportConfig

from .conftest import EVIL, MODELS, make_run

VOID = {"meta", "input", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """Elements, their attributes and the text of the page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(run_folder):
    return run(ReportConfig(out=run_folder / "report", run=run_folder))


@pytest.fixture(scope="module")
def source(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_artefact(folder):
    manifest = read_manifest(folder)
    assert manifest["stage"] == "report"
    assert set(manifest["files"]) == {"report.html", "report.md"}


def test_nothing_is_fetched(source, page):
    assert "http://" not in source
    assert "https://" not in source
    for tag, attributes in page.elements:
        assert "src" not in attributes, tag
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            if name.endswith("href"):
                assert value.startswith("#"), (tag, value)
    assert "@import" not in source
    assert not re.search(r"url\((?!#)", source)


def test_token_text_is_never_markup(source, page):
    # The page's own script, and the lexicon's data.
    assert [attributes.get("type") for attributes in page.named("script")] == ["application/json", None]
    assert "alert(1)" not in page.scripts[1]
    assert EVIL in page.text
    assert "<script>alert" not in source
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not page.named("img")
    data = json.loads(page.scripts[0])
    assert len(data["tokens"]) == 300 and EVIL in data["tokens"]


def test_control_characters_and_directions_are_shown_not_obeyed(source, page):
    for character in "\x00\x1b\u202e\u2028":
        assert character not in source
    assert "\\x1b[31m" in page.text
    cells = set(json.loads(page.scripts[0])["tokens"])
    assert {"\\u202eabc", "\\x00", "\\u2028", "\N{OPEN BOX}the"} <= cells
    assert page.named("bdi")


def test_tables_are_accessible(page):
    tables = page.named("table")
    assert len(tables) >= 5
    assert len(page.named("caption")) == len(tables)
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.named("th"))
    assert len(page.named("h1")) == 1
    assert page.named("html")[0]["lang"] == "en"
    search = page.named("input")[0]
    assert any(label.get("for") == search["id"] for label in page.named("label"))


def test_ids_are_unique_and_links_lead_somewhere(page):
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        if attributes.get("href"):
            assert attributes["href"][1:] in ids, (tag, attributes)


@pytest.mark.skipif(not figures.can_draw(), reason="matplotlib is not installed")
def test_figures_are_inline_and_follow_the_theme(source, page):
    drawings = page.named("svg")
    assert len(drawings) == 6
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawings)
    assert "var(--ink)" in source
    assert "var(--series-0)" in source
    assert "#0a0b00" not in source


def test_markdown_has_the_same_numbers(folder, page):
    text = (folder / "report.md").read_text(encoding="utf-8")
    # Markup in code blocks is shown as it is.
    assert "<script" not in "".join(line for line in text.splitlines() if not line.startswith("    "))
    values = [
        "280.5",
        "3,150,000",
        "4,096",
        "-0.0111",
        "61.0%",
        "57.0%",
        "98.0%",
        "0.8123",
        "0.4567",
        "1,234",
        "-37.5%",
        "0.2500",
    ]
    for value in (*(f"{value:.4f}" for value in MODELS.values()), *values):
        assert value in text
        assert value in page.text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in tables}
    assert min(widths) > 2
    assert "\x00" not in text


def test_summary_and_order(page):
    assert "A small run for a test." in page.text
    assert "was given the vocabulary of demo:teacher" in page.text
    assert "control was trained directly from finetuned in 300 steps" in page.text
    assert "On 150 kB of held-out text, finetuned takes 1.5321 bits per byte and source 1.5432 (0.7% less" in page.text
    assert "0.7% more tokens for the same text" in page.text
    assert "nothing known: the mean row" in page.text
    assert "The least certain tokens of transplanted" in page.text
    headings = [a["id"] for a in page.named("section")]
    expected = (
        "summary models-metrics groups-metrics compression-metrics measures-metrics samples-metrics training rows "
        "tokens doubts hubs map resources again"
    )
    assert headings == expected.split()


def test_again_gives_the_same_page(run_folder, folder, source):
    run(ReportConfig(out=run_folder / "report", run=run_folder, overwrite=True))
    assert (folder / "report.html").read_text(encoding="utf-8") == source


@pytest.mark.parametrize("name", ['x"><img src=x onerror=alert(1)>', r"back\1slash \g<0>", "two  words"])
def test_names_of_folders_are_never_markup(tmp_path, name):
    source = make_run(tmp_path / "run", 20)
    for old in ("metrics", "lexicon"):
        (source / old).rename(source / f"{old} {name}")
    out = run(ReportConfig(out=tmp_path / "page", run=source))
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert not page.named("img")
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[\w.-]+", identity) for identity in ids)
    assert f"metrics {name}" in page.text or name not in page.text
    if figures.can_draw():
        assert len(page.named("svg")) == 6


def test_missing_pieces_are_left_out_with_a_note(tmp_path):
    with write_artifact(tmp_path / "run" / "lexicon", "align", {"source": "a", "target": "b"}, {}) as writer:
        (writer.folder / "lexicon.tsv").write_text("only a header\n")
        (writer.folder / "map.json").write_text("{}")
        (writer.folder / "metrics.json").write_text("{broken")
    (tmp_path / "run" / ".half.partial-1").mkdir()
    out = run(ReportConfig(out=tmp_path / "page", run=tmp_path / "run", title=EVIL))
    page = Page((out / "report.html").read_text())
    text = page.text
    assert [attributes["id"] for attributes in page.named("section")] == ["summary", "resources", "again", "notes"]
    assert "lexicon/metrics.json cannot be read" in text
    assert EVIL in text


def test_without_matplotlib_there_are_tables_and_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "can_draw", lambda: False)
    out = run(ReportConfig(out=tmp_path / "page", run=make_run(tmp_path / "run", 20)))
    page = Page((out / "report.html").read_text())
    assert not page.named("svg")
    assert "matplotlib is not installed" in page.text
    assert len(page.named("table")) >= 5


def test_no_run_is_told(tmp_path):
    with pytest.raises(ArtifactError, match="no artefact inside"):
        run(ReportConfig(out=tmp_path / "page", run=tmp_path))
    with pytest.raises(ArtifactError, match="does not exist"):
        run(ReportConfig(out=tmp_path / "page", run=tmp_path / "nowhere"))
    assert not (tmp_path / "page").exists()
