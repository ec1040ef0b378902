"""``rerank list-backends``: every backend, its plugin, and the plugins that cannot be used, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from rerank.cli import echo_json
from rerank.distributions import DEFAULT_MODEL, DISTRIBUTIONS
from rerank.plugin import Plugin
from rerank.registry import Registry, installed


@click.command("list-backends")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with options, aliases and import times.")
def command(as_json: bool) -> None:
    """Show the installed backends, and plugins that failed, with the reason.

    Set RERANK_DISABLE_PLUGINS to plugin or distribution names, separated by commas, to leave them out ("all" for all).
    """
    registry = installed()
    registry.register_commands(click.Group())  # discarded: a plugin whose commands fail is reported too
    notes = {
        name: backend.read_notes() for name, backend in registry.backends.items()
    }  # first: reading them may mark a plugin as failed
    if as_json:
        echo_json([_described(plugin, registry, notes) for plugin in registry.plugins])
        return
    rows = [("backend", "distribution", "status", "")]
    for plugin in registry.plugins:
        distribution = f"{plugin.distribution} {plugin.version}"
        rows += [(name, distribution, "ok", registry.backends[name].summary) for name in plugin.backends]
        if plugin.reason or not plugin.backends:
            status = "warning" if plugin.status == "ok" and plugin.reason else plugin.status
            rows.append((f"({plugin.name})", distribution, status, plugin.reason or "registers no backend"))
    if len(rows) == 1:
        click.echo(f"no backend is installed: pip install {DISTRIBUTIONS[DEFAULT_MODEL]}, to start with", err=True)
        return
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip())
        for note in notes.get(row[0], ()):
            click.echo(f"  {note}")


def _described(plugin: Plugin, registry: Registry, notes: Mapping[str, list[str]]) -> dict[str, Any]:
    backends = [registry.backends[name] for name in plugin.backends]
    return {
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "reason": plugin.reason,
        "import_seconds": round(plugin.seconds, 4),
        "backends": [
            {
                "name": backend.name,
                "summary": backend.summary,
                "protocol": backend.protocol,
                "notes": notes[backend.name],
                "options": sorted(backend.options.model_fields),
                "aliases": {
                    name: {lang: alias.model for lang, alias in models.items()}
                    for name, models in backend.aliases.items()
                },
            }
            for backend in backends
        ],
    }
