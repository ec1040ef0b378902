"""``rerank doctor``: everything it reports, as a table and as JSON. It never raises and never shows a secret."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import Site

from rerank import RankedResults, Result
from rerank.testing.fake import fake_backend

SECTIONS = ["python", "distributions", "plugins", "devices", "caches", "keys", "notes", "hub", "self-test"]
SECRET = "hf_3141592653589793238"


@pytest.fixture(autouse=True)
def _good(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a good plugin, and no torch: importing it is slow, and what it says of this machine is not ours."""
    site.install("fake_good")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def doctor(run: Callable[..., Any]) -> Callable[..., Any]:
    """``rerank doctor --json``, read."""

    def ask(*arguments: str, code: int = 0) -> Any:
        ran = run("doctor", "--json", *arguments)
        assert ran.code == code, ran.err
        assert "Traceback" not in ran.err
        return json.loads(ran.out)

    return ask


def test_json_has_every_section(doctor: Callable[..., Any]) -> None:
    report = doctor("--offline")
    assert list(report) == SECTIONS
    assert report["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert report["python"]["executable"] == sys.executable
    assert report["distributions"]["rerank-core"][0].isdigit()
    assert report["distributions"]["pydantic"][0].isdigit()
    assert report["plugins"]["fake_good (fake-good)"].startswith("ok, good, ")
    assert report["devices"]["cpu"] == f"{os.cpu_count()} cores"
    assert report["hub"] == {"reachable": "not checked"}


def test_a_table_for_readers(run: Callable[..., Any]) -> None:
    ran = run("doctor", "--offline")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    empty = [name for name, section in json.loads(run("doctor", "--offline", "--json").out).items() if not section]
    assert [line for line in lines if not line.startswith(" ")] == [name for name in SECTIONS if name not in empty]
    columns = {len(line) - len(line[2:].split("  ", 1)[1].lstrip()) for line in lines if line.startswith("  python")}
    assert len(columns) <= 1
    assert any(line.split() == ["HF_TOKEN", "not", "set"] for line in lines)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("fake_import_error", "ImportError: needs libfancy: pip install fancy"),
        ("fake_taken", "the name 'goodie' of fake-taken is taken by fake-good"),
        ("fake_command_raises", "adding its commands: RuntimeError: no terminal today"),
    ],
)
def test_a_plugin_that_failed_is_reported_and_exits_with_1(
    site: Site, run: Callable[..., Any], doctor: Callable[..., Any], module: str, reason: str
) -> None:
    site.install(module)
    row = doctor("--offline", code=1)["plugins"][f"{module} ({module.replace('_', '-')})"]
    assert row.startswith("failed, ")
    assert reason in row
    ran = run("doctor", "--offline")
    assert ran.code == 1
    assert reason in ran.out
    assert ran.err == f"Error: plugins that failed: {module}; see the reasons above\n"


def test_without_any_plugin_the_next_step_is_shown(doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rerank.registry.Registry.discover", lambda registry: None)
    report = doctor("--offline")
    assert report["plugins"] == {"none": "pip install rerank-nano, to start with"}
    assert report["self-test"] == {"result": "skipped: no embedded model, pip install rerank-nano"}


def test_missing_libraries_are_reported_and_no_error(
    site: Site, doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib_metadata

    metadata = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n"
    for module, requirements in {
        "fake_empty": ["rerank-core>=0.1", "fake_shared", "libfancy>=2; python_version>'3'", "pytest; extra == 'test'"],
        "fake_shared": ["rerank-core", "libheavy[gpu]"],
    }.items():
        site.describe(module, metadata + "".join(f"Requires-Dist: {name}\n" for name in requirements))
    real = importlib_metadata.version

    def version(name: str) -> str:
        if name == "huggingface-hub":
            raise importlib_metadata.PackageNotFoundError(name)
        return str(real(name))

    monkeypatch.setattr(importlib_metadata, "version", version)
    for name in ("onnxruntime", "huggingface_hub", "huggingface_hub.constants"):
        monkeypatch.setitem(sys.modules, name, None)
    report = doctor(code=1)  # fake_shared names no module
    found = report["distributions"]
    assert {found[name] for name in ("huggingface-hub", "libfancy", "libheavy")} == {"not installed"}
    assert (found["fake-empty"], found["fake-shared"]) == ("1.0", "1.0")
    assert "pytest" not in found
    assert list(report["devices"]) == ["cpu"]
    assert report["caches"] == {"hub": "huggingface-hub is not installed"}
    assert report["hub"]["reachable"].startswith("not checked: huggingface-hub is not installed")


@pytest.mark.parametrize(("folder", "size"), [("full", "full, 2 MB"), ("absent", "absent, does not exist yet")])
def test_backends_report_their_devices_and_caches(
    site: Site, doctor: Callable[..., Any], tmp_path: Path, folder: str, size: str
) -> None:
    from rerank import installed

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "unpacked").write_bytes(bytes(2_000_000))
    installed().register(
        fake_backend("own", devices=lambda: {"abacus": "13 rods"}, caches=lambda: {"beads": tmp_path / folder})
    )
    installed().register(fake_backend("broken", devices=lambda: 1 / 0, caches=lambda: 1 / 0))
    report = doctor("--offline")
    assert report["devices"]["abacus"] == "13 rods"
    assert report["caches"]["beads"].endswith(size)
    for section in ("devices", "caches"):
        assert report[section]["broken"] == "unknown: ZeroDivisionError: division by zero"


def test_a_library_that_breaks_on_import_stops_nothing(
    site: Site, doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    (site.folder / "torch.py").write_text("raise OSError('libcudart.so: cannot open')", encoding="utf-8")
    assert "cpu" in doctor("--offline")["devices"]


def test_a_check_that_breaks_says_why_and_stops_nothing(
    doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.platform", lambda: 1 / 0)
    report = doctor("--offline")
    assert report["python"] == {"unknown": "failed: ZeroDivisionError: division by zero"}
    assert list(report) == SECTIONS


# keys


def test_keys_are_set_or_not_and_never_shown(
    hub: Any, run: Callable[..., Any], doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor("--offline")["keys"] == {"HF_TOKEN": "not set"}
    for name in ("HF_TOKEN", "COHERE_API_KEY", "VOYAGE_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", "rerank-crossencoder,rerank-nano")
    report = doctor()
    assert report["keys"] == {"HF_TOKEN": "set"}
    for note in report["notes"].get("api", ()):
        if note.startswith(("cohere:", "voyage:")):
            assert "key set" in note
    for arguments in ((), ("--json",), ("--offline",)):
        ran = run("doctor", *arguments)
        assert SECRET not in ran.out + ran.err
    assert not any(SECRET in part for seen in hub.seen for part in seen)


@pytest.mark.parametrize(
    "endpoint", ["http://user:{}@127.0.0.1:1", "http://user:{}@no host", "http://{}@127.0.0.1:1/hub"]
)
def test_a_password_in_the_hubs_address_is_not_shown(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", endpoint.format(SECRET))
    for offline in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        ran = run("doctor")
        assert ran.code == 0
        assert SECRET not in ran.out + ran.err


# the hub


def test_a_hub_that_answers(hub: Any, doctor: Callable[..., Any]) -> None:
    report = doctor()["hub"]
    assert report["endpoint"] == hub.endpoint
    assert report["reachable"].startswith("yes, ")
    assert report["reachable"].endswith(" ms")
    hub.fail(503)  # an answer is an answer
    assert doctor()["hub"]["reachable"].startswith("yes, ")


def test_a_hub_that_is_down(hub: Any, doctor: Callable[..., Any]) -> None:
    hub.stop()
    assert doctor()["hub"]["reachable"].endswith("; models in the cache and in folders work")
    assert doctor()["hub"]["reachable"].startswith("no (")


def test_offline(hub: Any, doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor("--offline")["hub"] == {"reachable": "not checked"}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert doctor()["hub"]["reachable"] == "not checked: HF_HUB_OFFLINE is set"
    assert not hub.seen


def test_a_hub_that_never_answers_is_waited_for_five_seconds(
    hub: Any, doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        started = time.monotonic()
        assert "timed out" in doctor()["hub"]["reachable"]
        assert time.monotonic() - started < 8


# caches


def test_caches_and_their_size(hub: Any, doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Path(os.environ["HF_HUB_CACHE"])
    assert doctor("--offline")["caches"]["hub"] == f"{cache}, does not exist yet"
    (cache / "models--owner--model" / "blobs").mkdir(parents=True)
    blob = cache / "models--owner--model" / "blobs" / "b"
    blob.write_bytes(bytes(3_000_000))
    (cache / "link").symlink_to(blob)  # the hub's snapshots are links: nothing counts twice
    (cache / "dangling").symlink_to(cache / "absent")
    assert doctor("--offline")["caches"]["hub"] == f"{cache}, 3 MB"
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for a user without the permission
    assert doctor("--offline")["caches"]["hub"] == f"{cache}, 3 MB, read-only"


def test_a_cache_that_cannot_be_made(hub: Any, doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert doctor("--offline")["caches"]["hub"].endswith("hub, does not exist yet and cannot be created: read-only")


# the self-test


class Fake:
    """Stands for the embedded model."""

    first = 1

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def rank(self, query: str, texts: list[str]) -> RankedResults:
        best = Result(doc_id=self.first, text=texts[self.first], score=1.0, rank=1, index=self.first)
        return RankedResults(results=[best], query=query, has_scores=True)


def test_the_embedded_model_ranks(doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rerank_nano")
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", "rerank-crossencoder,rerank-api")
    report = doctor("--offline")["self-test"]
    assert report["result"] == "passed"
    assert 0 < float(report["seconds to load and rank"]) < 30


@pytest.mark.parametrize("fault", ["wrong order", "raises"])
def test_a_self_test_that_fails_exits_with_1(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    from rerank import registry as registries

    monkeypatch.setitem(registries.installed().backends, "nano", registries.installed().backends["good"])
    monkeypatch.setattr(Fake, "first", 0)
    monkeypatch.setattr("rerank.cli.doctor.Reranker", Fake if fault == "wrong order" else lambda: 1 / 0)
    ran = run("doctor", "--offline")
    assert ran.code == 1
    assert ("'On the stock market.' came first" if fault == "wrong order" else "division by zero") in ran.out
    assert ran.err == "Error: the self-test failed; see the reason above\n"
