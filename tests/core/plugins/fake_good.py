"""A correct plugin with one backend and one command."""

import click

from rerank import Alias, Backend, hookimpl
from rerank.testing.fake import fake_backend


@hookimpl
def rerank_register_backends() -> list[Backend]:
    return [fake_backend("good", aliases={"goodie": {"en": Alias("good", {"weight": 2.0}), "fr": Alias("good-fr")}})]


@hookimpl
def rerank_register_commands(cli: click.Group) -> None:
    @cli.command("greet")
    @click.option("--code", default=0)
    @click.pass_context
    def greet(ctx: click.Context, code: int) -> None:
        """Say hello."""
        click.echo("hello")
        ctx.exit(code)
