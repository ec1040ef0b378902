"""What the distribution registers: the command ``rerank encode``, imported when the command line is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rerank import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def rerank_register_commands(cli: click.Group) -> None:
    """Add ``rerank encode``."""
    from rerank_vectors.command import command

    cli.add_command(command)
