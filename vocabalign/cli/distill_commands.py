"""``vocabalign distill``, which trains a student, and below it ``cache`` and ``inspect``."""

from __future__ import annotations

from typing import Any

import click

from vocabalign.cli.options import common, corpus_option, everywhere, hub_option, out_option, run_stage

KINDS = ["log-probs", "top-k", "sampled", "hidden"]


@click.group(invoke_without_command=True)
@click.option("--student", metavar="DIR", help="Model folder to train.")
@click.option(
    "--teacher",
    multiple=True,
    metavar="DIR|URL|self",
    help="Model folder that teaches, with any vocabulary; a server; the student without its adapters. May repeat.",
)
@corpus_option
@click.option("--heldout", multiple=True, metavar="FILE", help="Text for scores during training; may repeat.")
@click.option("--cache", type=click.Path(), metavar="DIR", help="From 'distill cache': the teacher is not run.")
@click.option(
    "--loss",
    metavar="LOSS",
    help="auto, token, event, chunks, prefixes, projection, uld, gold, hidden, sentence; or a sum.",
)
@click.option("--lexicon", type=click.Path(), metavar="DIR", help="From 'align'; for the loss projection.")
@click.option("--on-policy", type=float, metavar="SHARE", help="Share of the batches that the student writes itself.")
@click.option("--steps", type=int, help="Optimizer steps in all.")
@hub_option
@out_option
@common
@click.pass_context
def distill(context: click.Context, on_policy: float | None, **options: Any) -> None:
    """Distillation from teachers with the same vocabulary or another one."""
    if context.invoked_subcommand is not None:
        return
    options["on_policy"] = None if on_policy is None else {"share": on_policy}
    run_stage("distill", options)


@distill.command()
@click.option("--teacher", metavar="DIR|URL", help="Model folder that teaches, or a server.")
@corpus_option
@click.option("--kind", type=click.Choice(KINDS), help="What of the teacher is kept.  [default: log-probs]")
@click.option("--top-k", type=int, metavar="K", help="Tokens kept at every place, for top-k.")
@out_option
@common
def cache(**options: Any) -> None:
    """Make a teacher's targets once, for students with any tokenizer."""
    run_stage("distill-cache", options)


@distill.command()
@click.option("--student", required=True, metavar="DIR", help="Tokenizer or model folder of the student.")
@click.option("--teacher", required=True, metavar="DIR", help="Tokenizer or model folder of the teacher.")
@corpus_option
@everywhere
def inspect(student: str, teacher: str, corpus: tuple[str, ...], as_json: bool, **_: Any) -> None:
    """How well two tokenizers line up, and which loss 'auto' takes; from the tokenizers alone."""
    from vocabalign.commands import run_distill_inspect

    run_distill_inspect(student, teacher, list(corpus), as_json)


COMMANDS: tuple[click.Command, ...] = (distill,)
