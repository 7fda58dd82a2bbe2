"""One command for each stage."""

from __future__ import annotations

from typing import Any

import click

from vocabalign.cli.options import (
    common,
    corpus_option,
    hub_option,
    out_option,
    row_sources,
    run_stage,
    token_overrides,
)


@click.command()
@click.option("--standard-library", is_flag=True, default=None, help="Take the sources of Python's standard library.")
@corpus_option
@out_option
@common
def corpus(**options: Any) -> None:
    """Make training and held-out text (train.jsonl, heldout.jsonl) from files."""
    options["corpus"] = options["corpus"] or None
    run_stage("corpus", options)


@click.command()
@click.argument("more", nargs=-1, metavar="[DIR]...", type=click.Path())
@click.option("--source", metavar="DIR", help="Tokenizer (or model) folder that the model has.")
@click.option("--target", metavar="DIR", help="Tokenizer (or model) folder that it shall get.")
@corpus_option
@click.option("--shard", metavar="I/N", help="Count only the I-th of N parts of the corpus.")
@click.option("--merge", multiple=True, type=click.Path(), metavar="DIR...", help="Add these counts instead.")
@click.option("--window", type=int, metavar="N", help="Tokens to each side that count as neighbours; 0 for none.")
@out_option
@common
def count(more: tuple[str, ...], merge: tuple[str, ...], **options: Any) -> None:
    """Count which tokens cover which and stand together; whole, by shards, or the sum of shards."""
    if more and not merge:
        raise click.UsageError("Folders without --merge before them: say --merge DIR...")
    options["corpus"] = options["corpus"] or None
    run_stage("count", {**options, "merge": merge + more})


@click.command()
@click.option("--tokenizer", metavar="DIR", help="Tokenizer or model folder.")
@corpus_option
@click.option("--counts", type=click.Path(), metavar="DIR", help="From 'count', for glove and ppmi.")
@out_option
@common
def embed(**options: Any) -> None:
    """Learn token embeddings for one tokenizer from plain text."""
    run_stage("embed", options)


@click.command()
@click.option("--source", metavar="DIR", help="Tokenizer (or model) folder that the model has.")
@click.option("--target", metavar="DIR", help="Tokenizer (or model) folder that it shall get.")
@corpus_option
@click.option("--counts", type=click.Path(), metavar="DIR", help="From 'count'; counted here when left out.")
@click.option("--method", type=click.Choice(["auto", "tokalign", "tokalign++"]), help="How the lexicon is made.")
@click.option("--anchors", type=click.Choice(["bytes", "strings"]), help="Which tokens count as the same beforehand.")
@click.option(
    "--mapping",
    type=click.Choice(["vecmap", "procrustes", "muse", "relative", "none"]),
    help="How two spaces become one.",
)
@click.option("--start", type=click.Choice(["anchors", "unsupervised"]), help="What the map begins with.")
@click.option("--self-learning/--no-self-learning", default=None, help="Grow the dictionary and map again.")
@click.option("--view", type=click.Choice(["top-k", "one-best", "one-to-one"]), help="How much of the lexicon is kept.")
@out_option
@common
def align(**options: Any) -> None:
    """Align two vocabularies and write the lexicon."""
    run_stage("align", options)


@click.command()
@click.option("--source", metavar="MODEL", help="Model folder to give another vocabulary.")
@click.option("--target", metavar="DIR", help="Tokenizer (or model) folder of the new vocabulary.")
@click.option(
    "--lexicon",
    type=click.Path(),
    metavar="DIR",
    help="From 'align' (a folder, its .tsv, or TokAlign's .json); else shared bytes and segmentation.",
)
@corpus_option
@click.option("--input-rows", help="How embedding rows are made.")
@click.option("--head-rows", help="How head rows are made.")
@row_sources
@click.option("--own-text/--no-own-text", default=None, help="No corpus: the source writes one; or never.")
@click.option("--rows", metavar="N|MODEL", help="Exactly so many rows, or as many as this model has.")
@click.option("--keep-layers", metavar="LAYERS", help="Keep these layers alone, such as 0-7,12.")
@click.option("--chat-template", metavar="keep|target|FILE", help="Whose chat template the model gets.")
@click.option("--untie", is_flag=True, default=None, help="Give tied embeddings a head of their own.")
@click.option("--pad-to-multiple-of", type=int, metavar="N", help="Round the number of rows up.")
@token_overrides
@hub_option
@out_option
@common
def transplant(**options: Any) -> None:
    """Give a model the target vocabulary, and check it by reading it back."""
    run_stage("transplant", options)


@click.command()
@click.option("--model", metavar="DIR", help="Model folder to train.")
@corpus_option
@click.option("--heldout", multiple=True, metavar="FILE", help="Text for scores during training; may repeat.")
@click.option("--source", metavar="MODEL", help="The model before its transplant, to learn from.")
@click.option(
    "--train",
    type=click.Choice(["everything", "lora", "rows", "new-rows"]),
    help="What the second stage trains; new-rows: both stages the rows that the transplant made.",
)
@click.option("--steps", type=int, help="Optimizer steps in all.")
@hub_option
@out_option
@common
def finetune(**options: Any) -> None:
    """Progressive fine-tuning: embedding and head rows first, then everything."""
    run_stage("finetune", options)


@click.command()
@click.argument("models", nargs=-1, metavar="DIR...")
@click.option("--corpus", multiple=True, metavar="[NAME=]FILE", help="Held-out text; may repeat, each scored as well.")
@click.option("--prompt", multiple=True, help="Each model goes on from this text; may repeat.")
@click.option("--num-prompts", type=int, metavar="N", help="Go on from the starts of this many documents.")
@click.option("--price", multiple=True, metavar="[NAME=]NUMBER", help="Price of a million tokens; may repeat.")
@click.option("--lexicon", type=click.Path(), metavar="DIR", help="From 'align': BLEU-1 both ways.")
@click.option("--encoder", metavar="DIR", help="Any encoder: how similar texts are to what the lexicon makes of them.")
@click.option("--teacher", metavar="MODEL", help="Agreement of each model with this one, and KL.")
@click.option("--draft-for", metavar="MODEL", help="Each model as a draft for this one (speculative decoding).")
@click.option("--tasks", type=click.Path(), metavar="DIR", help="Task files for lm-evaluation-harness; local data.")
@click.option("--floor", metavar="MODEL", help="Its task scores count as nothing retained; else random rows.")
@out_option
@common
def evaluate(models: tuple[str, ...], price: tuple[str, ...], **options: Any) -> None:
    """Bits per byte, tokens per kilobyte, cost and samples of each model; an artefact only with --out."""
    from vocabalign.commands import run_evaluate

    if price:
        pairs = [text.rpartition("=") for text in price]
        try:
            prices = {name: float(number) for name, _, number in pairs}
        except ValueError:
            raise click.BadParameter("expected NUMBER or NAME=NUMBER", param_hint="--price") from None
        if "" in prices and len(prices) > 1:
            raise click.BadParameter("give one NUMBER for all models, or NAME=NUMBER for each", param_hint="--price")
        options["price_per_million_tokens"] = prices.get("", prices)
    run_evaluate(models, options)


@click.command()
@click.argument("run", metavar="RUN", required=False)
@out_option
@common
def report(run: str | None, **options: Any) -> None:
    """Draw one page of a run: report.html, which works offline, and report.md."""
    from vocabalign.commands import run_report

    run_report(run, options)


COMMANDS: tuple[click.Command, ...] = (corpus, count, embed, align, transplant, finetune, evaluate, report)
