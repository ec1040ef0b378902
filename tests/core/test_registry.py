"""Which backend runs a model: the surest claim, an error that names the candidates, and short names per language."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank import (
    Alias,
    AmbiguousModelError,
    Backend,
    BackendNotFoundError,
    Claim,
    Confidence,
    InvalidInputError,
    InvalidOptionsError,
    ModelLoadError,
    ModelRef,
    PluginError,
    Registry,
    Reranker,
)
from rerank.distributions import DISTRIBUTIONS
from rerank.resolution import explain, resolve
from rerank.testing.fake import FakeOptions, fake_backend, fake_registry

NONE, POSSIBLE, LIKELY, CERTAIN = Confidence


def claiming(name: str, confidence: Any, **fields: Any) -> Backend:
    """A backend that says the same of every model."""
    return fake_backend(name, claim=lambda model: Claim(confidence, f"{name} thinks so"), **fields)


def raising(name: str, error: BaseException) -> Backend:
    """A backend that cannot say."""

    def claim(model: ModelRef) -> Claim:
        raise error

    return fake_backend(name, claim=claim)


@pytest.mark.parametrize("claims", [(NONE, LIKELY, CERTAIN), (CERTAIN, LIKELY, POSSIBLE), (LIKELY, CERTAIN, LIKELY)])
def test_the_surest_claim_wins(claims: tuple[Confidence, ...]) -> None:
    registry = fake_registry(*(claiming(f"b{i}", claim) for i, claim in enumerate(claims)))
    assert resolve(registry, ModelRef("m")).name == f"b{claims.index(CERTAIN)}"


@pytest.mark.parametrize("level", [LIKELY, CERTAIN])
def test_a_tie_lists_the_candidates(level: Confidence) -> None:
    registry = fake_registry(claiming("one", level), claiming("none", NONE), claiming("two", level))
    with pytest.raises(AmbiguousModelError, match=r"'m' is claimed equally by one, two: pass one of them as backend="):
        Reranker("m", registry=registry)
    with Reranker("m", backend="two", registry=registry) as reranker:
        assert reranker.backend == "two"


def test_a_possible_claim_never_wins() -> None:
    registry = fake_registry(claiming("one", POSSIBLE), claiming("two", POSSIBLE), claiming("none", NONE))
    with pytest.raises(
        BackendNotFoundError,
        match=r"is not claimed by any backend, but one, two could try: pass backend= .*pip install",
    ):
        resolve(registry, ModelRef("m"))
    with Reranker("m", backend="one", registry=registry) as reranker:
        assert reranker.model == "m"


def test_a_miss_names_every_reason_and_what_to_install() -> None:
    registry = fake_registry(claiming("one", NONE), claiming("two", NONE))
    with pytest.raises(BackendNotFoundError) as caught:
        resolve(registry, ModelRef("m"))
    message = str(caught.value)
    assert "can run model 'm' (one: one thinks so; two: two thinks so): pip install" in message
    for distribution in set(DISTRIBUTIONS.values()):
        assert message.count(distribution) == 1


@pytest.mark.parametrize(
    ("config", "files", "step"),
    [
        (None, ("notes.txt",), "give a checkpoint that has config.json and weights"),
        (None, ("notes.txt", "model.safetensors"), "give a checkpoint"),
        ("BertModel", (), "give a checkpoint"),
        ("BertForSequenceClassification", ("model.safetensors",), "pip install rerank-crossencoder (cross-encoder)"),
        (
            "Qwen3ForCausalLM",
            ("model-00001-of-00002.safetensors",),
            "pip install rerank-llm (t5, llm-pointwise, llm-layerwise, llm-lightweight)",
        ),
        ("T5ForConditionalGeneration", ("pytorch_model.bin",), "pip install rerank-llm (t5, "),
        ("BertModel", ("model.safetensors",), "pip install rerank-colbert (colbert)"),
        ("HF_ColBERT", ("model.safetensors",), "pip install rerank-colbert (colbert)"),
        (None, ("onnx/model.ONNX",), "pip install rerank-onnx (onnx)"),
        (None, ("model.Q4_K_M.gguf",), "pip install rerank-llm (t5, "),
    ],
)
def test_a_folder_that_nobody_runs_is_advised_only_what_fits_its_files(
    tmp_path: Path, config: str | None, files: tuple[str, ...], step: str
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    if config:
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [config]}))
    with pytest.raises(BackendNotFoundError) as caught:
        Reranker(tmp_path, registry=fake_registry(claiming("one", NONE)))
    assert str(caught.value).partition("thinks so): ")[2].startswith(step)


def test_backends_with_the_same_reason_share_it() -> None:
    registry = fake_registry(*(fake_backend(name, claim=lambda ref: Claim(NONE, "no")) for name in ("one", "two")))
    with pytest.raises(BackendNotFoundError, match=r"\(one, two: no\)"):
        resolve(registry, ModelRef("m"))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("cohre", "cohere"),
        ("crossencoder", "cross-encoder"),
        ("Cross_Encoder", "cross-encoder"),
        ("COLBERT", "colbert"),
    ],
)
def test_a_near_miss_of_a_name_is_suggested(wrong: str, right: str) -> None:
    cohere = {"cohere": {"en": Alias("cohere")}}
    registry = fake_registry(fake_backend("far", claim=lambda ref: Claim(NONE, "no"), aliases=cohere))
    for build in (
        lambda: Reranker(wrong, registry=registry, local_files_only=True),
        lambda: Reranker("m", backend=wrong, registry=registry),
        lambda: Reranker("m", model_type=wrong, registry=registry),
    ):
        with pytest.raises(BackendNotFoundError, match=rf": did you mean '{right}'\?$"):
            build()


def test_a_miss_with_everything_installed_asks_for_the_name() -> None:
    registry = fake_registry(*(claiming(name, NONE) for name in DISTRIBUTIONS))
    with pytest.raises(BackendNotFoundError, match="check the model's name, or install a plugin that knows it"):
        resolve(registry, ModelRef("m"))


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(BackendNotFoundError, match="none is installed"):
        resolve(Registry(), ModelRef("m"))


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_an_absent_backend_of_ours_says_what_to_install(name: str) -> None:
    for build in (
        lambda: Reranker("m", backend=name, registry=fake_registry()),
        lambda: Reranker(name, registry=fake_registry()),
    ):
        with pytest.raises(BackendNotFoundError, match=f"called '{name}': pip install {DISTRIBUTIONS[name]}"):
            build()


def test_an_absent_backend_of_another_lists_what_there_is() -> None:
    with pytest.raises(BackendNotFoundError, match="called 'none': choose one of fake, or pip install"):
        Reranker("m", backend="none", registry=fake_registry())


def test_the_default_says_what_to_install() -> None:
    with pytest.raises(BackendNotFoundError, match="pip install rerank-nano"):
        Reranker(registry=fake_registry())


@pytest.mark.parametrize("error", [ValueError("boom"), KeyError("architectures"), RecursionError()])
def test_a_claim_that_raises_is_isolated(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    registry = fake_registry(raising("bad", error), claiming("good", LIKELY))
    with caplog.at_level(logging.WARNING, logger="rerank"):
        assert resolve(registry, ModelRef("m")).name == "good"
    assert "backend bad cannot decide whether it runs m" in caplog.text
    reasons = {claim.backend.name: claim.reason for claim in explain(registry, ModelRef("m"))}
    assert reasons["bad"].startswith(f"its claim raised {type(error).__name__}")


@pytest.mark.parametrize("claim", [None, 3, "certain", (9, "sure"), (1, 2, 3)])
def test_a_claim_that_is_none_is_isolated(claim: Any) -> None:
    registry = fake_registry(fake_backend("bad", claim=lambda model: claim), claiming("good", LIKELY))
    assert resolve(registry, ModelRef("m")).name == "good"


def test_files_that_cannot_be_read_are_reported_only_if_no_backend_knows_the_name(tmp_path: Path) -> None:
    unreadable = raising("reader", ModelLoadError("model 'o/m' is gated: accept its terms"))
    assert resolve(fake_registry(unreadable, claiming("namer", CERTAIN)), ModelRef("o/m")).name == "namer"
    for name in ("o/m", str(tmp_path)):
        with pytest.raises(ModelLoadError, match="gated"):
            resolve(fake_registry(unreadable, claiming("none", NONE)), ModelRef(name))
    with pytest.raises(BackendNotFoundError, match="reader: model 'o/m' is gated"):
        resolve(fake_registry(unreadable), ModelRef("m"))


def test_explain_has_every_claim_the_surest_first() -> None:
    registry = fake_registry(
        claiming("a", POSSIBLE), claiming("b", NONE), claiming("c", CERTAIN), claiming("d", LIKELY)
    )
    claims = explain(registry, ModelRef("m"))
    assert [(claim.backend.name, claim.confidence) for claim in claims] == [
        ("c", CERTAIN),
        ("d", LIKELY),
        ("a", POSSIBLE),
        ("b", NONE),
    ]
    assert claims[0].reason.startswith("c thinks so")
    assert [claim.backend.name for claim in explain(registry, ModelRef("m"), only=registry.find("b"))] == ["b"]


def test_names_decide_nothing_by_substring() -> None:
    registry = fake_registry(fake_backend("t5"), fake_backend("cohere"))
    for name in ("my-t5-model", "cohere-like", "t5/base", "T5"):
        with pytest.raises((BackendNotFoundError, ModelLoadError)):
            Reranker(name, registry=registry, local_files_only=True)


LANGUAGES = {
    "en": Alias("big-en", {"weight": 2.0}),
    "fr": Alias("big-fr"),
    "other": Alias("big-multi", {"weight": 3.0}),
}


@pytest.mark.parametrize(
    ("lang", "model", "weight"),
    [("en", "big-en", 2.0), ("fr", "big-fr", 1.0), ("other", "big-multi", 3.0), ("zh", "big-multi", 3.0)],
)
def test_a_short_name_by_language(lang: str, model: str, weight: float) -> None:
    registry = fake_registry(fake_backend("b", aliases={"short": LANGUAGES}))
    with Reranker("short", lang=lang, registry=registry) as reranker:
        assert (reranker.model, reranker.backend) == (model, "b")
        assert isinstance(reranker.options, FakeOptions)
        assert reranker.options.weight == weight


def test_the_callers_options_come_before_the_short_names() -> None:
    registry = fake_registry(fake_backend("b", aliases={"short": LANGUAGES}))
    assert Reranker("short", weight=9.0, registry=registry).options.weight == 9.0  # type: ignore[attr-defined]


def test_english_stands_in_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    registry = fake_registry(fake_backend("b", aliases={"short": {"en": Alias("big-en")}}))
    with caplog.at_level(logging.WARNING, logger="rerank"):
        assert Reranker("short", registry=registry).model == "big-en"
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING, logger="rerank"):
        assert Reranker("short", lang="zh", registry=registry).model == "big-en"
    assert "short has no model for lang='zh'; using the English one" in caplog.text


def test_a_language_that_nothing_stands_in_for() -> None:
    registry = fake_registry(fake_backend("b", aliases={"short": {"fr": Alias("f"), "de": Alias("d")}}))
    with pytest.raises(InvalidOptionsError, match=r"short has no model for lang='en': choose one of de, fr"):
        Reranker("short", registry=registry)


def test_a_backends_short_name_brings_its_defaults_to_any_model() -> None:
    registry = fake_registry(fake_backend("b", aliases={"rankgpt": {"en": Alias("gpt", {"weight": 5.0})}}))
    with Reranker("mine", backend="rankgpt", registry=registry) as reranker:
        assert (reranker.model, reranker.backend) == ("mine", "b")
        assert reranker.options.weight == 5.0  # type: ignore[attr-defined]


def test_the_seeds_names_of_a_backend_and_a_provider() -> None:
    seen: list[ModelRef] = []

    def load(model: ModelRef, options: object) -> Any:
        seen.append(model)
        return fake_registry().find("fake").load(model, options)

    services = claiming("services", CERTAIN, load=load, remote=True)
    registry = fake_registry(fake_backend("t5", load=load), claiming("greedy", CERTAIN), services)
    assert Reranker("unicamp-dl/InRanker-base", model_type="t5", registry=registry).backend == "t5"
    assert Reranker("my_model_name", api_provider="cohere", registry=registry).backend == "services"
    assert [(model.name, model.api_provider) for model in seen] == [
        ("unicamp-dl/InRanker-base", None),
        ("my_model_name", "cohere"),
    ]


def test_a_provider_without_a_remote_backend_says_what_to_install() -> None:
    with pytest.raises(BackendNotFoundError, match="which api_provider='cohere' needs: pip install rerank-api"):
        Reranker("m", api_provider="cohere", registry=fake_registry(claiming("greedy", CERTAIN)))


def test_a_providers_name_is_a_short_name_of_a_remote_backend() -> None:
    aliases = {"cohere": {"en": Alias("rerank-v3.5")}}
    registry = fake_registry(
        fake_backend("local", aliases={"other": {"en": Alias("x")}}),
        claiming("services", CERTAIN, remote=True, aliases=aliases),
    )
    assert Reranker(api_provider="cohere", registry=registry).model == "rerank-v3.5"
    assert Reranker("cohere", api_provider="cohere", registry=registry).model == "rerank-v3.5"
    assert Reranker("cohere", api_provider="jina", registry=registry).model == "cohere"
    assert Reranker("other", api_provider="jina", registry=registry).backend == "services"


def test_two_names_for_the_backend_must_agree() -> None:
    assert Reranker("m", backend="fake", model_type="fake", registry=fake_registry()).backend == "fake"
    with pytest.raises(InvalidOptionsError, match="backend='fake' and model_type='t5' differ"):
        Reranker("m", backend="fake", model_type="t5", registry=fake_registry())


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (fake_backend("fake"), "the name 'fake' of this program is taken by acme-fakes: rename or uninstall"),
        (fake_backend("other", aliases={"fake": {"en": Alias("x")}}), "the name 'fake' of this program is taken"),
        (fake_backend("short"), "the name 'short' of this program is taken by acme-fakes"),
        (fake_backend("new", protocol=2), "protocol 2, but this core uses 1: upgrade rerank-core"),
        (fake_backend("new", protocol=0), "protocol 0, but this core uses 1: upgrade the plugin"),
        ("new", "'new' is not a rerank.Backend"),
    ],
)
def test_a_backend_that_cannot_join(second: Any, message: str) -> None:
    registry = Registry()
    registry.register(fake_backend("fake", aliases={"short": {"en": Alias("x")}}), "acme-fakes")
    with pytest.raises(PluginError, match=message):
        registry.register(second)
    assert list(registry.backends) == ["fake"]


def test_a_backends_alias_of_its_own_name_is_no_clash() -> None:
    assert fake_registry(fake_backend("onnx", aliases={"onnx": {"en": Alias("x")}})).find("onnx").name == "onnx"


def test_the_local_folder_is_asked_for_its_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["FakeForRanking"]}', encoding="utf-8")

    def claim(model: ModelRef) -> Claim:
        mine = "FakeForRanking" in model.config.get("architectures", [])
        return Claim(CERTAIN if mine else NONE, "by architecture")

    registry = fake_registry(fake_backend("reads", claim=claim), claiming("guesses", LIKELY))
    assert resolve(registry, ModelRef(str(tmp_path))).name == "reads"
    with Reranker(tmp_path, registry=registry) as reranker:
        assert reranker.model == str(tmp_path)


def test_a_backend_certain_of_the_name_spares_the_others_the_files() -> None:
    asked: list[str] = []

    def reader(model: ModelRef) -> Claim:
        asked.append(type(model).__name__)
        return Claim(LIKELY if model.files else NONE, "by its files")

    def by_name(model: ModelRef) -> Claim:
        return Claim(CERTAIN if model.name == "some/model" else NONE, "by its name")

    registry = fake_registry(fake_backend("reader", claim=reader), fake_backend("namer", claim=by_name))
    assert resolve(registry, ModelRef("some/model", local_files_only=True)).name == "namer"
    assert asked == ["_UnreadModelRef"]


GREEDY: dict[str, Callable[[ModelRef], bool]] = {
    "everything": lambda model: True,
    "every folder": lambda model: model.is_local,
    "every configuration": lambda model: "config.json" in model.files,
    "every architecture": lambda model: bool(model.config.get("architectures")),
    "every path": lambda model: Path(model.name).exists(),
    "every file": lambda model: model.is_local and model.fetch("config.json").exists(),
    "every weight": lambda model: any(file.endswith(".safetensors") for file in model.files),
}


@pytest.mark.parametrize("level", [LIKELY, CERTAIN])
@pytest.mark.parametrize("kind", GREEDY)
def test_a_backend_that_claims_everything_loses_to_one_that_claims_by_its_files(
    tmp_path: Path, level: Any, kind: str
) -> None:
    (tmp_path / "own.bin").touch()
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text('{"architectures": ["Own"]}')

    def greedy(model: ModelRef) -> Claim:
        return Claim(CERTAIN if GREEDY[kind](model) else NONE, "it can run anything")

    def by_files(model: ModelRef) -> Claim:
        return Claim(level if "own.bin" in model.files else NONE, "own.bin")

    registry = fake_registry(fake_backend("greedy", claim=greedy), fake_backend("own", claim=by_files))
    assert resolve(registry, ModelRef(str(tmp_path))).name == "own"
    assert [claim.backend.name for claim in explain(registry, ModelRef(str(tmp_path)))] == ["own", "greedy"]
    (tmp_path / "own.bin").rename(tmp_path / "other.bin")
    assert resolve(registry, ModelRef(str(tmp_path))).name == "greedy"
    assert "as it claims every model, others come first" in explain(registry, ModelRef(str(tmp_path)))[0].reason


@pytest.mark.parametrize(
    "kind", [lambda name: "/" not in name, lambda name: "/" in name, lambda name: "rerank" in name]
)
def test_a_backend_that_claims_every_name_loses_to_one_that_claims_its_own(kind: Callable[[str], bool]) -> None:
    def greedy(model: ModelRef) -> Claim:
        return Claim(CERTAIN if kind(model.name) else NONE, "it can run anything")

    for name in ("own-reranker", "own/reranker"):
        registry = fake_registry(fake_backend("greedy", claim=greedy), fake_backend(name))
        assert resolve(registry, ModelRef(name)).name == name


def test_without_a_model_a_backend_runs_its_own_default() -> None:
    registry = fake_registry(fake_backend("fake", aliases={"fake": {"en": Alias("fake")}}), fake_backend("nano"))
    assert Reranker(registry=registry).backend == "nano"
    assert Reranker(backend="fake", registry=registry).backend == "fake"


def test_a_model_of_another_type_is_named() -> None:
    with pytest.raises(InvalidInputError, match="model is of type int"):
        Reranker(123, registry=fake_registry())  # type: ignore[arg-type]


def test_a_name_of_an_absent_backend_says_what_to_install() -> None:
    with pytest.raises(BackendNotFoundError, match=r"rerank-crossencoder \(cross-encoder\)"):
        Reranker("some/model", model_type="rankgpt", registry=fake_registry())


@pytest.mark.parametrize(
    "fields",
    [{"name": None}, {"summary": None}, {"options": dict}, {"aliases": {"a": {"en": "model"}}}, {"aliases": ["a"]}],
)
def test_a_malformed_backend_is_refused_when_it_registers(fields: dict[str, Any]) -> None:
    with pytest.raises(PluginError):
        Registry().register(fake_backend(**{"name": "fake", **fields}))
