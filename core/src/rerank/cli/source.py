"""The options that say where a model comes from, the same for every command that takes a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final, TypeVar

import click

from rerank.model_source import ModelSource

F = TypeVar("F", bound=Callable[..., Any])

_SHORT: Final = {"backend": ["-b"]}
_LEFT_OUT: Final = ("model_type",)
"""Arguments that only rename another one."""

TEXT_ARGUMENTS: Final = frozenset(a.name for a in fields(ModelSource) if not isinstance(a.default, bool))
"""Arguments that stay text even if they look like a number."""


def source_options(command: F) -> F:
    """Give a command an option for each argument of `ModelSource`; it receives them by name."""
    for argument in reversed(fields(ModelSource)):
        if argument.name in _LEFT_OUT:
            continue
        decorate = click.option(
            *_SHORT.get(argument.name, ()),
            f"--{argument.name.replace('_', '-')}",
            default=argument.default,
            is_flag=isinstance(argument.default, bool),
            show_default=isinstance(argument.default, str),
            help=argument.metadata["help"],
        )
        command = decorate(command)
    return command
