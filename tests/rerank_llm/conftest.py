"""Small language models on disk, each built once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_plugins import Site

from rerank import registry as registries

sys.path.append(str(Path(__file__).parent))  # where language_models.py lies

from language_models import save_causal, save_t5


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds a causal model once per family."""
    made: dict[str, Path] = {}

    def build(family: str = "qwen2") -> Path:
        if family not in made:
            made[family] = save_causal(tmp_path_factory.mktemp(family), family)
        return made[family]

    return build


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small T5 with tied embeddings."""
    return save_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A folder for plugins of the test's own, beside the installed ones; discovery starts anew before and after."""
    place = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(place.folder))
    registries._discovered.cache_clear()
    yield place
    registries._discovered.cache_clear()
    place.forget()


@pytest.fixture(autouse=True)
def forget_recipes() -> Iterator[None]:
    """Recipes of one test's plugins are not those of the next."""
    yield
    from rerank_llm.recipes import known

    known.cache_clear()
