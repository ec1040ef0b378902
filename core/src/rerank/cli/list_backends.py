"""``rerank list-backends``: every backend, its plugin, and the plugins that cannot be used, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from rerank.cli import echo_json
from rerank.display import visible
from rerank.distributions import DEFAULT_MODEL, DISTRIBUTIONS
from rerank.plugin import Plugin
from rerank.registry import Registry, installed

_FEW_NOTES: Final = 3
"""How many notes of a backend are shown whole; of more, such as a provider each, only what stands before the colon."""


@click.command("list-backends")
@click.option(
    "--notes", "all_notes", is_flag=True, help="All notes of every backend: its providers, which keys are set."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, with options, aliases and import times.")
def command(all_notes: bool, as_json: bool) -> None:
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
    rows = [(visible(a), visible(b), visible(c), visible(d)) for a, b, c, d in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip())
        own = notes.get(row[0], [])
        for note in own if all_notes or len(own) <= _FEW_NOTES else [_folded(own)]:
            click.echo(f"  {visible(note)}")


def _folded(notes: Sequence[str]) -> str:
    """Many notes as one line."""
    return f"{', '.join(note.partition(':')[0] for note in notes)} (--notes shows each)"


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
