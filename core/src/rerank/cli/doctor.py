"""``rerank doctor``: what this installation has, and what is wrong with it."""

from __future__ import annotations

import http.client
import importlib
import os
import platform
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from rerank.backend import Backend
from rerank.cli import echo_json
from rerank.display import visible
from rerank.distributions import DEFAULT_MODEL, DISTRIBUTIONS, how_to_get
from rerank.hub import secrets_of_hub
from rerank.registry import installed
from rerank.reranker import Reranker
from rerank.secrets import shown_address

_LIBRARIES: Final = ("pydantic", "pluggy", "click", "huggingface-hub")
"""What core itself depends on; plugins list theirs as requirements."""

_KEYS: Final = ("HF_TOKEN",)

T = TypeVar("T")
Section = Mapping[str, str | list[str]]


@click.command("doctor")
@click.option("--offline", is_flag=True, help="Do not check whether the hub can be reached.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(offline: bool, as_json: bool) -> None:
    """Show versions, plugins, devices, caches and keys (never their values), and rank two documents as a test.

    Exits with 1 if a plugin or the test failed.
    """
    checks: dict[str, Callable[[], Section]] = {
        "python": _python,
        "distributions": _distributions,
        "plugins": _plugins,
        "devices": _devices,
        "caches": _caches,
        "keys": _keys,
        "notes": _notes,
        "hub": (lambda: {"reachable": "not checked"}) if offline else _hub,
        "self-test": _self_test,
    }
    report = {name: _checked(check) for name, check in checks.items()}
    if as_json:
        echo_json(report)
    else:
        shown = {name: section for name, section in report.items() if section}
        width = max(len(key) for section in shown.values() for key in section)
        for name, section in shown.items():
            click.echo(name)
            for key, value in section.items():
                for line in [value] if isinstance(value, str) else value:
                    click.echo(f"  {visible(key):<{width}}  {visible(line)}")
    failed = [plugin.name for plugin in installed().plugins if plugin.status == "failed"]
    if failed:
        raise click.ClickException(f"plugins that failed: {', '.join(failed)}; see the reasons above")
    if any(str(value).startswith("failed") for value in report["self-test"].values()):
        raise click.ClickException("the self-test failed; see the reason above")


def _checked(check: Callable[[], Section]) -> Section:
    """The result of a check; one that fails reports why and does not stop the others."""
    try:
        return check()
    except Exception as error:
        return {"unknown": f"failed: {type(error).__name__}: {error}"}


def _python() -> Section:
    return {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()}


def _distributions() -> Section:
    import importlib_metadata

    def version(name: str) -> str:
        try:
            return str(importlib_metadata.version(name))
        except importlib_metadata.PackageNotFoundError:
            return "not installed"

    plugins = [*DISTRIBUTIONS.values(), *(plugin.distribution for plugin in installed().plugins)]
    ours = dict.fromkeys(["rerank-core", *plugins])
    required = dict.fromkeys(name for plugin in ours for name in _required(plugin))
    return {name: version(name) for name in {**ours, **dict.fromkeys(_LIBRARIES), **required}}


def _required(distribution: str) -> Iterator[str]:
    """What a plugin's distribution requires, and what the support libraries among that require."""
    import importlib_metadata

    try:
        requirements = importlib_metadata.requires(distribution) or []
    except Exception:  # it is not installed, or its metadata are damaged
        return
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in requirements if "extra ==" not in requirement]
    if "rerank-core" in names:
        for name in names:
            yield name
            yield from _required(name)


def _plugins() -> Section:
    registry = installed()
    registry.register_commands(click.Group())  # discarded: this, and reading notes, may mark a plugin as failed
    _notes()
    rows: dict[str, str | list[str]] = {}
    for plugin in registry.plugins:
        state = f"{plugin.status}, {', '.join(plugin.backends) or 'no backend'}, {1000 * plugin.seconds:.0f} ms"
        rows[f"{plugin.name} ({plugin.distribution})"] = f"{state}: {plugin.reason}" if plugin.reason else state
    return rows or {"none": f"pip install {DISTRIBUTIONS[DEFAULT_MODEL]}, to start with"}


def _devices() -> Section:
    return {"cpu": f"{os.cpu_count()} cores", **_asked(lambda backend: backend.devices, str)}


def _caches() -> Section:
    constants = _imported("huggingface_hub.constants")
    hub = _folder(Path(constants.HF_HUB_CACHE)) if constants else "huggingface-hub is not installed"
    return {"hub": hub, **_asked(lambda backend: backend.caches, _folder)}


def _asked(
    question: Callable[[Backend], Callable[[], Mapping[str, T]] | None], describe: Callable[[T], str]
) -> dict[str, str]:
    """The backends' answers to one question; one that fails reports why and does not stop the others."""
    answers: dict[str, str] = {}
    for backend in installed().backends.values():
        if (answer := question(backend)) is not None:
            try:
                answers.update({name: describe(value) for name, value in answer().items()})
            except BaseException as error:  # a broken build of torch may raise anything
                if isinstance(error, KeyboardInterrupt):
                    raise
                answers[backend.name] = f"unknown: {type(error).__name__}: {error}"
    return answers


def _folder(path: Path) -> str:
    if not path.is_dir():
        parent = next((parent for parent in path.parents if parent.exists()), path)
        return f"{path}, does not exist yet" + (
            "" if os.access(parent, os.W_OK) else " and cannot be created: read-only"
        )
    size = sum(os.lstat(file).st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    writable = "" if os.access(path, os.W_OK) else ", read-only"
    return f"{path}, {size / 1e6:.0f} MB{writable}"


def _keys() -> Section:
    return {name: "set" if os.environ.get(name) else "not set" for name in _KEYS}


def _notes() -> Section:
    return {backend.name: notes for backend in installed().backends.values() if (notes := backend.read_notes())}


def _hub() -> Section:
    constants = _imported("huggingface_hub.constants")
    if not constants:
        return {"reachable": "not checked: huggingface-hub is not installed"}
    endpoint = shown_address(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE:
        return {"endpoint": endpoint, "reachable": "not checked: HF_HUB_OFFLINE is set"}
    started = time.perf_counter()
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=5).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()  # any answer shows that it can be reached
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = secrets_of_hub(None).hide(str(error))
        return {"endpoint": endpoint, "reachable": f"no ({reason}); models in the cache and in folders work"}
    return {"endpoint": endpoint, "reachable": f"yes, {1000 * (time.perf_counter() - started):.0f} ms"}


def _self_test() -> Section:
    if DEFAULT_MODEL not in installed().backends:
        return {"result": f"skipped: no embedded model, {how_to_get(DEFAULT_MODEL, installed().plugins)}"}
    started = time.perf_counter()
    try:
        with Reranker() as reranker:
            best = reranker.rank("where do bees find nectar?", ["On the stock market.", "In flowers."])[0]
    except Exception as error:
        return {"result": f"failed: {error}"}
    verdict = "passed" if best.index == 1 else f"failed: {best.text!r} came first"
    return {"result": verdict, "seconds to load and rank": f"{time.perf_counter() - started:.2f}"}


def _imported(name: str) -> Any:
    """A module if it can be imported: here, unlike elsewhere, heavy imports are intended."""
    try:
        return importlib.import_module(name)
    except Exception:  # a broken installation may raise anything
        return None
