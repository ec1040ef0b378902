"""A plugin that adds a module without hooks."""

import types

from rerank import hookimpl


@hookimpl
def rerank_add_hooks(registry):
    registry.add_hooks(types.ModuleType("no_hooks"))
