"""Run every benchmark that fits in half an hour, one after the other (``make benchmarks``)."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SCRIPTS = ("startup.py", "quickstart.py")


def main() -> None:
    """Print the machine and each script's lines."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for script in SCRIPTS:
        print(f"\n== {script}", flush=True)
        subprocess.run([sys.executable, str(FOLDER / script)], check=True)


if __name__ == "__main__":
    main()
