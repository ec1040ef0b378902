"""``rerank explain MODEL``: which backend would run a model, and what every backend claims."""

from __future__ import annotations

from typing import Any

import click

from rerank.backend import Backend
from rerank.cli import echo_json
from rerank.cli.source import backend_options, read_options, source_options
from rerank.display import visible
from rerank.errors import RerankError
from rerank.model_ref import ModelRef
from rerank.model_source import SOURCE_ARGUMENTS
from rerank.options import Options, parse_options
from rerank.registry import installed
from rerank.resolution import explain, select


def _describe(backend: Backend, model: ModelRef, options: Options) -> list[str]:
    """What the backend says about the model, or why it cannot."""
    try:
        return [*backend.describe(model, options)] if backend.describe else []
    except RerankError as error:
        return [f"it cannot be described: {error}"]


@click.command("explain")
@click.argument("model")
@source_options
@backend_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(model: str, pairs: tuple[str, ...], as_json: bool, **source: Any) -> None:
    """Show which backend would run MODEL, every backend's claim with its reason, and how the model is prompted.

    MODEL is a hub name, a folder, or a short name. No weights are loaded; the hub is asked for file names and config.json
    only if a backend needs them to decide, and for small files if it shows a prompt.

    \b
      rerank explain BAAI/bge-reranker-v2-m3
      rerank explain Qwen/Qwen3-Reranker-0.6B --option instruction="Find recipes."
    """
    registry = installed()
    given = read_options(pairs)
    source |= {name: given.pop(name) for name in SOURCE_ARGUMENTS if name in given}
    asked = ModelRef(model, **source)
    chosen, problem = None, None
    try:
        chosen, found, defaults = select(registry, asked)
    except RerankError as error:
        found, defaults, problem = asked, {}, error
    claims = [
        {"backend": claim.backend.name, "confidence": claim.confidence.name.lower(), "reason": claim.reason}
        for claim in explain(registry, found, only=chosen if found.alias else None)
    ]
    options = parse_options(chosen.options, {**defaults, **given}, chosen.name) if chosen else None
    described = _describe(chosen, found, options) if chosen and options else []
    if as_json:
        echo_json(
            {
                "model": found.name,
                "alias": found.alias,
                "backend": chosen.name if chosen else None,
                "options": options.model_dump(mode="json", exclude_unset=True) if options else {},
                "claims": claims,
                "description": described,
                "error": str(problem) if problem else None,
            }
        )
    else:
        short = f" ({found.alias!r} is short for it)" if found.alias not in (None, found.name) else ""
        click.echo(visible(f"{found.name}{short}"))
        width = max((len(claim["backend"]) for claim in claims), default=0)
        for claim in claims:
            mark = "→" if chosen and claim["backend"] == chosen.name else " "
            click.echo(f"{mark} {claim['backend']:<{width}}  {claim['confidence']:<8}  {visible(claim['reason'])}")
        for line in described:
            click.echo(visible(line))
    if problem is not None:
        raise problem
