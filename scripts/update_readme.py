"""Put the results of a finished quickstart into README.md and docs/quickstart.svg.

python scripts/update_readme.py [runs/quickstart]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from vocabalign.report.figures import draw_scores

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- quickstart table -->", "<!-- end of the quickstart table -->"
COLOURS = {"--ink": "#333333", "--rule": "#cccccc", "--series-0": "#1f5fa8"}


def table(run: Path) -> str:
    """The models of the run as a Markdown table, and a line about the run itself."""
    metrics = json.loads((run / "metrics" / "metrics.json").read_text(encoding="utf-8"))
    rows = [
        "| model | bits per byte | 95 % interval | tokens per kB | goes on from the prompt |",
        "|---|---:|---:|---:|---|",
    ]
    for model in metrics["models"]:
        interval = f"{model['bits_per_byte_low']:.3f} to {model['bits_per_byte_high']:.3f}"
        sample = " ".join(model["sample"].split())[:56].replace("|", "\\|").replace("`", "'")
        score, tokens = f"{model['bits_per_byte']:.4f}", f"{model['tokens_per_kilobyte']:.0f}"
        rows.append(f"| {model['name']} | {score} | {interval} | {tokens} | `{sample}` |")
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in run.glob("*/manifest.json")]
    seconds = sum(manifest["seconds"] for manifest in manifests)
    memory = max(manifest["peak_memory_bytes"] for manifest in manifests) / 1e9
    prompt = " ".join(metrics["prompt"].split())
    text = f"All stages took {seconds:.0f} s and at most {memory:.1f} GB on two CPU cores. Prompt: `{prompt}`"
    return "\n".join([*rows, "", text])


def standalone(svg: str) -> str:
    """A figure of the report with the page's colours written out."""
    svg = re.sub(r"var\((--[\w-]+)\)", lambda match: COLOURS.get(match[1], "#333333"), svg)
    return svg if "xmlns=" in svg else svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)


def main() -> None:
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "quickstart"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    (ROOT / "README.md").write_text(f"{before}{BEGIN}\n{table(run)}\n{END}{after}", encoding="utf-8")
    metrics = json.loads((run / "metrics" / "metrics.json").read_text(encoding="utf-8"))
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "quickstart.svg").write_text(
        standalone(draw_scores(metrics["models"], "quickstart")), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
