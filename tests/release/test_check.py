"""The check before a release passes correct archives, and names each fault of the others."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from check import check

ROOT = Path(__file__).parents[2]
CHANGELOG = "# Changelog\n\n## 0.1.0 (unreleased)\n"


def make(
    folder: Path,
    name: str = "rerank_acme",
    version: str = "0.1.0",
    requires: str = "rerank-core<0.2,>=0.1",
    without: tuple[str, ...] = (),
    entry: str = "rerank_acme.backend",
) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{name}/backend.py": "",
        f"{name}/py.typed": "",
        f"{info}/licenses/LICENSE": "",
        f"{info}/licenses/NOTICE": "",
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n",
        f"{info}/entry_points.txt": f"[rerank]\nacme = {entry}\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            if not path.endswith(without or "\0"):
                wheel.writestr(path, text)
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as source:
        for path in ("LICENSE", "NOTICE", "pyproject.toml"):
            if not path.endswith(without or "\0"):
                source.addfile(tarfile.TarInfo(f"{name}-{version}/{path}"), io.BytesIO())


def test_what_is_right_passes(tmp_path: Path) -> None:
    make(tmp_path)
    assert check(tmp_path, CHANGELOG) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"version": "0.1.1"}, "CHANGELOG.md says nothing of 0.1.1"),
        ({"version": "0.1.1"}, "the versions 0.1.0, 0.1.1 differ"),
        ({"requires": "rerank-core"}, "requires 'rerank-core'"),
        ({"requires": "rerank-core[hub]>=0.1"}, "requires 'rerank-core[hub]>=0.1'"),
        ({"without": ("LICENSE",)}, "rerank_acme-0.1.0-py3-none-any.whl: has no LICENSE"),
        ({"without": ("NOTICE",)}, "rerank_acme-0.1.0.tar.gz has no NOTICE"),
        ({"without": ("py.typed",)}, "has no py.typed"),
        ({"entry": "rerank_acme.absent"}, "the entry point rerank_acme.absent leads nowhere"),
    ],
)
def test_each_mismatch_is_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    make(tmp_path, name="rerank_other", entry="rerank_other.backend")
    make(tmp_path, **wrong)
    assert any(message in problem for problem in check(tmp_path, CHANGELOG))


def test_a_wheel_without_its_source_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    next(tmp_path.glob("*.tar.gz")).unlink()
    assert check(tmp_path, CHANGELOG) == ["a wheel or source archive is missing of rerank_acme-0.1.0"]


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE"])
def test_every_distribution_has_the_licence_as_a_file(name: str) -> None:
    """A link would leave the source archive with nothing behind it."""
    for project in [ROOT / "core", *(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]:
        assert not (project / name).is_symlink(), project
        assert (project / name).read_bytes() == (ROOT / name).read_bytes(), project


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert "nox -s build" in check(tmp_path, CHANGELOG)[0]
