"""The quickstart's claims: five minutes and 4 GB on two cores, and what each model reaches.

    python benchmarks/quickstart.py [--run runs/quickstart]

Runs pipelines/quickstart.yaml into a new folder (or reads a finished run), and prints seconds, peak
memory and bits per byte, with the ratios that the README states.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_quickstart(out: Path) -> tuple[float, float]:
    """Seconds and peak resident memory (bytes) of the whole command, as the operating system counts them."""
    command = [sys.executable, "-m", "vocabalign", "run", "pipelines/quickstart.yaml", "--out", str(out)]
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def main() -> None:
    """Run or read, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run to read instead of running")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.run or Path(folder) / "run"
        if arguments.run is None:
            seconds, memory = run_quickstart(out)
            print(f"whole quickstart: {seconds:.0f} s (limit 300), peak memory {memory / 1e9:.2f} GB (limit 4)")
        models = {m["name"]: m for m in json.loads((out / "metrics" / "metrics.json").read_text())["models"]}
    for name, model in models.items():
        print(f"{name:<18} {model['bits_per_byte']:.4f} bits per byte  {model['tokens_per_kilobyte']:.1f} tokens/kB")
    for ours, other in (("finetuned", "source"), ("finetuned", "source-continued"), ("distilled", "control")):
        ratio = models[ours]["bits_per_byte"] / models[other]["bits_per_byte"]
        print(f"{ours} / {other}: {ratio:.4f}")


if __name__ == "__main__":
    main()
