"""The loopback server as a fixture, and no key or proxy of the machine's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chat import echo
from loopback import Loopback


@pytest.fixture(autouse=True)
def _no_keys(no_keys: None) -> None:
    """Tests set the keys they need."""


@pytest.fixture
def server() -> Iterator[Loopback]:
    """A server that echoes until it is set to do something else."""
    loopback = Loopback(echo)
    yield loopback
    loopback.close()
