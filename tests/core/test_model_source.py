"""The arguments that say where a model comes from: one list, for whoever asks for them."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rerank import InvalidInputError, InvalidOptionsError, ModelLoadError, ModelRef, ModelSource, Reranker
from rerank.model_source import SOURCE_ARGUMENTS
from rerank.testing.fake import fake_registry


def test_the_facade_takes_each_with_its_default() -> None:
    parameters = inspect.signature(Reranker).parameters
    others = {"model", "registry", "options"}
    assert {name: p.default for name, p in parameters.items() if name not in others} == {
        argument.name: argument.default for argument in fields(ModelSource)
    }


@pytest.mark.parametrize("argument", fields(ModelSource), ids=lambda argument: argument.name)
def test_the_facade_and_the_command_describe_each_in_the_same_words(argument: Any) -> None:
    documented = re.search(rf"^    {argument.name}: (.+)$", inspect.cleandoc(Reranker.__doc__ or ""), re.MULTILINE)
    assert documented is not None
    assert documented[1].replace("`", "") == argument.metadata["help"]


@pytest.mark.parametrize("name", SOURCE_ARGUMENTS)
def test_no_call_can_change_one(name: str) -> None:
    reranker = Reranker("fake", registry=fake_registry())
    with pytest.raises(InvalidOptionsError, match=rf"'{name}' is fixed when the model loads: build another"):
        reranker.rank("q", ["a"], **{name: "x"})


def test_a_near_miss_is_named() -> None:
    for wrong, right in (("revison", "revision"), ("api_provder", "api_provider"), ("model_typ", "model_type")):
        with pytest.raises(InvalidOptionsError, match=f"'{wrong}' is unknown, did you mean '{right}'"):
            Reranker("fake", registry=fake_registry(), **{wrong: "x"})


@pytest.mark.parametrize("name", [name for name in SOURCE_ARGUMENTS if name != "local_files_only"])
def test_a_wrong_type_is_named(name: str) -> None:
    for build in (lambda **given: Reranker("fake", registry=fake_registry(), **given), ModelSource):
        with pytest.raises(InvalidInputError, match=f"{name} is of type int: give a"):
            build(**{name: 3})


def test_a_folder_may_be_a_path(tmp_path: Path) -> None:
    with Reranker("fake", registry=fake_registry(), cache_dir=tmp_path) as reranker:
        assert reranker._session.model.cache_dir == str(tmp_path)


def test_a_model_carries_where_it_comes_from_and_shows_no_token() -> None:
    model = ModelRef("owner/model", revision="v2", token="hf_secret", lang="fr")
    assert isinstance(model, ModelSource)
    assert (model.revision, model.token, model.lang) == ("v2", "hf_secret", "fr")
    assert "hf_secret" not in repr(model) + repr(ModelSource(token="hf_secret"))


@pytest.mark.parametrize(
    ("place", "hub_name", "matches"),
    [
        ("acme/ranker-1b", "acme/ranker-1b", True),
        ("other/ranker-1b", "other/ranker-1b", False),
        ("ranker-1b", "ranker-1b", False),
        ("FOLDER/ranker-1b", "ranker-1b", True),
        ("FOLDER/ranker", "ranker", False),
        ("FOLDER/models--acme--ranker-1b/snapshots/0123", "acme/ranker-1b", True),
        ("FOLDER/models--other--ranker-1b/snapshots/0123", "other/ranker-1b", False),
        ("FOLDER/models--ranker-1b/snapshots/0123", "ranker-1b", False),
    ],
)
def test_a_model_is_known_by_its_name_on_the_hub(place: str, hub_name: str, matches: bool, tmp_path: Path) -> None:
    if place.startswith("FOLDER"):
        place = place.replace("FOLDER", str(tmp_path))
        Path(place).mkdir(parents=True)
    model = ModelRef(place)
    assert model.hub_name == hub_name
    assert model.is_one_of(["acme/ranker-1b"]) is matches
    assert model.is_one_of(["acme/ranker-*", "unknown/*"]) is matches
    assert not model.is_one_of([])


@pytest.mark.parametrize(
    "suffix",
    ["", ".Q4_K_M", "-Q8_0", ".q5_1", "-IQ2_XXS", "-UD-Q4_K_XL", ".f16", "-BF16", "-MXFP4", "-Q6_K-00001-of-00003"],
)
def test_a_gguf_file_is_known_by_its_name_without_its_quantisation(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"ranker-1b{suffix}.gguf"
    model = ModelRef(str(file))
    assert model.gguf_file is None
    file.touch()
    assert model.gguf_file == file
    assert not model.is_local
    assert model.hub_name == "ranker-1b"
    assert model.is_one_of(["acme/ranker-*"])
    with pytest.raises(ModelLoadError, match="is a file, which only backend='llm-listwise'"):
        _ = model.files
