"""Run every benchmark that fits in half an hour, one after the other (``make benchmarks``).

Those that need real models and text find them through VOCABALIGN_MATERIAL and are left out where it is unset.
Longer ones are in BENCHMARKS.md with their commands: align_quality, alignment_search, transplant_rows and
evaluation_draft.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SCRIPTS = ("startup", "quickstart", "losses_fused", "losses_memory", "losses_cross_tokenizer")
WITH_MATERIAL = (
    "shared_running_tokens",
    "token_bytes_scale",
    "alignment_speed",
    "inspect_scale",
    "compression_ntrex",
    "counting_speed",
    "glove_speed",
    "event_agreement",
    "evaluation_scoring",
)


def main() -> None:
    """Print the machine and each script's lines."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    scripts = SCRIPTS + (WITH_MATERIAL if os.environ.get("VOCABALIGN_MATERIAL") else ())
    for script in scripts:
        print(f"\n== {script}", flush=True)
        subprocess.run([sys.executable, str(FOLDER / f"{script}.py")], check=True)


if __name__ == "__main__":
    main()
