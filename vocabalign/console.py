"""What a command says: results on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from vocabalign.config import StageConfig
from vocabalign.errors import VocabAlignError
from vocabalign.folders import is_disk_full
from vocabalign.progress import logger

if TYPE_CHECKING:
    from rich.table import Table


def show(value: dict[str, Any], as_json: bool, text: str) -> None:
    """A result on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str) if as_json else text)


def show_plan(stages: list[tuple[str, StageConfig]], as_json: bool) -> None:
    """What a dry run says."""
    from vocabalign.planning import plan_stages

    plans = plan_stages(stages)
    total = {
        "seconds_here": round(sum(plan.seconds_here for plan in plans)),
        "stages": [plan.as_json() for plan in plans],
    }
    show(total, as_json, "\n".join(str(plan) for plan in plans))


def model_table(metrics: dict[str, Any]) -> str:
    """The table of models as text."""
    from vocabalign.evaluation.table import format_table

    return as_text(format_table(metrics))


def as_text(*tables: Table) -> str:
    """Rich tables as text, as wide as the terminal (120 columns elsewhere)."""
    import io

    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(file=io.StringIO(), width=None if terminal else 120, force_terminal=terminal)
    console.print(*tables, sep="\n")
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def is_main_process() -> bool:
    """Whether this is the process that speaks, of those that torchrun or accelerate started."""
    return os.environ.get("RANK", "0") == "0"


def start_logging() -> None:
    """Plain lines on standard error, and quiet libraries."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    context = click.get_current_context(silent=True)
    quiet = bool(context and context.obj and context.obj.get("quiet"))
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def explain(error: Exception) -> tuple[str, int]:
    """(sentence, exit code) for an error that reached the top."""
    if isinstance(error, VocabAlignError):
        return str(error), error.exit_code
    if is_disk_full(error):
        return "No space left on the disk: free some and run the same command again; nothing half-written was kept.", 1
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "Out of memory: lower the batch size or block_mebibytes (see --dry-run for the memory needed).", 1
    reason = " ".join(str(error).split())[:300]
    return f"Something unexpected happened ({type(error).__name__}: {reason}); run again with --debug to see where.", 1
