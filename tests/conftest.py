"""Fixtures for the tests of every distribution: real data if it is present, a local hub, and no keys."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
sys.path.append(str(Path(__file__).parent / "core"))  # where hub_server.py and fake_plugins.py lie
sys.path.append(str(Path(__file__).parent / "rerank_http"))  # where loopback.py lies

from hub_server import Hub  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for a job in the background; processes of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real collections, tokenizers and models beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED.name}/ beside the checkout")
    return SHARED


@pytest.fixture
def no_garbage() -> Iterator[None]:
    """No collection of garbage: an interrupt that meets the weakref callback of an earlier test's thread is lost."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither keys nor proxies of this machine."""
    for name in list(os.environ):
        if (
            name.endswith(("_API_KEY", "_ACCESS_TOKEN"))
            or name.startswith(("AWS_", "GOOGLE_"))
            or "PROXY" in name.upper()
        ):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, made on the spot; and its key beside it."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=loopback -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run(
            [*command.split(), "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
            check=True,
            capture_output=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        pytest.skip("needs the openssl command to make a certificate")
    return folder / "cert.pem"


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
