"""How long ``vocabalign --help`` takes beside importing the libraries that a naive command line imports first.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def median_seconds(code: str, runs: int = 5) -> float:
    """Median wall-clock seconds of a fresh interpreter that runs ``code``."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Print both medians and the ratio."""
    ours = median_seconds("from vocabalign.cli import run; run(['--help'])")
    naive = median_seconds("import torch, transformers, click; from transformers import AutoModelForCausalLM, Trainer")
    print(f"vocabalign --help {ours:.2f} s, with the libraries imported first {naive:.2f} s, ratio {ours / naive:.3f}")


if __name__ == "__main__":
    main()
