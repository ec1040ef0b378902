"""Which backends there are: found through entry points, each plugin on its own."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

import pluggy

from rerank import hookspecs
from rerank.backend import PROTOCOL, Alias, Backend
from rerank.errors import BackendNotFoundError, PluginError
from rerank.options import Options

if TYPE_CHECKING:
    import click

logger = logging.getLogger(__name__)

DISTRIBUTIONS: Final = {
    "cross-encoder": "rerank-crossencoder",
    "onnx": "rerank-onnx",
    "nano": "rerank-nano",
    "t5": "rerank-llm",
    "llm-pointwise": "rerank-llm",
    "llm-layerwise": "rerank-llm",
    "llm-listwise": "rerank-llm",
    "llm-filter": "rerank-llm",
    "colbert": "rerank-colbert",
    "api": "rerank-api",
}
"""What to ``pip install`` for each of this project's own backends."""

_HEAVY = ("torch", "transformers", "onnxruntime", "tensorflow", "cohere", "httpx", "huggingface_hub")

_SLOW = 1.0
"""Seconds to describe backends, beyond which a plugin is told off: every start of the command waits for them."""


@dataclass(kw_only=True)
class Plugin:
    """One entry point, and what became of it.

    Args:
        name: The entry point's name.
        distribution: The distribution that brings it.
        version: That distribution's version.
        status: ``ok``, ``failed`` or ``disabled``.
        reason: Why it is not ok, or a warning; empty where all is well.
        backends: The names it registered.
        seconds: How long importing and describing took.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "failed", "disabled"] = "ok"
    reason: str = ""
    backends: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """What tells it from every other plugin."""
        return f"{self.distribution}:{self.name}"

    @contextmanager
    def failures_noted(self, doing: str) -> Iterator[None]:
        """Turn whatever the plugin raises into its status and reason."""
        try:
            with redirect_stdout(sys.stderr):  # standard output is the command's own
                yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also SystemExit, and the panics of extensions
            told = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            self.status, self.reason = "failed", f"{doing}{' '.join(told.split())}"  # one line of a table
            logger.info("plugin %s of %s cannot be used: %s", self.name, self.distribution, self.reason)


class Registry:
    """The backends of a process.

    `Registry()` is empty, for tests and for backends registered by hand; `installed` is the usual one.
    """

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.backends: dict[str, Backend] = {}
        self._manager = pluggy.PluginManager(hookspecs.NAME)
        self._manager.add_hookspecs(hookspecs)

    def discover(self) -> None:
        """Add every installed plugin; one that cannot be used becomes a row with its reason, and stops nothing."""
        import importlib_metadata

        disabled = {name.strip() for name in os.environ.get("RERANK_DISABLE_PLUGINS", "").split(",")}
        points = importlib_metadata.entry_points(group=hookspecs.NAME)
        found = {
            (*_identity(point.dist), point.name): point for point in points
        }  # a path listed twice shows each twice
        for key in sorted(found, key=lambda key: (key[0] not in DISTRIBUTIONS.values(), key)):  # ours first
            point = found[key]
            plugin = Plugin(name=point.name, distribution=key[0], version=key[1])
            self.plugins.append(plugin)
            if disabled & {plugin.name, plugin.distribution, "all"}:
                plugin.status, plugin.reason = "disabled", "named in RERANK_DISABLE_PLUGINS"
                continue
            self._add(plugin, point)

    def _add(self, plugin: Plugin, point: Any) -> None:
        light = {name for name in _HEAVY if name not in sys.modules}
        started = time.perf_counter()
        with plugin.failures_noted(""):
            self._manager.register(point.load(), name=plugin.key)
            for backends in self._call(plugin, "rerank_register_backends"):
                for backend in backends:
                    self.register(backend)
                    plugin.backends.append(backend.name)
        if plugin.status == "failed":  # half a plugin is none
            self.backends = {name: own for name, own in self.backends.items() if name not in plugin.backends}
            plugin.backends = []
        plugin.seconds = time.perf_counter() - started
        heavy = sorted(name for name in light if name in sys.modules)
        if heavy and plugin.status == "ok":
            plugin.reason = f"imports {', '.join(heavy)} when described; its authors should do so in load"
        elif plugin.seconds > _SLOW and plugin.status == "ok":
            plugin.reason = f"took {plugin.seconds:.1f} s to be described; its authors should do such work in load"

    def register(self, backend: Backend) -> None:
        """Add one backend.

        Raises:
            PluginError: It is no `Backend`, its name or an alias is taken, or it speaks another protocol.
        """
        if not isinstance(backend, Backend):
            raise PluginError(f"{backend!r} is no rerank.Backend: yield Backend(...) from the hook")
        if backend.protocol != PROTOCOL:
            upgrade = "rerank-core" if backend.protocol > PROTOCOL else "the plugin"
            raise PluginError(
                f"backend {backend.name!r} speaks plugin protocol {backend.protocol}, this core {PROTOCOL}: "
                f"upgrade {upgrade}"
            )
        _check_fields(backend)
        taken = {backend.name, *backend.aliases} & self._names()
        if taken:
            raise PluginError(f"the name {min(taken)!r} is taken by another plugin: uninstall one of the two")
        self.backends[backend.name] = backend

    def _call(self, plugin: Plugin, hook: str, **arguments: Any) -> list[Any]:
        """What one plugin's implementation of a hook returns: a list of one, or of none where it has none or failed."""
        if plugin.status != "ok":
            return []
        others = [other for key, other in self._manager.list_name_plugin() if key != plugin.key and other is not None]
        results: list[Any] = self._manager.subset_hook_caller(hook, others)(**arguments)
        return results

    def collect(self, hook: str, add: Callable[[Any], None]) -> None:
        """Pass on what plugins offer through a hook that one of them defines, each plugin on its own.

        Args:
            hook: Its name, such as ``rerank_register_providers``; it takes no arguments and returns an iterable.
            add: Called with each thing offered. If it or the plugin raises, the plugin becomes a row with its reason.
        """
        if not hasattr(self._manager.hook, hook):
            return
        for plugin in self.plugins:
            with plugin.failures_noted(f"{hook}: "):
                for offers in self._call(plugin, hook):
                    for offered in offers:
                        add(offered)

    def register_commands(self, cli: click.Group, reserved: Iterable[str] = ()) -> None:
        """Let every plugin add its commands; one that fails, or takes a name, becomes a row with its reason.

        Args:
            cli: The group to add to.
            reserved: Names that no plugin may take, beside those already in the group.
        """
        for plugin in self.plugins:
            before = {**dict.fromkeys(reserved), **cli.commands}
            with plugin.failures_noted("adding its commands: "), _kept(before, cli):
                self._call(plugin, "rerank_register_commands", cli=cli)

    def find(self, name: str) -> Backend:
        """The backend of this name or alias.

        Raises:
            BackendNotFoundError: None is installed; the message says what to ``pip install``.
        """
        for backend in self.backends.values():
            if name == backend.name or name in backend.aliases:
                return backend
        hint = (
            f"pip install {DISTRIBUTIONS[name]}"
            if name in DISTRIBUTIONS
            else f"choose one of {', '.join(sorted(self._names())) or 'none'}, or {self.to_install()}"
        )
        raise BackendNotFoundError(f"no installed backend is called {name!r}{self._failed(name)}: {hint}")

    def _names(self) -> set[str]:
        return {name for backend in self.backends.values() for name in (backend.name, *backend.aliases)}

    def _failed(self, name: str) -> str:
        broken = [p for p in self.plugins if p.status != "ok" and p.distribution == DISTRIBUTIONS.get(name)]
        return "".join(f" ({p.distribution} is installed but {p.status}: {p.reason})" for p in broken)

    def to_install(self) -> str:
        """What to do where no installed backend runs a model: the distributions of ours that are missing."""
        missing = {dist: name for name, dist in reversed(DISTRIBUTIONS.items()) if name not in self.backends}
        if not missing:
            return "check the model's name, or install a plugin that knows it"
        return "pip install the one it needs of " + ", ".join(f"{dist} ({name} …)" for dist, name in missing.items())


def _identity(distribution: Any) -> tuple[str, str]:
    """A distribution's name and version, which damaged metadata lack."""
    try:
        return distribution.name or "?", distribution.version or "?"
    except Exception:
        return "?", "?"


def _check_fields(backend: Backend) -> None:
    """Refuse what would only fail later, in a listing or in somebody else's resolution."""
    texts = {"name": backend.name, "summary": backend.summary}
    for field_name, text in texts.items():
        if not isinstance(text, str) or not text:
            raise PluginError(f"a backend's {field_name} is {text!r}: give some text")
    if not (isinstance(backend.options, type) and issubclass(backend.options, Options)):
        raise PluginError(f"the options of backend {backend.name!r} are no subclass of rerank.Options: make them one")
    models = backend.aliases.values() if isinstance(backend.aliases, Mapping) else [None]
    if not all(isinstance(own, Mapping) and all(isinstance(a, Alias) for a in own.values()) for own in models):
        raise PluginError(f"the aliases of backend {backend.name!r} are no {{name: {{language: Alias}}}}: mend them")


@contextmanager
def _kept(commands: Mapping[str, click.Command | None], cli: click.Group) -> Iterator[None]:
    """Undo what a plugin puts in the place of earlier commands, also where it fails."""
    try:
        yield
    finally:
        taken = [name for name, own in commands.items() if cli.commands.get(name) is not own]
        for name in taken:
            own = commands[name]
            cli.commands.pop(name, None) if own is None else cli.commands.update({name: own})
    if taken:
        raise PluginError(f"the command {taken[0]!r} is taken by another plugin: uninstall one of the two")


_DISCOVERING = threading.RLock()


def installed() -> Registry:
    """The process's registry: every installed plugin, discovered on first use, once for all threads."""
    with _DISCOVERING:
        return _discovered()


@cache
def _discovered() -> Registry:
    registry = Registry()
    registry.discover()
    return registry
