"""Benchmarks and their claims: every script has a row, every row a script, and the runner writes what came out."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
SCRIPTS = [
    path.stem
    for path in sorted((ROOT / "benchmarks").glob("*.py"))
    if path.stem != "run_all" and '__name__ == "__main__"' in path.read_text(encoding="utf-8")
]


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("run_all", ROOT / "benchmarks" / "run_all.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_all"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["run_all"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_a_claim(runner, script):
    assert script in {claim.name for claim in runner.read_claims(TEXT)}


def test_every_claim_has_a_script_and_every_command_is_told_once_in_the_table(runner):
    claims = runner.read_claims(TEXT)
    assert {claim.name for claim in claims} <= set(SCRIPTS)
    table = TEXT[TEXT.index("| claim | command |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) == len(claims)  # no row that the runner cannot read


# What README says in figures -> the script that shows it.
README_CLAIMS = {
    "in five minutes on two CPU cores": "quickstart",
    "All stages took": "quickstart",
    "takes half the time and a twentieth of the memory": "losses_fused",
}
_FIGURES = re.compile(
    r"five minutes|half the time|twentieth|third of|\b\d[\d.,]* (?:%|s\b|GB|MB|times|seconds|minutes)"
)


def test_every_claim_of_the_readme_has_a_row(runner):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    claimed = {claim.name for claim in runner.read_claims(TEXT)}
    for phrase, script in README_CLAIMS.items():
        assert phrase in readme and script in claimed, phrase
    lines = [line for line in readme.splitlines() if _FIGURES.search(line) and not line.startswith("| ")]
    unknown = [line for line in lines if not any(phrase in line for phrase in README_CLAIMS)]
    assert unknown == [], "give each a row in BENCHMARKS.md and name its script in README_CLAIMS"


def test_the_runner_writes_table_and_outputs(runner, tmp_path, monkeypatch):
    scripts = {
        "quick": "print('ours 1 s\\nratio 0.5 | of the naive')",
        "broken": "raise SystemExit(3)",
        "needy": 'import os\nos.environ["VOCABALIGN_MATERIAL"]',
        "endless": "import time\nprint('begun', flush=True)\ntime.sleep(60)",
        "long": "",
    }
    (tmp_path / "benchmarks").mkdir()
    for name, code in scripts.items():
        (tmp_path / "benchmarks" / f"{name}.py").write_text(code)
    rows = "\n".join(
        f"| claim of {name}{' (slow)' if name == 'long' else ''} | `python benchmarks/{name}.py` |" for name in scripts
    )
    (tmp_path / "BENCHMARKS.md").write_text(f"| claim | command |\n|---|---|\n{rows}\n")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "FOLDER", tmp_path / "benchmarks")
    monkeypatch.delenv("VOCABALIGN_MATERIAL", raising=False)
    out = tmp_path / "runs" / "table.md"
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--minutes", "0.1", "--out", str(out)])
    with pytest.raises(SystemExit, match="benchmarks/broken.py"):
        runner.main()
    lines = {line.split("|")[1].strip(): line for line in out.read_text().splitlines() if line.startswith("| claim of")}
    assert "| ratio 0.5 \\| of the naive | 0 |" in lines["claim of quick"]
    assert "failed with exit status 3" in lines["claim of broken"]
    assert "not run: needs VOCABALIGN_MATERIAL" in lines["claim of needy"]
    assert "no time left" in lines["claim of endless"] and "not run: slow" in lines["claim of long (slow)"]
    text = out.read_text()
    assert "cores" in text and "ours 1 s" in text
