"""Addresses: how a path is appended or replaced."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from rerank import InvalidOptionsError

_PART: Final = re.compile(r"\w[\w.:@+=,~-]*", re.ASCII)


def in_path(value: str, name: str) -> str:
    """A value that becomes part of an address's path, such as a model's name.

    Args:
        value: The value; slashes separate its parts.
        name: What it is, for errors, such as ``model``.

    Raises:
        InvalidOptionsError: It could lead to another path or host, as ``../x``, ``x?y`` and ``x#y`` do.
    """
    for part in value.split("/"):
        in_part(part, name)
    return value


def in_part(value: str, name: str) -> str:
    """As `in_path`, for a value that becomes one part of a path, such as a project.

    Raises:
        InvalidOptionsError: It could lead to another path or host.
    """
    if not _PART.fullmatch(value):
        raise InvalidOptionsError(
            f"{name} {value!r:.60} cannot be part of an address: give a name of letters, digits and any of . _ : @ + = , ~ -"
        )
    return value


def join(base: str, path: str) -> str:
    """``base`` with ``path`` appended; ``http://h/v1`` and ``/v1/rerank`` share their ``/v1``."""
    parts = urlsplit(base)
    own = [part for part in parts.path.split("/") if part]
    added = [part for part in path.split("/") if part]
    shared = next(
        size for size in range(len(added), -1, -1) if size <= len(own) and own[len(own) - size :] == added[:size]
    )
    end = "/" if own and not added and parts.path.endswith("/") else ""  # the user's whole path is kept as it is
    return urlunsplit(parts._replace(path="/" + "/".join(own + added[shared:]) + end, fragment=""))


def sibling(url: str, path: str, other: str) -> str:
    """The address of ``other`` on the server that has ``path`` at ``url``."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/").removesuffix(path) + other))
