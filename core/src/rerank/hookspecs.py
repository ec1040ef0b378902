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
        resolve=lambda model: Claim(Confidence.CERTAIN if model.name == "shortest" else Confidence.NONE, "by name"),
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

NAME: Final = "rerank"
"""pluggy's project name and the entry-point group."""

hookspec = pluggy.HookspecMarker(NAME)
hookimpl = pluggy.HookimplMarker(NAME)


@hookspec
def rerank_register_backends() -> Iterable[Backend]:  # type: ignore[empty-body]
    """Describe backends.

    Called once a process, when the first model is resolved or the backends are listed. Keep it cheap: import
    nothing heavy until `Backend.load`.
    """


@hookspec
def rerank_register_commands(cli: click.Group) -> None:
    """Add sub-commands to ``rerank`` with ``cli.add_command``.

    Called when the command line meets a name that is not core's own, or shows its help.
    """
