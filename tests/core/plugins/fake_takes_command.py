"""A plugin that wants another's command."""

import click

from rerank import hookimpl


@hookimpl
def rerank_register_commands(cli):
    cli.add_command(click.Command("greet"))
