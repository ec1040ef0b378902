"""The options that say where a model comes from and how its backend runs it, for every command that takes a model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

import click

from rerank.errors import InvalidOptionsError
from rerank.model_source import ModelSource

F = TypeVar("F", bound=Callable[..., Any])

_SHORT: Final = {"backend": ["-b"]}
_LEFT_OUT: Final = ("model_type",)
"""Arguments that only rename another one."""

_TEXT_ARGUMENTS: Final = frozenset(a.name for a in fields(ModelSource) if not isinstance(a.default, bool))
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


def backend_options(command: F) -> F:
    """Give a command ``--option K=V``; it receives all of them as ``pairs``, for `read_options`."""
    return click.option(
        "-o", "--option", "pairs", multiple=True, metavar="K=V", help="An option of the backend; repeatable."
    )(command)


def read_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Options by name from ``K=V``, with ``V`` read as JSON if it is, else as text.

    Raises:
        InvalidOptionsError: One is not ``K=V``, or no option of a backend.
    """
    return dict(map(_read_option, pairs))


_SECRET: Final = re.compile(r"(^|_)(key|token|secret|password)$")
"""Options whose value is text, whatever it looks like."""

_PYTHON_WORDS: Final = {"True": True, "False": False, "None": None}


def _read_option(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise InvalidOptionsError(f"--option {pair!r} is not k=v: write, for example, --option batch_size=8")
    name = name.replace("-", "_")
    if name in ("self", "model", "backend", "registry"):
        raise InvalidOptionsError(f"--option {pair!r} is not an option of a backend: use --model and --backend")
    if name in _TEXT_ARGUMENTS:
        return name, value
    if _SECRET.search(name):
        return name, value
    if value in _PYTHON_WORDS:
        return name, _PYTHON_WORDS[value]
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
