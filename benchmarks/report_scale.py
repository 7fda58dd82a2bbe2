"""How long the page of a run with 256,000 tokens takes to open, to search and to sort in a real browser, and its size.

    python benchmarks/report_scale.py [--tokens 256000]

Needs Chromium, its driver (Debian: chromium, chromium-driver) and selenium. Beside it stands the naive page, with rows
written out as a table; with all of them Chromium did not come back within two minutes, so it gets a part.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.artifacts import write_artifact
from vocabalign.lexicon_table import COLUMNS
from vocabalign.report.collect import collect_run
from vocabalign.report.report_stage import run as draw_report
from vocabalign.report.token_block import MOST_SOURCES, token_row
from vocabalign.stages import ReportConfig

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SYLLABLES = "ka to ри во מל שא 中 国 ün ção ด้ ก ह क् ə ng the er ing at".split()
KINDS = ("identical", "relaxed", "cooccurrence", "segmentation", "distributional")


def make_large_run(folder: Path, num_tokens: int = 256_000, num_sources: int = 8) -> Path:
    """A run with a lexicon of this size, each token but the identical ones with this many sources."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 5, num_tokens)
    parts = rng.integers(0, len(SYLLABLES), (num_tokens, 5))
    words = ["".join(SYLLABLES[part] for part in row[:length]) for row, length in zip(parts.tolist(), lengths)]
    tokens = [f"{' ' * (number % 2)}{word}{number % 97}" for number, word in enumerate(words)]
    kinds = rng.integers(0, len(KINDS), num_tokens).tolist()
    sources = rng.integers(0, num_tokens, (num_tokens, num_sources)).tolist()
    trust = rng.random(num_tokens).tolist()
    weights = "0.5 0.25 0.1 0.05 0.04 0.03 0.02 0.01".split()
    with write_artifact(folder / "lexicon", "align", {"source": "a/source", "target": "a/target"}, {}) as writer:
        with (writer.folder / "lexicon.tsv").open("w", encoding="utf-8") as file:
            file.write("\t".join(COLUMNS) + "\n")
            for number, token in enumerate(tokens):
                kind, ids = KINDS[kinds[number]], sources[number]
                ids = ids[:1] if kind == "identical" else ids
                entries = " ".join(f"{i}:{words[i]}={weight}" for i, weight in zip(ids, weights))
                file.write(f"{number}\t{token}\t{kind}\t{trust[number]:.6f}\t{entries}\n")
    rows = [
        {"name": name, "path": f"run/{name}", "bits_per_byte": value, "tokens_per_kilobyte": 300.0}
        for name, value in (("source", 1.2), ("finetuned", 1.1))
    ]
    with write_artifact(folder / "metrics", "evaluate", {}, {}) as writer:
        (writer.folder / "metrics.json").write_text(json.dumps({"models": rows}))
    return folder


@contextmanager
def open_browser() -> Iterator[Any]:
    """A headless Chromium that keeps what its console says.

    Raises:
        RuntimeError: Chromium, its driver or selenium is not there.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise RuntimeError("Chromium or its driver is not installed (Debian: chromium, chromium-driver).")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError as error:
        raise RuntimeError("selenium is not installed.") from error
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield browser
        finally:
            browser.quit()


def seconds_to_open(browser: Any, page: Path) -> float:
    """From nothing to a page that is laid out and answers: two frames have been drawn."""
    started = time.perf_counter()
    browser.get(page.absolute().as_uri())
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()));"
    )
    return time.perf_counter() - started


def seconds_of(browser: Any, script: str) -> float:
    """Until the table has changed and is drawn."""
    code = f"""const done = arguments[0], table = document.querySelector(".tokens tbody"), started = performance.now();
    const watch = new MutationObserver(() => {{
      watch.disconnect();
      requestAnimationFrame(() => setTimeout(() => done((performance.now() - started) / 1000), 0));
    }});
    watch.observe(table, {{childList: true}});
    {script}"""
    return float(browser.execute_async_script(code))


SEARCH = """const field = document.querySelector(".tokens input"); field.value = "the";
field.dispatchEvent(new Event("input"));"""
SORT = """document.querySelector('[data-key="{}"] button').click();"""


def measure(browser: Any, page: Path) -> dict[str, float]:
    """Seconds to open the page, to show its table the first time, to search and to sort."""
    browser.set_script_timeout(120)
    return {
        "open": seconds_to_open(browser, page),
        "first look at the table": seconds_of(browser, 'document.querySelector(".tokens").scrollIntoView();'),
        "search": seconds_of(browser, SEARCH),
        "sort by confidence": seconds_of(browser, SORT.format("confidence")),
        "sort by token": seconds_of(browser, SORT.format("token")),
    }


def write_naive(run_folder: Path, page: Path, num_rows: int) -> None:
    """The first rows as one table."""
    table = collect_run(run_folder).tables[0]
    with page.open("w", encoding="utf-8") as file:
        file.write("<!doctype html><meta charset=utf-8><table class=tokens><tbody>\n")
        file.writelines(token_row(table, row, MOST_SOURCES) + "\n" for row in range(num_rows))
        file.write("</table>\n")


def main() -> None:
    """Print size and seconds of ours, of the naive page, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256_000)
    parser.add_argument("--naive-tokens", type=int, default=20_000, help="rows of the naive page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        run_folder = make_large_run(Path(folder) / "run", options.tokens)
        started = time.perf_counter()
        page = draw_report(ReportConfig(out=Path(folder) / "report", run=run_folder)) / "report.html"
        size = page.stat().st_size / 1e6
        print(
            f"{options.tokens:,} tokens: page drawn in {time.perf_counter() - started:.1f} s, {size:.1f} MB (limit 30)"
        )
        measured = measure(browser, page)
        for name, seconds in measured.items():
            limit = " (limit 3)" if name == "open" else ""
            print(f"{name:<24} {seconds:6.2f} s{limit}")
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        print(f"errors on the console: {len(errors)}")
        naive = Path(folder) / "naive.html"
        write_naive(run_folder, naive, min(options.naive_tokens, options.tokens))
        naive_size = naive.stat().st_size / 1e6
        browser.set_page_load_timeout(110)
        naive_seconds = seconds_to_open(browser, naive)
        print(f"naive page of {options.naive_tokens:,} tokens: {naive_size:.1f} MB, opened in {naive_seconds:.2f} s")
        print(
            f"ratios to it, with all tokens: size {size / naive_size:.2f}, time {measured['open'] / naive_seconds:.3f}"
        )


if __name__ == "__main__":
    main()
