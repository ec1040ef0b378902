"""Installed plugins that do not behave, and the variable that turns plugins off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

BACKEND = """
from rerank import Alias, Backend, Claim, Confidence, hookimpl
{first}
@hookimpl
def rerank_register_backends():
    yield Backend(name="{name}", summary="s", load=lambda model, options: None,
                  claim=lambda model: Claim(Confidence.NONE, "no"), {more})
"""


@pytest.fixture
def rerank(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, beside the distributions that lie in the test's folder."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rerank", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(tmp_path), **environment},
        )

    return run


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., None]:
    """Install a distribution with one plugin."""

    def write(name: str, *, first: str = "", more: str = "", entry_points: bytes | None = None) -> None:
        module = name.lower().replace("-", "_").replace(".", "_")
        (tmp_path / f"{module}.py").write_text(BACKEND.format(name=module, first=first, more=more), encoding="utf-8")
        metadata = tmp_path / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        content = f"[rerank]\n{name} = {module}\n".encode() if entry_points is None else entry_points
        (metadata / "entry_points.txt").write_bytes(content)

    return write


def statuses(listed: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert listed.returncode == 0, listed.stderr
    return {plugin["distribution"]: plugin["status"] for plugin in json.loads(listed.stdout)}


@pytest.mark.parametrize(
    "given", ["evil-plugin-x", "Evil_Plugin.X", "EVIL.PLUGIN.X", "other; evil-plugin-x", "ALL", "all"]
)
def test_names_are_compared_as_packaging_compares_them(
    rerank: Callable[..., subprocess.CompletedProcess[str]], install: Callable[..., None], given: str
) -> None:
    install("Evil_Plugin.X", first="raise RuntimeError('it ran')")
    listed = rerank("list-backends", "--json", RERANK_DISABLE_PLUGINS=given)
    assert statuses(listed)["Evil_Plugin.X"] == "disabled"
    assert ("'other', which no installed plugin" in listed.stderr) == ("other" in given)


def test_a_name_that_matches_nothing_is_warned_about(
    rerank: Callable[..., subprocess.CompletedProcess[str]], install: Callable[..., None]
) -> None:
    install("mine")
    listed = rerank("list-backends", "--json", RERANK_DISABLE_PLUGINS="mien")
    assert statuses(listed)["mine"] == "ok"
    assert "RERANK_DISABLE_PLUGINS names 'mien', which no installed plugin or distribution is called" in listed.stderr


def test_what_a_plugin_writes_to_the_descriptor_goes_to_standard_error(
    rerank: Callable[..., subprocess.CompletedProcess[str]], install: Callable[..., None]
) -> None:
    noise = "import os; os.write(1, b'native\\n'); print('python'); os.system('echo child')"
    install("noisy", first=noise)
    listed = rerank("list-backends", "--json")
    assert statuses(listed)["noisy"] == "ok"
    for said in ("native", "python", "child"):
        assert said in listed.stderr


def test_one_distribution_with_damaged_entry_points_is_left_out(
    rerank: Callable[..., subprocess.CompletedProcess[str]], install: Callable[..., None]
) -> None:
    install("good")
    install("damaged", entry_points=b"[rerank]\nx\xff = y\n")
    listed = rerank("list-backends", "--json", PYDANTIC_DISABLE_PLUGINS="1")  # pydantic fails at such a file itself
    assert statuses(listed)["good"] == "ok"
    assert "the entry points of damaged cannot be read" in listed.stderr


@pytest.mark.parametrize("error", ["GeneratorExit", "SystemExit", "RuntimeError"])
def test_notes_that_fail_are_shown_as_such(
    rerank: Callable[..., subprocess.CompletedProcess[str]], install: Callable[..., None], error: str
) -> None:
    install("noted", more=f"notes=lambda: (_ for _ in ()).throw({error}('broken'))")
    listed = rerank("list-backends")
    assert listed.returncode == 0
    assert f"its notes cannot be read: {error}: broken" in listed.stdout


def test_ten_thousand_names_make_no_long_error(
    rerank: Callable[..., subprocess.CompletedProcess[str]], install: Callable[..., None]
) -> None:
    aliases = 'aliases={f"a{n}": {f"l{m}": Alias("m") for m in range(10_000)} for n in range(3)}'
    install("many", more=aliases)
    for arguments in (["--model", "a1"], ["--model", "a9"], ["--backend", "a9"]):
        ran = rerank("rank", "q", "a", "b", *arguments)
        assert ran.returncode in (1, 2)
        assert len(ran.stderr) < 2000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_a_plugin_that_hangs_is_named_at_ctrl_c(tmp_path: Path, install: Callable[..., None]) -> None:
    install("slow", first="import time; print('started', flush=True); time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-m", "rerank", "list-backends"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "started\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "interrupted while the plugin slow of slow was at work" in said


@pytest.mark.parametrize("key", ["123456", "true", "[1]", "null"])
def test_a_key_is_text_whatever_it_looks_like(key: str) -> None:
    pytest.importorskip("rerank_api")
    from rerank.cli.source import read_options

    assert read_options([f"api_key={key}", "batch_size=3"]) == {"api_key": key, "batch_size": 3}
