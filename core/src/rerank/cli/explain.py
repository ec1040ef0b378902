"""``rerank explain MODEL``: which backend would run a model, and what every other says of it."""

from __future__ import annotations

import click

from rerank.cli import echo_json
from rerank.errors import RerankError
from rerank.registry import installed
from rerank.resolution import explain, select


@click.command("explain")
@click.argument("model")
@click.option("--lang", default="en", show_default=True, help="Which of a short name's models.")
@click.option("--revision", help="Branch, tag or commit on the hub.")
@click.option("--cache-dir", help="Folder for downloads.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(model: str, lang: str, revision: str | None, cache_dir: str | None, as_json: bool) -> None:
    """Show which backend would run MODEL, and every backend's claim with its reason.

    MODEL is a hub name, a folder, or a short name. Nothing is loaded; the hub is asked for file names and config.json
    only where a backend needs them to decide.
    """
    from rerank.model_ref import ModelRef

    registry = installed()
    asked = ModelRef(name=model, revision=revision, cache_dir=cache_dir)
    chosen, problem = None, None
    try:
        chosen, found, defaults = select(registry, asked, None, lang)
    except RerankError as error:
        found, defaults, problem = asked, {}, error
    claims = [
        {"backend": a.backend.name, "confidence": a.claim.confidence.name.lower(), "reason": a.claim.reason}
        for a in explain(registry, found, only=chosen if found.alias else None)
    ]
    if as_json:
        echo_json(
            {
                "model": found.name,
                "alias": found.alias,
                "backend": chosen.name if chosen else None,
                "options": dict(defaults),
                "claims": claims,
                "error": str(problem) if problem else None,
            }
        )
    else:
        short = f" ({found.alias!r} is short for it)" if found.alias not in (None, found.name) else ""
        click.echo(f"{found.name}{short}")
        width = max((len(claim["backend"]) for claim in claims), default=0)
        for claim in claims:
            mark = "→" if chosen and claim["backend"] == chosen.name else " "
            click.echo(f"{mark} {claim['backend']:<{width}}  {claim['confidence']:<8}  {claim['reason']}")
    if problem is not None:
        raise problem
