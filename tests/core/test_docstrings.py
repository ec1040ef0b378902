"""Every public docstring says what the name is, what it takes and what it raises."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

import rerank

VALUES = {"PROTOCOL", "Reload", "ScoreScale", "hookimpl"}
"""Public names that are neither classes nor functions: documented in the source, by the string below them."""

OURS = {name: getattr(rerank, name) for name in rerank.__all__ if name not in VALUES}


def members() -> Iterator[tuple[str, Any]]:
    """Public functions, classes and their own public methods."""
    for name, thing in OURS.items():
        yield name, thing
        if inspect.isclass(thing):
            for attribute, value in vars(thing).items():
                function = value.fget if isinstance(value, property) else getattr(value, "func", value)
                if not attribute.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{attribute}", function


MEMBERS = dict(members())


def test_all_is_sorted_and_there() -> None:
    plain = list(rerank.__all__)
    assert len(plain) == len(set(plain))
    assert all(hasattr(rerank, name) for name in plain)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_docstring(name: str) -> None:
    docstring = inspect.cleandoc(MEMBERS[name].__doc__ or "")
    assert docstring, f"{name} has none"
    assert docstring[0].isupper() or docstring[0] in "`([" or docstring[0].isdigit(), f"{name}: {docstring!r:.60}"
    assert re.search(r"[.:](\n|$)", docstring), f"{name} has no sentence"


@pytest.mark.parametrize("name", [name for name in MEMBERS if inspect.isfunction(MEMBERS[name])])
def test_arguments_and_errors_are_documented(name: str) -> None:
    function = MEMBERS[name]
    docstring = inspect.cleandoc(function.__doc__ or "")
    section = docstring.split("Args:", 1)[1] if "Args:" in docstring else ""
    parameters = [p for p in inspect.signature(function).parameters if p != "self"]
    if section:
        missing = [p for p in parameters if not re.search(rf"^    {p}: ", section, re.MULTILINE)]
        assert not missing, f"{name} leaves out {missing}"
    documented = re.findall(r"^    (\w+): ", section.split("Returns:")[0].split("Raises:")[0], re.MULTILINE)
    assert set(documented) <= set(parameters), f"{name} documents arguments that it does not have"
    raised = {
        node.exc.func.id
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    }
    for error in sorted(raised & set(rerank.__all__)):
        assert "Raises:" in docstring, f"{name} raises {error} and does not say so"
        assert error in docstring.split("Raises:")[1], f"{name} raises {error} and does not say so"


@pytest.mark.parametrize("name", [name for name in OURS if inspect.isclass(OURS[name])])
def test_the_arguments_of_a_class_are_documented(name: str) -> None:
    docstring = inspect.cleandoc(OURS[name].__doc__ or "")
    if "Args:" not in docstring:
        return
    section = docstring.split("Args:", 1)[1].split("Raises:")[0]
    documented = set(re.findall(r"^    (\w+): ", section, re.MULTILINE))
    signature = set(inspect.signature(OURS[name]).parameters) - {"self", "args", "kwargs"}
    assert documented == signature


@pytest.mark.parametrize("name", sorted(VALUES - {"hookimpl"}))
def test_a_value_is_documented_below_it(name: str) -> None:
    sources = [
        inspect.getsource(importlib.import_module(module.name))
        for module in pkgutil.iter_modules(rerank.__path__, "rerank.")
        if not module.ispkg and module.name != "rerank.__main__"
    ]
    assert any(re.search(rf'^{name}(: [^=\n]+)? = .*\n(\)\n)?"""', source, re.MULTILINE) for source in sources)


def test_every_module_says_what_it_is() -> None:
    for module in pkgutil.walk_packages(rerank.__path__, "rerank."):
        if module.name != "rerank.__main__":
            assert importlib.import_module(module.name).__doc__, module.name


def test_every_error_stands_in_the_tree() -> None:
    from rerank import errors

    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.RerankError)
    }
    assert set(kinds) <= set(rerank.__all__)
    tree = [line for line in (errors.__doc__ or "").splitlines() if re.search(r"\w+Error", line)]
    depth = {re.search(r"\w+Error", line)[0]: re.search(r"\w+Error", line).start() // 4 for line in tree}  # type: ignore[index, union-attr]
    for name, kind in kinds.items():
        ancestors = [base for base in kind.__mro__ if base in kinds.values()]
        assert depth[name] == len(ancestors) - 1, name
