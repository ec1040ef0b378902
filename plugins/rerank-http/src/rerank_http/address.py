"""Addresses: how a path is appended or replaced."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


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
