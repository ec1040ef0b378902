"""The loopback server as a fixture, and an environment without keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from api_ranking import rerank
from loopback import Loopback


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The SDK of Cohere warns of things that are not ours to change."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:cohere"))
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:fastavro"))


@pytest.fixture(autouse=True)
def _no_keys(no_keys: None) -> None:
    """Tests set the keys they need."""


@pytest.fixture
def server() -> Iterator[Loopback]:
    """A server that ranks for real until it is told otherwise."""
    loopback = Loopback(rerank)
    yield loopback
    loopback.close()
