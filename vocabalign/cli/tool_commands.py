"""Commands beside the stages: whole runs, and what looks at things without changing them."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from vocabalign.cli.options import (
    common,
    corpus_option,
    everywhere,
    hub_option,
    out_option,
    row_sources,
    token_overrides,
)


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--full/--files-only", default=None, help="Load the whole model (the default below 2 GB) or not.")
@hub_option
@everywhere
def verify(folder: str, full: bool | None, push_to_hub: str | None, as_json: bool, **_: Any) -> None:
    """Check a model folder by reloading it the way users will; with --push-to-hub, upload it when it is sound."""
    from vocabalign.commands import run_verify

    run_verify(folder, full, push_to_hub, as_json)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@corpus_option
@click.option("--html", type=click.Path(), metavar="FILE", help="Also write a page with pictures, which works offline.")
@everywhere
def inspect(a: str, b: str | None, corpus: tuple[str, ...], html: str | None, **options: Any) -> None:
    """What a tokenizer is, and what two of them share."""
    from vocabalign.commands import run_inspect

    run_inspect(a, b, corpus, html, options)


@click.command(name="run")
@click.argument("pipeline", metavar="PIPELINE.yaml")
@click.option("--from", "first", metavar="STAGE", help="Take the artefacts before this stage as they are.")
@click.option("--to", "last", metavar="STAGE", help="Stop after this stage.")
@click.option("--force", is_flag=True, help="Run stages even where nothing changed.")
@out_option
@partial(common, configurable=False)
def run_command(pipeline: str, **options: Any) -> None:
    """Run a pipeline file; stages that are up to date are skipped."""
    from vocabalign.commands import run_pipeline_file

    run_pipeline_file(pipeline, options)


@click.command()
@click.option("--source", metavar="MODEL", help="Model folder to give another vocabulary.")
@click.option("--target", metavar="TOKENIZER", help="Tokenizer (or model) folder of the new one.")
@click.option(
    "--teacher", metavar="MODEL", help="Distil from this model afterwards; it must own the target vocabulary."
)
@click.option(
    "--heldout", multiple=True, metavar="FILE", help="Text for scores; else a part of the corpus is held out."
)
@click.option("--steps", type=int, help="Optimizer steps of fine-tuning (and of distillation).")
@token_overrides
@corpus_option
@out_option
@hub_option
@common
def adapt(**options: Any) -> None:
    """The whole way, from a source model and a target tokenizer to the fine-tuned model."""
    from vocabalign.commands import run_adapt

    run_adapt(options)


@click.command()
@click.argument("name", required=False)
@click.option("--out", type=click.Path(), metavar="FILE", help="Where to put the copy; NAME.yaml here by default.")
@everywhere
def init(name: str | None, out: str | None, overwrite: bool | None, as_json: bool, **_: Any) -> None:
    """Copy a commented pipeline or stage configuration here, to change it; without NAME, list them."""
    from vocabalign.commands import run_init

    run_init(name, out, bool(overwrite), as_json)


@click.command()
@click.option("--source", required=True, metavar="MODEL", help="Model folder to give another vocabulary.")
@click.option("--target", required=True, metavar="DIR", help="Tokenizer (or model) folder of the new vocabulary.")
@click.option(
    "--lexicon", type=click.Path(), metavar="DIR", help="From 'align'; else the lexicon methods are left out."
)
@click.option("--heldout", multiple=True, required=True, metavar="FILE", help="Text to score on; may repeat.")
@click.option(
    "--methods",
    default="auto,fvt,last,first,decay",
    help="Row methods, separated by commas, INPUT/HEAD for two at once, or 'all' that have what they need.",
)
@row_sources
@click.option("--untie", is_flag=True, help="Give a tied source a head of its own, for every method.")
@click.option(
    "--calibrate-head/--no-calibrate-head",
    default=True,
    help="Shift head rows by counts of the corpus, as 'transplant' does, or leave them as published.",
)
@click.option("--finetune-steps", type=int, default=0, help="Train each, and the source, this many steps too.")
@corpus_option
@click.option(
    "--out",
    type=click.Path(),
    metavar="DIR",
    help="Write comparison.json, a page and pictures here; an interrupted run goes on.",
)
@everywhere
def compare(**options: Any) -> None:
    """Ways of making rows, side by side on one model, one target and one text."""
    from vocabalign.commands import run_compare

    run_compare(options)


COMMANDS: tuple[click.Command, ...] = (run_command, adapt, init, compare, inspect, verify)
