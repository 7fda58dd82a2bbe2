"""Run the benchmark of every claim that fits in half an hour, and write the table of what came out.

    python benchmarks/run_all.py [--minutes 30] [--only NAME ...] [--out runs/benchmarks.md]

The claims are the first table of BENCHMARKS.md; those marked (slow) are named with their command and not run, and so is
what does not fit any more. Scripts that need real models and text find them through VOCABALIGN_MATERIAL. The table has
each claim, the lines of its script that hold ratios and limits, and the seconds; the whole output stands below it, and
what machine it was on above it.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
_ROW = re.compile(r"^\| (?P<claim>[^|]+) \| `(?P<command>python benchmarks/(?P<name>\w+)\.py[^`]*)` \|$", re.MULTILINE)
_TELLING = re.compile(r"ratio|limit|\btimes\b|within|at most", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\b(DIR|FILE|TEXT)\b")
MATERIAL = "VOCABALIGN_MATERIAL"


@dataclass(frozen=True)
class Claim:
    """A row of BENCHMARKS.md: what is said, and the command that shows it."""

    text: str
    command: str
    name: str

    @property
    def slow(self) -> bool:
        """Whether it takes longer than all of this may."""
        return "(slow)" in self.text

    @property
    def why_not(self) -> str:
        """Why it cannot be run here; "" where it can."""
        if self.slow:
            return "slow"
        if _PLACEHOLDER.search(self.command):
            return "needs what its command names"
        if f'environ["{MATERIAL}"]' in (FOLDER / f"{self.name}.py").read_text(encoding="utf-8") and not os.environ.get(
            MATERIAL
        ):
            return f"needs {MATERIAL}"
        return ""


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    output: str
    seconds: float
    failed: str = ""


def read_claims(text: str) -> list[Claim]:
    """The rows of BENCHMARKS.md that name a script."""
    return [Claim(row["claim"].strip(), row["command"], row["name"]) for row in _ROW.finditer(text)]


def run_command(command: str, limit: float) -> Outcome:
    """Run one; what fails or takes too long says so and stops nothing else."""
    words = [sys.executable, *shlex.split(command)[1:]]
    started = time.monotonic()
    try:
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        text = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        return Outcome(text, time.monotonic() - started, "no time left")
    failed = f"failed with exit status {done.returncode}" if done.returncode else ""
    return Outcome(done.stdout, time.monotonic() - started, failed)


def machine() -> str:
    """Processor, cores, memory, system and versions."""
    import torch

    model = next(iter(re.findall(r"^model name\s*: (.*)$", _read("/proc/cpuinfo"), re.M)), platform.machine())
    memory = next(iter(re.findall(r"^MemTotal:\s*(\d+) kB$", _read("/proc/meminfo"), re.M)), None)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    size = f"{int(memory) / 1e6:.0f} GB, " if memory else ""
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return (
        f"{model}, {os.cpu_count()} cores, {size}{gpu}, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}{load}"
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def telling_lines(output: str, most: int = 4) -> list[str]:
    """The lines that say how it compares; the first ones where none does."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    return (telling or lines)[:most]


def write_table(path: Path, facts: str, claims: Sequence[Claim], outcomes: dict[str, Outcome]) -> None:
    """The table, then every output."""
    rows = []
    for claim in claims:
        outcome = outcomes.get(claim.command)
        if outcome is None:
            found, seconds = f"not run: {claim.why_not or 'no time left'}", ""
        else:
            shown = "<br>".join(telling_lines(outcome.output))
            found, seconds = " ".join(filter(None, (outcome.failed, shown))), f"{outcome.seconds:.0f}"
        rows.append(f"| {claim.text} | {found.replace('|', chr(92) + '|')} | {seconds} | `{claim.command}` |")
    parts = [facts, "| claim | figure | seconds | command |\n|---|---|---:|---|\n" + "\n".join(rows)]
    parts += [f"`{command}`\n\n```\n{outcome.output.rstrip()}\n```" for command, outcome in outcomes.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(["# Benchmarks of this machine", *parts]) + "\n", encoding="utf-8")


def main() -> None:
    """Run, print as it comes, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="for all together")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of scripts")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "benchmarks.md")
    options = parser.parse_args()
    claims = read_claims((ROOT / "BENCHMARKS.md").read_text(encoding="utf-8"))
    if options.only:
        claims = [claim for claim in claims if claim.name in options.only]
    facts, end = machine(), time.monotonic() + 60 * options.minutes
    print(facts)
    outcomes: dict[str, Outcome] = {}
    for claim in claims:
        if claim.why_not or claim.command in outcomes or time.monotonic() > end:
            continue
        print(f"\n== {claim.command}", flush=True)
        outcomes[claim.command] = run_command(claim.command, end - time.monotonic())
        print(outcomes[claim.command].output, outcomes[claim.command].failed, sep="", flush=True)
        write_table(options.out, facts, claims, outcomes)
    left = dict.fromkeys(claim.command for claim in claims if claim.command not in outcomes)
    print("\n".join(["\nNot run:", *left]) if left else "")
    print(f"{options.out} written")
    failed = [command for command, outcome in outcomes.items() if outcome.failed.startswith("failed")]
    if failed:
        sys.exit(f"These failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
