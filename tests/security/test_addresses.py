"""Nothing that becomes part of an address leads a request, and the key with it, to another machine or path."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from rerank import InvalidOptionsError, Reranker

pytest.importorskip("rerank_api")

from rerank_api.address import endpoint
from rerank_api.options import ApiOptions
from rerank_api.providers import OWN, find

HOSTILE = [
    "x@evil.example/",
    "evil.example/#",
    "evil.example#",
    "evil.example?",
    "evil.example\\",
    "../../admin",
    "a/../../b",
    "..",
    ".",
    "a//b",
    "/etc",
    "%2e%2e/x",
    "a b",
    "a\nHost: evil.example",
    "a\tb",
    "ａ/b",
    "a:80@evil.example/",
    "",
]
HOSTED = [provider for provider in OWN if provider.url is not None]


def own_address(provider: Any) -> str:
    return endpoint(provider, "model", ApiOptions(region="us-east-1", project="project"))


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("option", ["region", "project", "location", "model"])
@pytest.mark.parametrize("provider", HOSTED, ids=lambda provider: provider.name)
def test_the_host_and_the_path_stay_the_providers(
    provider: Any, option: str, value: str, monkeypatch: pytest.MonkeyPatch, no_keys: None
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    usual = urlsplit(own_address(provider))
    given = {"region": "us-east-1", "project": "project", **({} if option == "model" else {option: value})}
    try:
        found = urlsplit(endpoint(provider, value if option == "model" else "model", ApiOptions(**given)))
    except InvalidOptionsError:
        return
    assert (found.scheme, found.netloc) == (usual.scheme, usual.netloc)
    assert (found.path, found.query, found.fragment) == (usual.path, usual.query, usual.fragment)


@pytest.mark.parametrize("value", HOSTILE[:-1])
@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_a_region_of_the_environment(variable: str, value: str, monkeypatch: pytest.MonkeyPatch, no_keys: None) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidOptionsError, match="not an AWS region"):
        endpoint(find("bedrock"), "model", ApiOptions())


@pytest.mark.parametrize("value", HOSTILE[:-1])
def test_a_region_of_an_arn(value: str, no_keys: None) -> None:
    with pytest.raises(InvalidOptionsError, match="AWS region"):
        endpoint(find("bedrock"), f"arn:aws:bedrock:{value}::foundation-model/x", ApiOptions())


@pytest.mark.parametrize("value", HOSTILE[:-1])
def test_a_project_of_the_environment(value: str, monkeypatch: pytest.MonkeyPatch, no_keys: None) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", value)
    with pytest.raises(InvalidOptionsError, match="project"):
        endpoint(find("vertex"), "model", ApiOptions())


@pytest.mark.parametrize(
    ("provider", "options", "path"),
    [
        (
            "vertex",
            {"project": "example.com:my-project-1", "location": "europe-west4"},
            "/europe-west4/rankingConfigs/",
        ),
        ("vertex", {"project": "123456789012"}, "/projects/123456789012/locations/global/"),
        ("deepinfra", {}, "/v1/inference/Qwen/Qwen3-Reranker-0.6B"),
        ("nvidia", {}, "/v1/retrieval/Qwen/Qwen3-Reranker-0_6B/reranking"),
    ],
)
def test_usual_names_stay_as_they_are(provider: str, options: dict[str, str], path: str) -> None:
    assert path in endpoint(find(provider), "Qwen/Qwen3-Reranker-0.6B", ApiOptions(**options))


@pytest.mark.parametrize(
    "url",
    ["http://good.example@evil.example", "http://u:p@h", "http://h:0", "http://h:PASSWORD", "http://a b", "ftp://h"],
)
def test_addresses_that_are_refused(url: str, no_keys: None) -> None:
    with pytest.raises(InvalidOptionsError) as caught:
        Reranker("jina", url=url, api_key="sk-3141592653589793")
    assert "PASSWORD" not in str(caught.value)


# litellm, which builds its addresses itself


@pytest.mark.parametrize("value", ["x@host/", "host/#", "evil.example?", "../x", "a\\b"])
@pytest.mark.parametrize("name", ["aws_region_name", "vertex_location", "vertex_project", "region_name"])
def test_what_litellm_puts_into_addresses(name: str, value: str) -> None:
    service = pytest.importorskip("rerank_llm.generators.litellm_service")
    with pytest.raises(InvalidOptionsError, match=name):
        service.check_addresses("bedrock/model", {name: value})


@pytest.mark.parametrize(
    "model", ["bedrock/../x", "azure/x?y", "gemini/x#y", "bedrock/arn:aws:bedrock:evil.example/:1:m/x"]
)
def test_models_that_litellm_would_put_into_addresses(model: str) -> None:
    service = pytest.importorskip("rerank_llm.generators.litellm_service")
    with pytest.raises(InvalidOptionsError, match="address"):
        service.check_addresses(model, {})


def test_litellms_usual_names(monkeypatch: pytest.MonkeyPatch) -> None:
    service = pytest.importorskip("rerank_llm.generators.litellm_service")
    for model in (
        "groq/llama-3.1-8b-instant",
        "vertex_ai/claude-3-5@20240620",
        "bedrock/arn:aws:bedrock:eu-west-1:1:m/x:0",
    ):
        service.check_addresses(model, {"aws_region_name": "us-gov-west-1", "vertex_project": "a.com:b-1"})
    monkeypatch.setenv("AWS_REGION", "x@host/")
    with pytest.raises(InvalidOptionsError, match="AWS_REGION"):
        service.check_addresses("bedrock/model", {})
