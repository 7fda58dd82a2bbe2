"""Options that several commands have, and how a stage command hands over its work."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

Command = Callable[..., None]


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


def corpus_option(command: Command) -> Command:
    """``--corpus`` repeats."""
    text = "Text: .txt or .jsonl, plain or compressed, a folder or a glob; may repeat."
    return click.option("--corpus", multiple=True, metavar="FILE", help=text)(command)


def out_option(command: Command) -> Command:
    """Where the artefact goes."""
    return click.option("--out", type=click.Path(), metavar="DIR", help="Folder of the artefact to write.")(command)


def hub_option(command: Command) -> Command:
    """Models can be pushed to the Hub when they are whole."""
    text = "Afterwards upload the model to this repository of the Hugging Face Hub; a new one is private."
    return click.option("--push-to-hub", metavar="USER/NAME", help=text)(command)


def row_sources(command: Command) -> Command:
    """What some ways of making rows need."""
    options = [
        click.option("--source-embeddings", type=click.Path(), metavar="DIR", help="From 'embed'; for wechsel."),
        click.option("--target-embeddings", type=click.Path(), metavar="DIR", help="From 'embed'; focus and wechsel."),
        click.option(
            "--target-model",
            metavar="MODEL",
            help="Owns the target vocabulary; for omp, nearest, barycentric and landmark.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def token_overrides(command: Command) -> Command:
    """``--map-token`` and ``--map-file``, handed over as ``map_tokens``; None where neither is given."""

    @wraps(command)
    def with_tokens(*, map_token: tuple[str, ...], map_file: str | None, **options: Any) -> None:
        found = None
        if map_token or map_file:
            from vocabalign.text.overrides import merge_overrides, parse_overrides, read_overrides

            found = merge_overrides(read_overrides(map_file) if map_file else {}, parse_overrides(map_token))
        command(map_tokens=found, **options)

    one = "Where a special token's rows come from."
    many = "The same for many tokens, in YAML or JSON."
    option = click.option("--map-token", multiple=True, metavar="TARGET=SOURCE[,SOURCE]", help=one)
    return option(click.option("--map-file", type=click.Path(), metavar="FILE", help=many)(with_tokens))


def run_stage(stage: str, options: dict[str, Any], describe: Callable[[dict[str, Any]], str] | None = None) -> None:
    """Hand a stage command to ``commands`` (imported late: ``--help`` stays quick).

    Args:
        stage: its name.
        options: the command's.
        describe: the manifest's metrics as text to show where the artefact is; only its place by default.
    """
    from vocabalign.commands import run_stage_command

    run_stage_command(stage, options, describe)
