"""The available backends, found through entry points; a plugin that fails does not affect the others."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import pluggy

from rerank import hookspecs
from rerank.backend import PROTOCOL, Alias, Backend
from rerank.display import listed
from rerank.distributions import DISTRIBUTIONS, how_to_get, what_to_install
from rerank.errors import BackendNotFoundError, PluginError
from rerank.forks import ForkSafeLock
from rerank.options import Options
from rerank.plugin import Plugin

if TYPE_CHECKING:
    import click


logger = logging.getLogger(__name__)


class Named(Protocol):
    """Something that plugins offer by name."""

    @property
    def name(self) -> str:
        """Its unique name."""
        ...


N = TypeVar("N", bound=Named)

_CORE: Final = "rerank-core"
_BY_HAND: Final = "this program"
"""How errors name the origin of a backend that no plugin registered."""


class Registry:
    """The backends of a process.

    `Registry()` is empty, for tests and for backends registered by hand; `rerank.installed` returns the one with every
    installed plugin.
    """

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.backends: dict[str, Backend] = {}
        self._origins: dict[str, str] = {}  # names and aliases of backends → their distribution
        self._origins_of_hooks: dict[str, str] = {}  # hooks that plugins define → their distribution
        self._manager = pluggy.PluginManager(hookspecs.NAME)
        self._manager.add_hookspecs(hookspecs)

    def discover(self) -> None:
        """Add every installed plugin; one that fails is listed with its reason and does not stop the others.

        All are imported before the first hook is called, and all hooks are known and callable before any backend is
        described: the order of plugins only decides which one keeps a name that two of them want.
        """
        self._import_plugins()
        for plugin in self._usable():
            self._add_hooks_of(plugin)
        usable = self._usable()
        unusable = [plugin for plugin in self.plugins if plugin not in usable]
        for plugin in usable:
            self._add_to_manager(plugin, unusable)
        for plugin in self._usable():
            self._add_backends_of(plugin)

    def _import_plugins(self) -> None:
        wanted = re.split(r"[,;\s]+", os.environ.get("RERANK_DISABLE_PLUGINS", "").strip())
        disabled = {name: False for name in map(_normalized, wanted) if name}  # and whether a plugin has it
        found = {(*_identity(point.dist), point.name): point for point in _entry_points()}  # a path may be listed twice
        for key in sorted(found, key=lambda key: (key[0] not in DISTRIBUTIONS.values(), key)):  # ours first
            plugin = Plugin(name=found[key].name, distribution=key[0], version=key[1])
            self.plugins.append(plugin)
            if names := disabled.keys() & {_normalized(plugin.name), _normalized(plugin.distribution), "all"}:
                disabled |= dict.fromkeys(names, True)
                plugin.status, plugin.reason = "disabled", "by RERANK_DISABLE_PLUGINS"
                continue
            with plugin.cost_noted(), plugin.failures_noted():
                plugin.module = found[key].load()
        for name in [name for name, is_known in disabled.items() if not is_known]:
            logger.warning(
                "RERANK_DISABLE_PLUGINS names %r, which no installed plugin or distribution is called: nothing is disabled "
                "by it",
                name,
            )

    def _usable(self) -> list[Plugin]:
        return [plugin for plugin in self.plugins if plugin.status == "ok"]

    def _add_hooks_of(self, plugin: Plugin) -> None:
        """Let one plugin add its hooks; others are asked later, when every hook is known."""
        alone = pluggy.PluginManager(hookspecs.NAME)
        alone.add_hookspecs(hookspecs)
        with plugin.failures_noted():
            alone.register(plugin.module)
            before = self._known_hooks()
            try:
                alone.hook.rerank_add_hooks(registry=self)
            finally:
                self._origins_of_hooks |= dict.fromkeys(self._known_hooks() - before, plugin.distribution)

    def _add_to_manager(self, plugin: Plugin, unusable: Sequence[Plugin]) -> None:
        """Make one plugin's hooks callable; ``unusable`` plugins may define hooks that are not known."""
        with plugin.failures_noted():
            self._manager.register(plugin.module, name=plugin.key)
            for hook in self._unknown_hooks(plugin):
                plugin.reason = self._explain_unknown_hook(hook, unusable)

    def _add_backends_of(self, plugin: Plugin) -> None:
        """Let one plugin describe its backends."""
        with plugin.cost_noted(), plugin.failures_noted():
            for backends in self._call(plugin, "rerank_register_backends", registry=self):
                for backend in backends:
                    self.register(backend, plugin.distribution)
                    plugin.backends.append(backend.name)
        if plugin.status == "failed":  # a plugin registers all of its backends or none
            for name in plugin.backends:
                for own in {name, *self.backends.pop(name).aliases}:
                    del self._origins[own]
            plugin.backends = []

    def _unknown_hooks(self, plugin: Plugin) -> list[str]:
        """The hooks that a plugin implements and no plugin defines, unless it marks them as optional."""
        return [
            hook.name
            for hook in self._manager.get_hookcallers(plugin.module) or ()
            if not hook.has_spec()
            and not all(own.optionalhook for own in hook.get_hookimpls() if own.plugin is plugin.module)
        ]

    def _known_hooks(self) -> set[str]:
        """The hooks of core and of plugins, as far as they are added."""
        hooks = vars(self._manager.hook)
        return {name for name in hooks if not name.startswith("_") and hooks[name].has_spec()}

    def _explain_unknown_hook(self, name: str, unusable: Sequence[Plugin]) -> str:
        """Return a warning if an ``unusable`` plugin may define the hook.

        Raises:
            PluginError: None may, or the name is close to that of a known hook.
        """
        known = sorted(self._known_hooks())
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.9):
            raise PluginError(f"there is no hook {name!r}: did you mean {near[0]!r}?")
        if not unusable:
            raise PluginError(
                f"there is no hook {name!r}: choose one of {', '.join(known)}, or install the plugin that defines it"
            )
        owners = ", ".join(f"{plugin.distribution} ({plugin.status})" for plugin in unusable)
        return (
            f"its hook {name!r} is never called: enable or fix {owners} if it is defined there, "
            "otherwise correct the name"
        )

    def add_hooks(self, module: Any) -> None:
        """Add hooks that other plugins may implement; a plugin calls this from its ``rerank_add_hooks``.

        Args:
            module: Its functions marked with `rerank.hookspecs.hookspec` are the hooks. Each takes no arguments and
                returns an iterable, for `collect`.

        Raises:
            PluginError: It has no such function, or another plugin has a hook of the same name.
        """
        origin = getattr(module, "__name__", module)
        hooks = {name for name in dir(module) if self._manager.parse_hookspec_opts(module, name) is not None}
        if not hooks:
            raise PluginError(f"{origin} has no hooks to add: mark functions with rerank.hookspecs.hookspec")
        if taken := hooks & self._known_hooks():
            name = min(taken)
            raise PluginError(
                f"{origin} cannot add the hook {name!r}, which {self._origins_of_hooks.get(name, _CORE)} defines: "
                "give it another name, or uninstall one of the two"
            )
        self._manager.add_hookspecs(module)

    def register(self, backend: Backend, distribution: str = _BY_HAND) -> None:
        """Add one backend.

        Args:
            backend: The backend.
            distribution: Its distribution, for the error if two backends want the same name.

        Raises:
            PluginError: It is not a `Backend`, its name or an alias is taken, or it uses another protocol.
        """
        if not isinstance(backend, Backend):
            raise PluginError(f"{backend!r} is not a rerank.Backend: yield Backend(...) from the hook")
        if backend.protocol != PROTOCOL:
            upgrade = _CORE if backend.protocol > PROTOCOL else "the plugin"
            raise PluginError(
                f"backend {backend.name!r} uses plugin protocol {backend.protocol}, but this core uses {PROTOCOL}: "
                f"upgrade {upgrade}"
            )
        _check_fields(backend)
        own = {backend.name, *backend.aliases}
        if taken := own & set(self._origins):
            name = min(taken)
            raise PluginError(
                f"the name {name!r} of {distribution} is taken by {self._origins[name]}: rename or uninstall one of the two"
            )
        self._origins.update(dict.fromkeys(own, distribution))
        self.backends[backend.name] = backend

    def _call(self, plugin: Plugin, hook: str, **arguments: Any) -> list[Any]:
        """What one plugin's implementation of a hook returns, in a list; empty if it has none or the plugin failed."""
        if plugin.status != "ok":
            return []
        others = [other for key, other in self._manager.list_name_plugin() if key != plugin.key and other is not None]
        results: list[Any] = self._manager.subset_hook_caller(hook, others)(**arguments)
        return results

    def collect(self, hook: str, add: Callable[[Any, str], None]) -> None:
        """Pass on what plugins offer through a hook that one of them defines; one that fails does not stop the others.

        Args:
            hook: Its name, such as ``rerank_register_providers``.
            add: Called with each offered object and its distribution. If it or the plugin raises, the plugin is listed
                as failed, with the reason.
        """
        if not hasattr(self._manager.hook, hook):
            return
        for plugin in self.plugins:
            with plugin.failures_noted(f"{hook}: "):
                for offers in self._call(plugin, hook):
                    for offered in offers:
                        add(offered, plugin.distribution)

    def collect_named(self, hook: str, kind: type[N], known: dict[str, N]) -> None:
        """Add what plugins offer through a hook to what is known by name, which no plugin can replace.

        Args:
            hook: Its name, such as ``rerank_register_recipes``.
            kind: What plugins offer, such as ``Recipe``; anything else fails the plugin.
            known: What this project's own distribution has, by name; added to.
        """
        self.collect(hook, partial(_add_named, kind, known))

    def register_commands(self, cli: click.Group, reserved: Iterable[str] = ()) -> None:
        """Let every plugin add its commands; one that fails or takes a used name is listed as failed, with the reason.

        Args:
            cli: The group to add to.
            reserved: Names that no plugin may take, besides those already in the group.
        """
        origins = dict.fromkeys([*reserved, *cli.commands], _CORE)
        for plugin in self.plugins:
            before = {**dict.fromkeys(reserved), **cli.commands}
            with plugin.failures_noted("adding its commands: "), _kept(before, cli, plugin.distribution, origins):
                self._call(plugin, "rerank_register_commands", cli=cli)
            origins.update(dict.fromkeys(cli.commands.keys() - origins.keys(), plugin.distribution))

    def find(self, name: str) -> Backend:
        """The backend of this name or alias.

        Raises:
            BackendNotFoundError: None is installed; the message says what to ``pip install``.
        """
        for backend in self.backends.values():
            if name == backend.name or name in backend.aliases:
                return backend
        if name in DISTRIBUTIONS:
            step = how_to_get(name, self.plugins)
        elif near := self.nearest(name):
            step = f"did you mean {near!r}?"
        else:
            names = listed(self.backends) or "none"
            step = f"choose one of {names}, or {what_to_install(self.backends, self.plugins)}"
        raise BackendNotFoundError(f"no installed backend is called {name!r}: {step}")

    def nearest(self, name: str) -> str | None:
        """The name or alias of a backend that a wrong one most likely means; None if none is near."""
        known = {known.casefold(): known for known in (*DISTRIBUTIONS, *self._origins)}
        near = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.75)
        return known[near[0]] if near else None


def _add_named(kind: type[N], known: dict[str, N], offered: Any, distribution: str) -> None:
    """Add what one plugin offers, unless it is something else or its name is taken."""
    if not isinstance(offered, kind):
        package = kind.__module__.partition(".")[0]
        raise PluginError(f"{offered!r} is not a {package}.{kind.__name__}: yield {kind.__name__}(...) from the hook")
    if offered.name in known:
        raise PluginError(
            f"the {kind.__name__.lower()} {offered.name!r} of {distribution} exists already: give it another name"
        )
    known[offered.name] = offered


def _entry_points() -> Iterator[Any]:
    """The entry points of all distributions; those of one whose file cannot be read are left out, and reported."""
    import importlib_metadata

    try:
        yield from importlib_metadata.entry_points(group=hookspecs.NAME)
    except ValueError:  # a file that is no UTF-8
        for distribution in importlib_metadata.distributions():
            try:
                yield from distribution.entry_points.select(group=hookspecs.NAME)
            except ValueError as error:
                name, _ = _identity(distribution)
                logger.warning(
                    "the entry points of %s cannot be read (%s): install it again, or remove it", name, error
                )


def _normalized(name: str) -> str:
    """A name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _identity(distribution: Any) -> tuple[str, str]:
    """A distribution's name and version; question marks if its metadata are damaged."""
    try:
        return distribution.name or "?", distribution.version or "?"
    except Exception:
        return "?", "?"


def _check_fields(backend: Backend) -> None:
    """Reject what would only fail later, in a listing or while another plugin's model is resolved."""
    texts = {"name": backend.name, "summary": backend.summary}
    for field_name, text in texts.items():
        if not isinstance(text, str) or not text:
            raise PluginError(f"a backend's {field_name} is {text!r}: give some text")
    if not (isinstance(backend.options, type) and issubclass(backend.options, Options)):
        raise PluginError(
            f"the options of backend {backend.name!r} must be a subclass of rerank.Options: make them one"
        )
    models = backend.aliases.values() if isinstance(backend.aliases, Mapping) else [None]
    if not all(isinstance(own, Mapping) and all(isinstance(a, Alias) for a in own.values()) for own in models):
        raise PluginError(f"the aliases of backend {backend.name!r} must be {{name: {{language: Alias}}}}: fix them")


@contextmanager
def _kept(
    commands: Mapping[str, click.Command | None], cli: click.Group, distribution: str, origins: Mapping[str, str]
) -> Iterator[None]:
    """Restore earlier commands that a distribution replaces, even if it fails."""
    try:
        yield
    finally:
        taken = [name for name, own in commands.items() if cli.commands.get(name) is not own]
        for name in taken:
            own = commands[name]
            cli.commands.pop(name, None) if own is None else cli.commands.update({name: own})
    if taken:
        raise PluginError(
            f"the command {taken[0]!r} of {distribution} is taken by {origins[taken[0]]}: rename or uninstall one of the two"
        )


_DISCOVERING = ForkSafeLock(reentrant=True)


def installed() -> Registry:
    """The process's registry: every installed plugin, discovered on first use, once for all threads."""
    with _DISCOVERING:
        return _discovered()


@cache
def _discovered() -> Registry:
    registry = Registry()
    registry.discover()
    return registry
