"""``vocabalign tokenizer train | extend | prune``."""

from __future__ import annotations

from typing import Any

import click

from vocabalign.cli.options import Command, common, corpus_option, out_option, run_stage


def heldout_option(command: Command) -> Command:
    """Text for the report alone."""
    text = "Text for the report of compression; else the corpus is used. May repeat."
    return click.option("--heldout", multiple=True, metavar="FILE", help=text)(command)


@click.group()
def tokenizer() -> None:
    """Make a vocabulary: train a new one, extend or prune one that exists."""


@tokenizer.command()
@corpus_option
@click.option("--size", type=int, metavar="N", help="Tokens in all, special ones and bytes included.")
@click.option(
    "--kind",
    type=click.Choice(["byte-level-bpe", "sentencepiece-unigram", "sentencepiece-bpe"]),
    help="How text becomes tokens.  [default: byte-level-bpe]",
)
@click.option("--like", metavar="DIR", help="Take normalizer, pre-tokenizer and special tokens from this tokenizer.")
@click.option("--special", multiple=True, metavar="ROLE=TOKEN", help="A special token, such as eos=</s>; may repeat.")
@heldout_option
@out_option
@common
def train(special: tuple[str, ...], **options: Any) -> None:
    """Train a tokenizer from text."""
    pairs = [text.partition("=") for text in special]
    if not all(equals and token for _, equals, token in pairs):
        raise click.BadParameter("expected ROLE=TOKEN", param_hint="--special")
    options["special_tokens"] = {role: token for role, _, token in pairs} or None
    _run("tokenizer-train", options)


@tokenizer.command()
@click.option("--tokenizer", metavar="DIR", help="Tokenizer (or model) folder to extend.")
@corpus_option
@click.option("--num-tokens", type=int, metavar="N", help="Learn this many tokens from the corpus.")
@click.option("--words", type=click.Path(), metavar="FILE", help="Make each of these words, one a line, one token.")
@click.option(
    "--word-forms", type=click.Choice(["auto", "spaced", "bare", "both"]), help="As behind a space, or without one."
)
@heldout_option
@out_option
@common
def extend(**options: Any) -> None:
    """Add tokens to a tokenizer; the old ids stay."""
    _run("tokenizer-extend", options)


@tokenizer.command()
@click.option("--tokenizer", metavar="DIR", help="Tokenizer (or model) folder to prune.")
@corpus_option
@click.option("--scripts", metavar="NAME,...", help="Keep tokens in these Unicode scripts: Latin,Cyrillic.")
@click.option("--size", type=int, metavar="N", help="Keep at most this many tokens.")
@click.option("--min-count", type=int, metavar="N", help="Keep what the corpus uses at least this often.")
@heldout_option
@out_option
@common
def prune(scripts: str | None, **options: Any) -> None:
    """Leave tokens out of a tokenizer; any text can still be encoded."""
    options["scripts"] = tuple(name.strip() for name in (scripts or "").split(",") if name.strip())
    _run("tokenizer-prune", options)


def _run(stage: str, options: dict[str, Any]) -> None:
    from vocabalign.tokenizer_tools.terminal import format_report

    run_stage(stage, options, format_report)


COMMANDS: tuple[click.Command, ...] = (tokenizer,)
