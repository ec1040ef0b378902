"""Which proxy the environment sets for an address, and which addresses it excludes."""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from rerank import shown_address

_PORTS: Final = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """A proxy, and what names it: ``proxy=``, or a variable such as ``HTTPS_PROXY``."""

    address: str
    origin: str


class ProxyFailedError(httpx.ProxyError):
    """A request that did not get through a proxy, whether the proxy or the service behind it broke off.

    Args:
        proxy: The proxy.
        error: What happened.
    """

    def __init__(self, proxy: Proxy, error: Exception) -> None:
        super().__init__(f"{shown_address(proxy.address)}: {type(error).__name__}: {error}".rstrip(": "))
        self.origin = proxy.origin


def proxy_of_environment(url: str) -> Proxy | None:
    """The proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` set for an address.

    Args:
        url: The address.

    Returns:
        The proxy; None if there is none, or `is_excluded`.
    """
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    host = parts.hostname or ""
    if is_excluded(url, proxies.get("no", "")) or urllib.request.proxy_bypass(host):
        return None
    name = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    if name is None:
        return None
    variables = [variable for variable in sorted(os.environ, reverse=True) if variable.lower() == f"{name}_proxy"]
    found = proxies[name]
    return Proxy(found if "://" in found else f"http://{found}", variables[0] if variables else "the system's settings")


def is_excluded(url: str, no_proxy: str) -> bool:
    """Whether ``NO_PROXY`` excludes an address.

    Its entries are separated by commas: ``*``, a host or domain (with its subdomains, also as ``.example.com`` or
    ``*.example.com``), an IP address or network (``10.0.0.0/8``), each also with a port or a scheme. All that curl,
    requests or httpx excludes is excluded: a key must not reach a proxy that the user meant to leave out.

    Args:
        url: The address.
        no_proxy: The variable's value.
    """
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme)
    return any(_matches(entry, parts.scheme, host, port) for entry in no_proxy.lower().replace(",", " ").split())


def _matches(entry: str, scheme: str, host: str, port: int | None) -> bool:
    own_scheme, separator, rest = entry.rpartition("://")
    if separator and own_scheme not in (scheme, "all"):
        return False
    if rest == "*":
        return True
    if (network := _network(rest)) is not None:
        address = _network(host)
        return address is not None and address.version == network.version and address.subnet_of(network)  # type: ignore[arg-type]
    name, colon, own_port = rest.rpartition(":")
    if colon and own_port.isdigit() and (":" not in name or name.endswith("]")):
        if int(own_port) != port:
            return False
        return _matches(name, scheme, host, port)
    domain = rest.strip("[]").removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
