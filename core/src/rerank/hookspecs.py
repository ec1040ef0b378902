"""The hooks that a plugin implements. A complete plugin:

```python
from rerank import Backend, Claim, Confidence, Scores, hookimpl

class Shortest:
    def score(self, request):
        return Scores(values=[-float(len(d.text)) for d in request.documents], scale="similarity")

@hookimpl
def rerank_register_backends():
    yield Backend(
        name="shortest",
        summary="the shortest document first",
        load=lambda model, options: Shortest(),
        claim=lambda model: Claim(Confidence.CERTAIN if model.name == "shortest" else Confidence.NONE, "by name"),
    )
```

and in its ``pyproject.toml``: ``[project.entry-points.rerank]`` with ``shortest = "rerank_shortest"``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    import click

    from rerank.backend import Backend
    from rerank.registry import Registry

NAME: Final = "rerank"
"""pluggy's project name and the entry-point group."""

hookspec = pluggy.HookspecMarker(NAME)
hookimpl = pluggy.HookimplMarker(NAME)


@hookspec
def rerank_register_backends(registry: Registry) -> Iterable[Backend]:  # type: ignore[empty-body]
    """Describe backends.

    Called once per process, when the first model is resolved or the backends are listed. Keep it cheap: import
    nothing heavy until `Backend.load`. An implementation that needs no ``registry`` leaves the argument out; with it,
    ``registry.collect`` reads what other plugins offer through hooks of its own.
    """


@hookspec
def rerank_register_commands(cli: click.Group) -> None:
    """Add sub-commands to ``rerank`` with ``cli.add_command``.

    Called when the command line has a command that is not core's, or shows its help.
    """


@hookspec
def rerank_add_hooks(registry: Registry) -> None:
    """Add hooks that other plugins implement, with ``registry.add_hooks(module)``.

    The module's functions marked with `hookspec` are the hooks; what plugins offer through one is read with
    ``registry.collect``. Called once per process, before any other hook, so that every plugin's hooks are known
    before one is reported as unknown.
    """
