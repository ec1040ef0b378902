"""Providers of other plugins are found through the hook, and a broken one stops nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from api_ranking import ranked
from loopback import Hit, Loopback, Response

from rerank_api import hookspecs

CODE = re.findall(r"```python\n(.*?)```", hookspecs.__doc__ or "", re.DOTALL)[0]
"""The plugin that the hook's own documentation shows."""
BROKEN = (
    "from rerank import hookimpl\n\n@hookimpl\ndef rerank_register_providers():\n    raise RuntimeError('no luck')\n"
)
TAKEN = CODE.replace('name="acme"', 'name="cohere"')
NO_PROVIDER = "from rerank import hookimpl\n\n@hookimpl\ndef rerank_register_providers():\n    return ['acme']\n"
MISSPELT = CODE.replace("def rerank_register_providers", "def rerank_register_provider")


def install(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[rerank]\n{name} = {name}\n")


def python(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, *(["-c", code] if code else []), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)


def test_a_plugin_adds_a_provider(server: Loopback, tmp_path: Path) -> None:
    def handler(hit: Hit) -> Response:
        pairs = ranked(hit.body["query"], hit.body["texts"], hit.body["limit"])
        return Response({"hits": [{"position": i, "relevance": s} for i, s in pairs], "usage": {"units": 2}})

    server.handler = handler
    install(tmp_path, "acme_rerank", CODE)
    code = (
        "from rerank import Reranker\n"
        f"for arguments in ({{'model': 'acme'}}, {{'model': 'm7', 'api_provider': 'acme'}}):\n"
        f"    with Reranker(url={server.url!r}, **arguments) as reranker:\n"
        "        results = reranker.rank('q', ['a', 'b', 'c'], top_k=2)\n"
        "        print(reranker.backend, len(results), results.diagnostics['usage'])\n"
    )
    done = python(tmp_path, code)
    assert (done.stdout, done.stderr) == ("api 2 {'units': 2}\n" * 2, "")
    assert [hit.body["model"] for hit in server.hits] == ["acme-rerank-1", "m7"]
    assert {hit.path for hit in server.hits} == {"/v1/rerank"}


def test_it_is_listed(tmp_path: Path) -> None:
    install(tmp_path, "acme_rerank", CODE)
    shown = python(tmp_path, "", "-m", "rerank", "list-backends", "--notes").stdout
    assert "acme: Acme's reranker; no key: set ACME_API_KEY" in shown


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (BROKEN, "no luck"),
        (TAKEN, "the provider 'cohere' of broken_rerank is taken by rerank-api: rename or uninstall one of the two"),
        (NO_PROVIDER, "yield Provider"),
        (MISSPELT, "there is no hook 'rerank_register_provider': did you mean 'rerank_register_providers'?"),
    ],
)
def test_a_broken_one_is_a_row_and_stops_nothing(tmp_path: Path, code: str, message: str) -> None:
    install(tmp_path, "acme_rerank", CODE)
    install(tmp_path, "broken_rerank", code)
    shown = python(tmp_path, "", "-m", "rerank", "list-backends", "--notes").stdout
    row = next(line for line in shown.splitlines() if line.startswith("(broken_rerank)"))
    assert "failed" in row
    assert message in row
    assert "acme: Acme's reranker" in shown
    assert "cohere: Cohere Rerank" in shown


@pytest.mark.parametrize("disabled", ["rerank-api", "api"])
def test_without_this_distribution_a_provider_is_not_called_misspelt(
    tmp_path: Path, disabled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "acme_rerank", CODE)
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", disabled)
    shown = python(tmp_path, "", "-m", "rerank", "list-backends", "--notes").stdout
    row = next(line for line in shown.splitlines() if line.startswith("(acme_rerank)"))
    assert "warning" in row
    assert "its hook 'rerank_register_providers' is never called: enable or fix rerank-api (disabled)" in row


def test_listing_and_describing_import_nothing_heavy() -> None:
    code = (
        "import sys, rerank.cli\n"
        "rerank.cli._run(['list-backends'])\n"
        "print([name for name in ('httpx', 'cohere', 'tenacity', 'botocore', 'google.auth') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "RERANK_DISABLE_PLUGINS": "onnx,nano"},
    )
    assert done.stdout.endswith("[]\n")


def test_every_hook_is_documented() -> None:
    hooks = [value for name, value in vars(hookspecs).items() if name.startswith("rerank_register_")]
    assert [hook.__name__ for hook in hooks] == ["rerank_register_providers"]
    assert all("Called once" in (hook.__doc__ or "") for hook in hooks)
