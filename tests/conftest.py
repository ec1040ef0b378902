"""Fixtures for the tests of every distribution: real data if it is present, and a local hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
sys.path.append(str(Path(__file__).parent / "core"))  # where hub_server.py and fake_plugins.py lie

from hub_server import Hub  # noqa: E402


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real collections, tokenizers and models beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED.name}/ beside the checkout")
    return SHARED


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A local hub: this process and its children take it for the real one, with an empty cache and no saved login.

    ``hub.add("owner/name", {"config.json": "{}"})`` publishes a repository; ``hub.stop()`` takes the hub down.
    """
    constants = pytest.importorskip("huggingface_hub.constants")
    cache = str(tmp_path / "hub")
    with Hub() as server:
        for name, value in {
            "ENDPOINT": server.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": cache,
            "HF_HUB_OFFLINE": False,
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(  # huggingface-hub 0.34 keeps a copy here
            "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE",
            constants.HUGGINGFACE_CO_URL_TEMPLATE,
            raising=False,
        )
        for name in (
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
            "HTTP_PROXY",
            "http_proxy",
        ):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", cache)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield server
