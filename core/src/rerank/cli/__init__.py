"""The command ``rerank``: sub-commands are imported when used, and plugins add their own."""

from __future__ import annotations

import importlib
import io
import os
import sys
from contextlib import suppress
from typing import Any, Final

import click

from rerank.display import escaped, visible
from rerank.errors import InvalidInputError, InvalidOptionsError, RerankError

COMMANDS: Final = {
    "rank": "rerank.cli.rank",
    "list-backends": "rerank.cli.list_backends",
    "explain": "rerank.cli.explain",
    "doctor": "rerank.cli.doctor",
}


_WHOLE: Final = 1000
"""A summary's length that none has."""


class Commands(click.Group):
    """Core's commands by module, then whatever the installed plugins add."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._add_plugins()
        return [*COMMANDS, *sorted({*super().list_commands(ctx)} - {*COMMANDS})]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
            return command
        self._add_plugins()
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List each command with its whole summary, which click would cut at the terminal's width."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, own.get_short_help_str(_WHOLE)) for name, own in commands.items() if own and not own.hidden]
            )

    def invoke(self, ctx: click.Context) -> None:
        try:
            super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_output()
            ctx.exit(141)

    def _add_plugins(self) -> None:
        from rerank.registry import installed

        if not self.commands:
            installed().register_commands(self, COMMANDS)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""
    Results go to standard output, everything else to standard error.

    \b
    Exit codes:  0  done
                 1  the model could not be loaded or failed
                 2  wrong usage, option or input
               130  interrupted (Ctrl-C)
               141  the reader of the output closed the pipe

    Completion:  eval "$(_RERANK_COMPLETE=bash_source rerank)", or zsh_source, or fish_source.
    """,
)
@click.version_option(package_name="rerank-core")
def cli() -> None:
    """Rank documents for a query with any reranker."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its documented code."""
    _keep_standard_output()
    sys.exit(_run(arguments))


def _keep_standard_output() -> None:
    """Give the command its output alone: what a plugin or native code writes to file descriptor 1 goes to standard error."""
    try:
        if sys.stdout.fileno() != 1 or sys.stderr.fileno() != 2:
            return
    except (AttributeError, OSError, ValueError):  # one is closed, or not a file
        return
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = io.TextIOWrapper(
        os.fdopen(own, "wb"), sys.stdout.encoding, sys.stdout.errors, line_buffering=os.isatty(own)
    )


def _drop_output() -> None:
    """Lead standard output nowhere: the interpreter flushes it once more at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str] | None) -> int:
    if sys.stdout is None:
        click.echo("rerank: standard output is closed: redirect it to a file, or to /dev/null", err=True)
        return 1
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 shows what it can
    try:
        code = cli.main(arguments, prog_name="rerank", standalone_mode=False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo("\n".join(map(visible, shown.getvalue().splitlines())), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OSError as error:
        _drop_output()
        message = f"rerank: the output cannot be written ({error}): free some space, or write elsewhere"
        click.echo(visible(message), err=True)
        return 1
    except RerankError as error:
        click.echo(visible(f"rerank: {error}"), err=True)
        return 2 if isinstance(error, (InvalidInputError, InvalidOptionsError)) else 1
    return int(code or 0)  # what a command passed to ctx.exit


def echo_json(value: Any) -> None:
    """Write a value as JSON on standard output."""
    import json

    click.echo(escaped(json.dumps(value, ensure_ascii=False, indent=2)))
