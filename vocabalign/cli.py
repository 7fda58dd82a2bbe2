"""The command line: thin. Each command makes a configuration and hands it to a stage.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 an error
told in one sentence, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110}
Command = Callable[..., None]
INTERRUPTED = 130


def common(command: Command, configurable: bool = True) -> Command:
    """Options that every stage has; ``run`` has its pipeline file instead of ``--config``."""
    options = [
        click.option(
            "--config", "config_file", type=click.Path(), metavar="FILE.yaml", help="Read settings from here."
        ),
        click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one setting; may repeat."),
        click.option(
            "--dry-run", is_flag=True, help="Say what would be read and written, memory and time; do nothing."
        ),
    ]
    for option in reversed(options if configurable else options[1:]):
        command = option(command)
    return everywhere(command)


def everywhere(command: Command) -> Command:
    """Options that every command takes, also where it has nothing random, to compute or to write."""
    options = [
        click.option("--seed", type=int, help="Everything random follows from it."),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Where tensors live."),
        click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]), help="Arithmetic."),
        click.option("--overwrite", is_flag=True, default=None, help="Replace an artefact that exists."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else."),
        *DIAGNOSTICS,
    ]
    for option in reversed(options):
        command = option(command)
    return command


DIAGNOSTICS = [
    click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=lambda c, p, v: c.obj.update(debug=v or c.obj["debug"]),
        help="Show the traceback of an error.",
    ),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=lambda c, p, v: c.obj.update(quiet=v or c.obj["quiet"]),
        help="No progress, only warnings.",
    ),
]


@click.group(context_settings=CONTEXT)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, only warnings.")
@click.version_option(package_name="vocabalign")
@click.pass_context
def cli(context: click.Context, debug: bool, quiet: bool) -> None:
    """Give a pretrained language model another vocabulary, and let models learn from each other."""
    context.obj.update(debug=debug or context.obj["debug"], quiet=quiet or context.obj["quiet"])


def corpus_option(command: Command) -> Command:
    """``--corpus`` repeats."""
    text = "Text: .txt or .jsonl, plain or compressed, a folder or a glob; may repeat."
    return click.option("--corpus", multiple=True, metavar="FILE", help=text)(command)


def out_option(command: Command) -> Command:
    """Where the artefact goes."""
    return click.option("--out", type=click.Path(), metavar="DIR", help="Folder of the artefact to write.")(command)


@cli.command()
@click.option("--standard-library", is_flag=True, default=None, help="Take the sources of Python's standard library.")
@corpus_option
@out_option
@common
def corpus(**options: Any) -> None:
    """Make training and held-out text (train.jsonl, heldout.jsonl) from files."""
    options["corpus"] = options["corpus"] or None
    run_stage("corpus", options)


@cli.command()
@click.option("--tokenizer", metavar="DIR", help="Tokenizer or model folder.")
@corpus_option
@out_option
@common
def embed(**options: Any) -> None:
    """Learn token embeddings for one tokenizer from plain text."""
    run_stage("embed", options)


@cli.command()
@click.option("--source", metavar="DIR", help="Tokenizer (or model) folder that the model has.")
@click.option("--target", metavar="DIR", help="Tokenizer (or model) folder that it shall get.")
@corpus_option
@click.option("--method", type=click.Choice(["auto", "tokalign", "tokalign++"]), help="How the lexicon is made.")
@out_option
@common
def align(**options: Any) -> None:
    """Align two vocabularies and write the lexicon."""
    run_stage("align", options)


@cli.command()
@click.option("--source", metavar="MODEL", help="Model folder to give another vocabulary.")
@click.option("--target", metavar="DIR", help="Tokenizer (or model) folder of the new vocabulary.")
@click.option("--lexicon", type=click.Path(), metavar="DIR", help="From 'align'; else shared bytes and segmentation.")
@corpus_option
@click.option("--input-rows", help="How embedding rows are made.")
@click.option("--head-rows", help="How head rows are made.")
@click.option("--untie", is_flag=True, default=None, help="Give tied embeddings a head of their own.")
@click.option("--pad-to-multiple-of", type=int, metavar="N", help="Round the number of rows up.")
@click.option("--map-token", multiple=True, metavar="TARGET=SOURCE", help="Where a special token's rows come from.")
@out_option
@common
def transplant(map_token: tuple[str, ...], **options: Any) -> None:
    """Give a model the target vocabulary, and check it by reading it back."""
    if map_token:
        pairs = [text.partition("=") for text in map_token]
        if not all(equals for _, equals, _ in pairs):
            raise click.BadParameter("expected TARGET=SOURCE", param_hint="--map-token")
        options["map_tokens"] = {target: source for target, _, source in pairs}
    run_stage("transplant", options)


@cli.command()
@click.option("--model", metavar="DIR", help="Model folder to train.")
@corpus_option
@click.option("--heldout", multiple=True, metavar="FILE", help="Text for scores during training; may repeat.")
@click.option("--source", metavar="MODEL", help="The model before its transplant, to learn from.")
@click.option("--steps", type=int, help="Optimizer steps in all.")
@out_option
@common
def finetune(**options: Any) -> None:
    """Progressive fine-tuning: embedding and head rows first, then everything."""
    run_stage("finetune", options)


@cli.command()
@click.option("--student", metavar="DIR", help="Model folder to train.")
@click.option("--teacher", metavar="DIR", help="Model folder that teaches; the same vocabulary.")
@corpus_option
@click.option("--heldout", multiple=True, metavar="FILE", help="Text for scores during training; may repeat.")
@click.option("--steps", type=int, help="Optimizer steps in all.")
@out_option
@common
def distill(**options: Any) -> None:
    """Token-level distillation from a teacher with the same vocabulary."""
    run_stage("distill", options)


@cli.command()
@click.argument("models", nargs=-1, metavar="DIR...")
@corpus_option
@click.option("--prompt", help="Each model goes on from this text.")
@out_option
@common
def evaluate(models: tuple[str, ...], **options: Any) -> None:
    """Bits per byte, tokens per kilobyte and a sample of each model; an artefact only with --out."""
    from vocabalign.commands import run_evaluate

    run_evaluate(models, options)


@cli.command()
@click.argument("run", metavar="RUN", required=False)
@out_option
@common
def report(run: str | None, **options: Any) -> None:
    """Draw one page of a run: report.html, which works offline, and report.md."""
    from vocabalign.commands import run_report

    run_report(run, options)


@cli.command()
@click.argument("folder", metavar="DIR")
@click.option("--full/--files-only", default=None, help="Load the whole model (the default below 2 GB) or not.")
@everywhere
def verify(folder: str, full: bool | None, as_json: bool, **_: Any) -> None:
    """Check a model folder by reloading it the way users will."""
    from vocabalign.commands import run_verify

    run_verify(folder, full, as_json)


@cli.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@corpus_option
@everywhere
def inspect(a: str, b: str | None, corpus: tuple[str, ...], as_json: bool, **_: Any) -> None:
    """What a tokenizer is, and what two of them share."""
    from vocabalign.commands import run_inspect

    run_inspect(a, b, corpus, as_json)


@cli.command(name="run")
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


@cli.command()
@click.option("--source", metavar="MODEL", help="Model folder to give another vocabulary.")
@click.option("--target", metavar="TOKENIZER", help="Tokenizer (or model) folder of the new one.")
@click.option(
    "--teacher", metavar="MODEL", help="Distil from this model afterwards; it must own the target vocabulary."
)
@click.option(
    "--heldout", multiple=True, metavar="FILE", help="Text for scores; else a part of the corpus is held out."
)
@click.option("--steps", type=int, help="Optimizer steps of fine-tuning (and of distillation).")
@corpus_option
@out_option
@common
def adapt(**options: Any) -> None:
    """The whole way, from a source model and a target tokenizer to the fine-tuned model."""
    from vocabalign.commands import run_adapt

    run_adapt(options)


@cli.command()
@click.argument("name", required=False)
@click.option("--out", type=click.Path(), metavar="FILE", help="Where to put the copy; NAME.yaml here by default.")
@everywhere
def init(name: str | None, out: str | None, overwrite: bool | None, as_json: bool, **_: Any) -> None:
    """Copy a commented pipeline or stage configuration here, to change it; without NAME, list them."""
    from vocabalign.commands import run_init

    run_init(name, out, bool(overwrite), as_json)


@cli.command()
@click.option("--source", required=True, metavar="MODEL", help="Model folder to give another vocabulary.")
@click.option("--target", required=True, metavar="DIR", help="Tokenizer (or model) folder of the new vocabulary.")
@click.option(
    "--lexicon", type=click.Path(), metavar="DIR", help="From 'align'; else the lexicon methods are left out."
)
@click.option("--heldout", multiple=True, required=True, metavar="FILE", help="Text to score on; may repeat.")
@click.option("--methods", default="auto,mean,last,first,decay", help="Row methods, separated by commas.")
@click.option("--finetune-steps", type=int, default=0, help="Train each this many steps too.")
@corpus_option
@everywhere
def compare(**options: Any) -> None:
    """Ways of making rows, side by side on one model, one target and one text."""
    from vocabalign.commands import run_compare

    run_compare(options)


def run_stage(stage: str, options: dict[str, Any]) -> None:
    """Hand a stage command to ``commands`` (imported late: ``--help`` stays quick)."""
    from vocabalign.commands import run_stage_command

    run_stage_command(stage, options)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs a command and turns errors into sentences and exit codes."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    if code == INTERRUPTED:
        # Threads of libraries may be in the middle of long work; everything of ours is cleaned up by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    state = {"debug": "--debug" in arguments, "quiet": "-q" in arguments or "--quiet" in arguments}
    try:
        result = cli(
            arguments, standalone_mode=False, auto_envvar_prefix="VOCABALIGN", obj=state, prog_name="vocabalign"
        )
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted; what was finished is kept, and the same command goes on from there.", err=True)
        return INTERRUPTED
    except Exception as error:  # the last resort of the program: every error becomes one sentence
        from vocabalign.commands import explain

        if state["debug"]:
            import traceback

            traceback.print_exc()
        message, code = explain(error)
        click.echo(f"Error: {message}", err=True)
        return code
