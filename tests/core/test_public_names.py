"""The contract kit and the plugins use core as a third party would: by its public names alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import rerank

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "src" / "rerank"
MODULES = {
    "rerank",
    "rerank.cli.inputs",
    "rerank.cli.source",
    "rerank.errors",
    "rerank.hookspecs",
    "rerank.options",
    "rerank.protocols",
    "rerank.results",
    "rerank.testing",
    "rerank.testing.contract",
    "rerank.testing.fake",
}
"""Those that docs/stability.md lists."""
WHOLE = {
    "rerank.cli.inputs",
    "rerank.cli.source",
    "rerank.hookspecs",
    "rerank.protocols",
    "rerank.testing.contract",
    "rerank.testing.fake",
}
"""Those with public names of their own, beside what `rerank` exports."""

SOURCES = sorted([*CORE.glob("testing/*.py"), *ROOT.glob("plugins/*/src/**/*.py"), *ROOT.glob("templates/**/*.py")])


def parse(path: Path) -> ast.Module:
    """A module's syntax tree; a template's placeholders become names."""
    code = path.read_text(encoding="utf-8")
    return ast.parse(re.sub(r"{{.*?}}", "placeholder", code) if "templates" in path.parts else code)


def imports_of_core(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """Every module of core that is imported, with the name taken from it, if any."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "rerank")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rerank":
            yield from ((node.module or "", alias.name) for alias in node.names)


def is_public(module: str, name: str | None) -> bool:
    if name is not None and f"{module}.{name}" in MODULES:
        return True
    return module in MODULES and (
        name is None or name in rerank.__all__ or (module in WHOLE and not name.startswith("_"))
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_public_names_of_core_are_imported(path: Path) -> None:
    assert [found for found in imports_of_core(parse(path)) if not is_public(*found)] == []


@pytest.mark.parametrize("path", sorted(CORE.glob("testing/*.py")), ids=lambda path: path.name)
def test_the_kit_reaches_into_nothing(path: Path) -> None:
    reached = [
        node.attr
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute)
        and re.match(r"_(?!_)", node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert reached == []


def test_the_public_modules_are_those_of_the_documentation() -> None:
    documented = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    assert MODULES - {"rerank"} <= set(re.findall(r"`(rerank(?:\.\w+)+)`", documented))
