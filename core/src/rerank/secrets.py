"""The secrets of a call: what they are, and how everything that leaves hides them."""

from __future__ import annotations

import base64
import binascii
import html
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

HIDDEN: Final = "***"
"""What stands where a secret was."""

_SHORTEST: Final = 4
"""Shorter values may occur in any message."""
_SHORTEST_PART: Final = 6
"""Shorter parts of a value, too."""
_SCHEMES: Final = frozenset({"bearer", "digest", "negotiate", "apikey", "api-key"})
"""What stands before a key in a header, and is none."""
_SECRET_NAME: Final = re.compile(
    r"key(_id)?$|^api_?key|token$|secret|passw|pwd|auth$|authorization|credential|cookie|signature|^sig$|^code$|session_?id"
)
_LOGGERS: Final = (
    *("httpx", "httpx2"),
    *(
        f"{package}.{module}"
        for package in ("httpcore", "httpcore2")
        for module in ("connection", "http11", "http2", "proxy", "socks")
    ),
    "urllib3.connectionpool",
    "huggingface_hub.utils._http",
    "botocore.auth",
)
"""Those of other packages that write addresses, headers and answers."""

_in_use: Final[ContextVar[Secrets | None]] = ContextVar("secrets", default=None)


def names_secret(name: str) -> bool:
    """Whether a field of a request's body, or of an address's query, holds a secret by its name."""
    return bool(_SECRET_NAME.search(name.lower().replace("-", "_")))


def shown_address(url: str) -> str:
    """An address as messages show it: without a user, a password or a query, which may be secrets; it may be none."""
    start, _, rest = _parted(url)
    return start + re.split(r"[?#]", rest)[0]


def _parted(url: str) -> tuple[str, str, str]:
    """An address up to its user, the user and password, and the rest: its host, its path and its query.

    A password may have one of ``/?#`` in it. Then the host seems to end there, and to have a port that is no number.
    """
    start, slashes, rest = url.partition("//") if "//" in url else ("", "", url)
    authority = re.split(r"[/?#]", rest)[0]
    port = authority.rpartition(":")[2].rpartition("]")[2] if ":" in authority else ""
    seeming = "@" not in authority and port and not port.isdigit()
    end = rest.rfind("@") if seeming else authority.rfind("@")
    return start + slashes, rest[: max(end, 0)], rest[end + 1 :]


def without_secrets(value: Any, replacement: str | None = HIDDEN) -> Any:
    """Plain data without secrets: the texts of mappings, and the fields of an address's query, whose names say secret.

    Args:
        value: An address, or such as an ``extra_body``.
        replacement: Stands for each secret; None removes its field.
    """
    if isinstance(value, Mapping):
        return {
            name: replacement if _is_secret(name, own) else without_secrets(own, replacement)
            for name, own in value.items()
            if replacement is not None or not _is_secret(name, own)
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(part, replacement) for part in value]
    return _without_query_secrets(value, replacement) if isinstance(value, str) and "://" in value else value


def _without_query_secrets(url: str, replacement: str | None) -> str:
    address, mark, query = url.partition("?")
    kept = []
    for field in query.split("&") if mark else ():
        name, _, value = field.partition("=")
        if not (value and names_secret(unquote(name))):
            kept.append(field)
        elif replacement is not None:
            kept.append(f"{name}={replacement}")
    return address + ("?" + "&".join(kept) if kept else "")


def _is_secret(name: Any, value: Any) -> bool:
    return isinstance(value, str) and isinstance(name, str) and names_secret(name)


class Secrets:
    """The secrets of a call, which no message, log line or exception shows.

    Each is hidden as it is, and as JSON, HTML, an address or Python's ``repr`` writes it.
    """

    def __init__(self) -> None:
        self._values: set[str] = set()
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_hide_in_record)

    def add(self, value: str) -> None:
        """Hide a value from now on; very short ones are not secrets."""
        if len(value) < _SHORTEST:
            return
        written = (json.dumps(value)[1:-1], repr(value)[1:-1], quote(value, safe=""), quote(value), html.escape(value))
        self._values.update((value, *written))

    def add_header(self, value: str) -> None:
        """Hide a header's value, and each of its parts: keys behind a scheme, cookies, a user and a password."""
        self.add(value)
        for part in re.split(r"[\s,;]+", value):
            for own in (part, *part.split("=", 1), *_decoded(part)):
                self._add_part(own.strip('"'))

    def add_address(self, url: str) -> None:
        """Hide what an address has besides its host and path: a user, a password and the values of its query."""
        _, user, rest = _parted(url)
        for own in {user, unquote(user)}:
            name, _, password = own.partition(":")
            for value in (own, base64.b64encode(own.encode()).decode(), name, *_runs(password, "/?#@:")):
                self.add(value)
        for name, value in parse_qsl(rest.partition("?")[2].partition("#")[0]):
            if names_secret(name):
                self.add(value)
            else:
                self._add_part(value)

    def add_body(self, body: Any) -> None:
        """Hide the texts in plain data that stand under a name that says secret."""
        if isinstance(body, Mapping):
            for name, value in body.items():
                if _is_secret(name, value):
                    self.add(value)
                else:
                    self.add_body(value)
        elif isinstance(body, (list, tuple)):
            for part in body:
                self.add_body(part)

    def _add_part(self, part: str) -> None:
        if len(part) >= _SHORTEST_PART and part.lower() not in _SCHEMES:
            self.add(part)

    def hide(self, text: str) -> str:
        """``text`` with every secret replaced."""
        for value in sorted(self._values, key=len, reverse=True):
            if value in text:
                text = text.replace(value, HIDDEN)
        return text

    def scrub(self, error: BaseException) -> None:
        """Hide them in an exception and in all that it was raised for, and take requests and responses off."""
        waiting: list[BaseException | None] = [error]
        seen: set[int] = set()
        while waiting:
            one = waiting.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            one.args = self._plain(one.args)
            own = vars(one)
            for name, value in list(own.items()):
                own[name] = self._plain(value)
            if isinstance(one, OSError) and isinstance(one.strerror, str):
                one.strerror = self.hide(one.strerror)
            waiting += [one.__cause__, one.__context__]

    def _plain(self, value: Any) -> Any:
        """Plain data without secrets; None for anything else, which may carry a request."""
        if isinstance(value, str):
            return self.hide(value)
        if value is None or isinstance(value, (int, float)):
            return value
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._plain, value)) if type(value) in (list, tuple) else None
        if isinstance(value, dict):
            return {self._plain(name): self._plain(own) for name, own in value.items()}
        return None

    @contextmanager
    def hidden_in_logs(self) -> Iterator[None]:
        """While this lasts, and in every task that starts meanwhile, other packages' log lines show none of them."""
        before = _in_use.set(self)
        try:
            yield
        finally:
            _in_use.reset(before)

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)})"


def _hide_in_record(record: logging.LogRecord) -> bool:
    """A logger's filter that drops no line, and hides the secrets of the call at hand in each."""
    if (secrets := _in_use.get()) is not None:
        record.msg, record.args = secrets.hide(record.getMessage()), ()
    return True


def _decoded(value: str) -> list[str]:
    """What a Basic header holds, its user and its password; nothing if it is none."""
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return []
    return [text, *text.split(":", 1)] if ":" in text and text.isprintable() else []


def _runs(text: str, marks: str) -> list[str]:
    """A text, and what stands between its marks: messages of broken addresses show one of these alone."""
    return [text, *re.split(f"[{re.escape(marks)}]", text)]
