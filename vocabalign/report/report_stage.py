"""The report stage: one page of a run, ``report.html`` and its Markdown twin."""

from __future__ import annotations

from pathlib import Path

from vocabalign.artifacts import stage_artifact
from vocabalign.report.collect import collect_run
from vocabalign.report.content import build_sections
from vocabalign.report.html import render_html
from vocabalign.report.markdown import render_markdown
from vocabalign.stages import ReportConfig


def run(config: ReportConfig) -> Path:
    """Draw the page; what the run does not have is left out.

    Raises:
        ArtifactError: the folder is no run, or the output folder is in the way.
    """
    # Read first: a folder without artefacts is told before anything is written.
    collected = collect_run(config.run)
    title = config.title or config.run.absolute().name
    with stage_artifact("report", config) as artifact:
        sections = build_sections(collected)
        page = render_html(title, sections, lead=collected.description)
        (artifact.folder / "report.html").write_text(page, encoding="utf-8", newline="\n")
        (artifact.folder / "report.md").write_text(
            render_markdown(title, sections, collected.description), encoding="utf-8", newline="\n"
        )
        artifact.metrics["html_bytes"] = len(page.encode())
    return artifact.out
