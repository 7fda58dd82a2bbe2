"""The command line: thin. Each command makes a configuration and hands it to a stage.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 an error
told in one sentence, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import click

from vocabalign.cli import distill_commands, exchange_commands, stage_commands, tokenizer_commands, tool_commands

CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110}
INTERRUPTED = 130


@click.group(context_settings=CONTEXT)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, only warnings.")
@click.version_option(package_name="vocabalign")
@click.pass_context
def cli(context: click.Context, debug: bool, quiet: bool) -> None:
    """Give a pretrained language model another vocabulary, and let models learn from each other."""
    context.obj.update(debug=debug or context.obj["debug"], quiet=quiet or context.obj["quiet"])


for _command in (
    *stage_commands.COMMANDS,
    *distill_commands.COMMANDS,
    *tokenizer_commands.COMMANDS,
    *tool_commands.COMMANDS,
    *exchange_commands.COMMANDS,
):
    cli.add_command(_command)


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
        from vocabalign.console import explain

        if state["debug"]:
            import traceback

            traceback.print_exc()
        message, code = explain(error)
        click.echo(f"Error: {message}", err=True)
        return code
