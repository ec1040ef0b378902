"""Every provider against the loopback server: the exact request, the parsed response, and the typed error."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from typing import Any

import pytest
from api_examples import EXAMPLES, KEY, QUERY, TEXTS, Example
from click.testing import CliRunner
from loopback import Hit, Loopback, Response

from rerank import AuthenticationError, BackendNotFoundError, InvalidOptionsError, ProviderError, Reranker
from rerank.cli import cli
from rerank_api.providers import OWN

each = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.id)


def reranker(example: Example, server: Loopback, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Reranker:
    if example.provider == "bedrock":
        pytest.importorskip("botocore")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    else:
        options["api_key"] = KEY
    url = server.url + (example.path if example.provider == "generic" else "")
    return Reranker(example.model, api_provider=example.provider, url=url, **{**example.options, **options})


def answering(response: Response) -> Any:
    def handler(hit: Hit) -> Response:
        return Response({"max_client_batch_size": 32}) if hit.method == "GET" else response

    return handler


def test_every_provider_has_an_example() -> None:
    assert {example.provider for example in EXAMPLES} == {provider.name for provider in OWN}


@each
def test_request_is_exact_and_answer_is_read(
    example: Example, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.handler = answering(Response(example.response))
    with reranker(example, server, monkeypatch) as model:
        results = model.rank(QUERY, TEXTS, top_k=2)
    hit = server.hits[-1]
    assert (hit.method, hit.path) == ("POST", example.path)
    assert hit.body == example.request
    assert hit.headers["content-type"] == "application/json"
    for name, value in example.headers.items():
        assert hit.headers[name].startswith(value)
    best = sorted((i for i, s in enumerate(example.scores) if s is not None), key=lambda i: -(example.scores[i] or 0))
    assert [(r.index, r.score) for r in results] == [(i, example.scores[i]) for i in best[:2]]
    assert results.scale == example.scale
    assert results.diagnostics["usage"] == example.usage
    assert results.diagnostics["provider"] == example.provider


@each
def test_async_is_the_same(example: Example, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    server.handler = answering(Response(example.response))

    async def both() -> Any:
        async with reranker(example, server, monkeypatch) as model:
            return await model.arank(QUERY, TEXTS, top_k=2), model.rank(QUERY, TEXTS, top_k=2)

    native, sync = asyncio.run(both())
    assert native.results == sync.results
    assert server.hits[-1].body == server.hits[-2].body == example.request


@each
def test_error_has_the_providers_own_message(
    example: Example, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, body, expected = example.error
    server.handler = answering(Response(body, status, {"x-request-id": "req-7"}))
    with reranker(example, server, monkeypatch, max_retries=0) as model:
        with pytest.raises(ProviderError, match=expected) as caught:
            model.rank(QUERY, TEXTS)
        assert sum(hit.method == "POST" for hit in server.hits) == 1
    assert (caught.value.provider, caught.value.status, caught.value.request_id) == (example.provider, status, "req-7")
    assert str(status) in str(caught.value)
    assert KEY not in str(caught.value)


@each
def test_refused_key_is_an_authentication_error(
    example: Example, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.handler = answering(Response({"message": f"no such key: {KEY}"}, 401))
    with reranker(example, server, monkeypatch) as model, pytest.raises(AuthenticationError) as caught:
        model.rank(QUERY, TEXTS)
    assert KEY not in repr(caught.value)
    assert sum(hit.method == "POST" for hit in server.hits) == 1


@pytest.mark.parametrize("provider", OWN, ids=lambda provider: provider.name)
def test_key_comes_from_the_providers_own_variables(
    provider: Any, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in provider.keys:
        with monkeypatch.context() as patched:
            patched.setenv(variable, KEY)
            options = {"project": "p"} if provider.name == "vertex" else {}
            server.handler = answering(Response({}, 403))
            asked = Reranker("m", api_provider=provider.name, url=server.url, **options)
            with asked as model, pytest.raises(AuthenticationError):
                model.rank(QUERY, TEXTS)
            assert any(KEY in value for value in server.hits[-1].headers.values())


def test_missing_key_names_the_variable() -> None:
    with pytest.raises(AuthenticationError, match="COHERE_API_KEY"):
        Reranker("cohere")


@pytest.mark.parametrize("name", ["tei", "vllm", "generic", "azure-cohere"])
def test_missing_address_is_reported(name: str) -> None:
    with pytest.raises(InvalidOptionsError, match="url="):
        Reranker(name, api_key="k-123456")


def test_short_names_have_models_by_language(server: Loopback) -> None:
    for lang, model in (("en", "Salesforce/Llama-Rank-V1"), ("fr", "mixedbread-ai/Mxbai-Rerank-Large-V2")):
        with Reranker("together", lang=lang, url=server.url) as reranker:
            assert reranker.model == model
            reranker.rank(QUERY, TEXTS)
            assert server.hits[-1].body["model"] == model


@pytest.mark.parametrize("provider", OWN, ids=lambda provider: provider.name)
def test_every_name_is_an_alias(provider: Any, monkeypatch: pytest.MonkeyPatch, server: Loopback) -> None:
    if provider.name == "bedrock":
        pytest.importorskip("botocore")
    own = {"vertex": {"project": "p", "api_key": "k-123456"}, "bedrock": {"region": "eu-west-1"}}
    options = own.get(provider.name, {"api_key": "k-123456"})
    for name in provider.names:
        for lang in ("en", "fr"):
            if lang in provider.models or "other" in provider.models or not provider.models or lang == "en":
                with Reranker(name, lang=lang, url=server.url, **options) as reranker:
                    assert reranker.backend == "api"
                    assert reranker.model == (
                        provider.models.get(lang) or provider.models.get("other") or provider.name
                    )


def test_a_servers_own_model_is_not_named(server: Loopback) -> None:
    with Reranker("vllm", url=server.url) as reranker:
        reranker.rank(QUERY, TEXTS)
    assert "model" not in server.hits[-1].body


def test_nvidia_hosts_models_at_their_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from rerank_api.address import endpoint
    from rerank_api.options import ApiOptions
    from rerank_api.providers import find

    hosted = endpoint(find("nvidia"), "nvidia/llama-3.2-nv-rerankqa-1b-v2", ApiOptions())
    assert hosted == "https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking"
    assert endpoint(find("nvidia"), "m", ApiOptions(url="http://h:8000")) == "http://h:8000/v1/ranking"
    assert (
        endpoint(find("bedrock"), "m", ApiOptions(region="eu-west-1"))
        == "https://bedrock-agent-runtime.eu-west-1.amazonaws.com/rerank"
    )
    assert endpoint(find("azure-cohere"), "m", ApiOptions(url="https://r/v1/rerank")) == "https://r/v1/rerank"
    urls = {p.name: endpoint(p, "m", ApiOptions()) for p in OWN if isinstance(p.url, str) and p.name != "vertex"}
    assert urls["jina"] == "https://api.jina.ai/v1/rerank"
    assert urls["cohere"] == "https://api.cohere.com/v2/rerank"
    assert urls["deepinfra"] == "https://api.deepinfra.com/v1/inference/m"
    assert urls["fireworks"] == "https://api.fireworks.ai/inference/v1/rerank"


@pytest.mark.parametrize("given", ["", "/", "/v1", "/v1/rerank", "/gateway/v1/", "/gateway/v1/rerank"])
def test_address_may_hold_part_of_the_path(given: str, server: Loopback) -> None:
    with Reranker("vllm", url=server.url + given) as reranker:
        reranker.rank(QUERY, TEXTS)
    assert server.hits[-1].path == ("/gateway/v1/rerank" if "gateway" in given else "/v1/rerank")


@pytest.mark.parametrize("path", ["/rank", "/rank/", "/"])
def test_an_address_without_a_path_of_the_provider_is_kept(path: str, server: Loopback) -> None:
    with Reranker("m", api_provider="generic", url=server.url + path) as reranker:
        reranker.rank(QUERY, TEXTS)
    assert server.hits[-1].path == path


@pytest.mark.parametrize("name", ["jinaai/jina-reranker-v2-base-multilingual", "cohere/rerank", "rerank-v3.5", "mxbai"])
def test_names_of_models_are_not_claimed(name: str) -> None:
    from rerank import Confidence, ModelRef
    from rerank_api.backend import claim

    confidence, reason = claim(ModelRef(name))
    assert confidence == Confidence.NONE
    assert "api_provider=" in reason


def test_explain_tells_of_short_names() -> None:
    shown = CliRunner().invoke(cli, ["explain", "cohere"]).output
    assert "'cohere' is short for it" in shown
    assert re.search(r"→ api +certain +the name of the provider cohere", shown)


def test_unknown_provider_lists_the_known() -> None:
    with pytest.raises(BackendNotFoundError, match="cohere"):
        Reranker("m", api_provider="nobody")


def test_foreign_options_are_refused(server: Loopback) -> None:
    with pytest.raises(InvalidOptionsError, match="instruction"):
        Reranker("jina", url=server.url, instruction="x")
    with Reranker("jina", url=server.url) as reranker, pytest.raises(InvalidOptionsError, match="raw_scores"):
        reranker.rank(QUERY, TEXTS, raw_scores=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"long_documents": "chunk"}, "whole documents"),
        ({"max_batch_tokens": 100}, "batch_size"),
        ({"url": "http://me:secret@host"}, "would show in logs"),
        ({"headers": {"X": " secret"}}, "white space"),
        ({"ca_file": "/no/such.pem", "url": "http://h"}, "PEM"),
        ({"dead_line": 3}, "deadline"),
    ],
)
def test_wrong_options_are_reported(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidOptionsError, match=expected) as caught:
        Reranker("tei", **options)
    assert "secret" not in str(caught.value)


def test_options_of_the_connection_are_fixed(server: Loopback) -> None:
    with Reranker("tei", url=server.url) as reranker:
        for name, value in {"url": "http://x", "api_key": "k", "headers": {}, "max_concurrency": 2}.items():
            with pytest.raises(InvalidOptionsError, match="fixed when the model loads"):
                reranker.rank(QUERY, TEXTS, **{name: value})


def test_vertex_uses_the_machines_credentials(server: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    if importlib.util.find_spec("google") is None or importlib.util.find_spec("google.auth") is None:
        with pytest.raises(AuthenticationError, match="rerank-api\\[vertex\\]"):
            Reranker("vertex", project="p")
        return
    import json

    file = tmp_path / "credentials.json"
    file.write_text(
        json.dumps({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"})
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    import google.oauth2.credentials as oauth

    monkeypatch.setattr(oauth, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", server.url + "/token")

    def handler(hit: Hit) -> Response:
        if hit.path == "/token":
            return Response({"access_token": "fresh-token", "expires_in": 3600, "token_type": "Bearer"})
        return Response({"records": [{"id": "0", "score": 0.5}]})

    server.handler = handler
    with Reranker("vertex", project="p", url=server.url) as reranker:
        assert reranker.score(QUERY, "x") == 0.5
        assert reranker.score(QUERY, "x") == 0.5
    assert [hit.path for hit in server.hits].count("/token") == 1
    assert server.hits[-1].headers["authorization"] == "Bearer fresh-token"


def test_vertex_needs_a_project() -> None:
    with pytest.raises(InvalidOptionsError, match="GOOGLE_CLOUD_PROJECT"):
        Reranker("vertex", api_key="token-123")


def test_bedrock_reads_every_page(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    example = next(example for example in EXAMPLES if example.provider == "bedrock")

    def handler(hit: Hit) -> Response:
        page = int(hit.body.get("nextToken", 0))
        more = {"nextToken": str(page + 1)} if page < 2 else {}
        return Response({"results": [{"index": page, "relevanceScore": 0.5}], **more})

    server.handler = handler
    with reranker(example, server, monkeypatch) as model:
        assert len(model.rank(QUERY, TEXTS)) == 3
    assert server.count == 3


def test_bedrock_takes_no_key(server: Loopback) -> None:
    with pytest.raises(InvalidOptionsError, match="leave api_key out"):
        Reranker("bedrock", region="us-west-2", url=server.url, api_key="k-123456")


def test_bedrocks_session_token_is_not_logged(
    server: Loopback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-a-session")
    example = next(example for example in EXAMPLES if example.provider == "bedrock")
    server.handler = answering(Response(example.response))
    with reranker(example, server, monkeypatch) as model:
        model.rank(QUERY, TEXTS, top_k=2)
    assert server.hits[-1].headers["x-amz-security-token"] == "token-of-a-session"
    assert "token-of-a-session" not in caplog.text


def test_a_provider_without_a_model_runs_its_default_of_the_language() -> None:
    for lang, model in (("en", "Salesforce/Llama-Rank-V1"), ("fr", "mixedbread-ai/Mxbai-Rerank-Large-V2")):
        with Reranker(api_provider="together", lang=lang, api_key="key-1234") as reranker:
            assert reranker.model == model
