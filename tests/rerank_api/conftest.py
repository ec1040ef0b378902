"""The loopback server as a fixture, and an environment without keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from api_loopback import Loopback, rerank


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The SDK of Cohere warns of things that are not ours to change."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:cohere"))
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:fastavro"))


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests set the keys they need."""
    for name in list(os.environ):
        if (
            name.endswith(("_API_KEY", "_ACCESS_TOKEN"))
            or name.startswith(("AWS_", "GOOGLE_"))
            or "PROXY" in name.upper()
        ):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[Loopback]:
    """A server that ranks for real until it is told otherwise."""
    loopback = Loopback(rerank)
    yield loopback
    loopback.close()
