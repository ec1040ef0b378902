"""Any of a server's own routes is an address; limits split requests; Bedrock's region comes from where it is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from api_ranking import rerank
from loopback import Hit, Loopback, Response

from rerank import InvalidOptionsError, ProviderError, Reranker
from rerank_api.address import endpoint
from rerank_api.options import ApiOptions
from rerank_api.provider import Question
from rerank_api.providers import find
from rerank_api.providers.bedrock import region, request


@pytest.fixture
def server() -> Iterator[Loopback]:
    loopback = Loopback(lambda hit: Response({}))
    yield loopback
    loopback.close()


@pytest.mark.parametrize(
    "path",
    [
        "/rerank",
        "/reranking",
        "/v1/rerank",
        "/v1/reranking",
        "/v2/rerank",
        "/api/v3/rerank/",
        "/compatible-api/v1/reranks",
    ],
)
@pytest.mark.parametrize("provider", ["jina", "cohere", "llama.cpp", "infinity", "vllm", "tei", "dashscope"])
def test_a_servers_own_route_is_the_whole_address(provider: str, path: str) -> None:
    url = f"http://h.example:8080{path}?version=1"
    assert endpoint(find(provider), "m", ApiOptions(url=url)) == url


@pytest.mark.parametrize(
    ("provider", "url", "expected"),
    [
        ("jina", "http://h.example", "http://h.example/v1/rerank"),
        ("jina", "http://h.example/v1", "http://h.example/v1/rerank"),
        ("cohere", "http://h.example/", "http://h.example/v2/rerank"),
        ("tei", "http://h.example/models/bge", "http://h.example/models/bge/rerank"),
        ("dashscope", "https://h.example/compatible-mode/v1", "https://h.example/compatible-api/v1/reranks"),
        ("dashscope", "https://h.example/compatible-api/v1", "https://h.example/compatible-api/v1/reranks"),
        ("dashscope", "https://h.example/api/v1", "https://h.example/api/v1/services/rerank/text-rerank/text-rerank"),
    ],
)
def test_a_server_alone_gets_the_providers_path(provider: str, url: str, expected: str) -> None:
    assert endpoint(find(provider), "m", ApiOptions(url=url)) == expected


@pytest.mark.parametrize("provider", ["cohere", "jina"])
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", "{}"),
        ("/", "{}"),
        ("/rerank", "/rerank"),
        ("/v1/rerank", "/v1/rerank"),
        ("/v2/rerank/", "/v2/rerank/"),
        ("/v2/rerank?x=1", "/v2/rerank?x=1"),
        ("/?x=1", "{}?x=1"),
        ("?key=1", "{}?key=1"),
        ("/gateway?x=1&y=%2F", "/gateway{}?x=1&y=%2F"),
    ],
)
def test_the_address_is_asked_as_it_stands(server: Loopback, provider: str, path: str, asked: str) -> None:
    server.handler = rerank
    with Reranker(provider, url=server.url + path, api_key="key-1234", max_retries=0) as reranker:
        assert len(reranker.rank("q", ["a", "b"])) == 2
    assert [hit.path for hit in server.hits] == [asked.format("/v2/rerank" if provider == "cohere" else "/v1/rerank")]


@pytest.mark.parametrize("path", ["/api/v1", "/api/v1/services/rerank/text-rerank/text-rerank"])
def test_dashscopes_native_api_gets_its_own_body(server: Loopback, path: str) -> None:
    server.handler = lambda hit: Response(
        {"output": {"results": [{"index": 1, "relevance_score": 0.9}]}, "usage": {"total_tokens": 7}}
    )
    with Reranker("dashscope", url=server.url + path, api_key="key-1234") as reranker:
        results = reranker.rank("q", ["a", "b"], top_k=1, instruction="i")
    assert [(result.text, result.score) for result in results] == [("b", 0.9)]
    assert results.diagnostics["usage"] == {"total_tokens": 7}
    assert server.hits[0].path == "/api/v1/services/rerank/text-rerank/text-rerank"
    assert server.hits[0].body == {
        "model": "qwen3-rerank",
        "input": {"query": "q", "documents": ["a", "b"]},
        "parameters": {"top_n": 1, "return_documents": False, "instruct": "i"},
    }


def test_null_results_are_called_null(server: Loopback) -> None:
    server.handler = lambda hit: Response({"results": None})
    with (
        Reranker("jina", url=server.url, api_key="key-1234") as reranker,
        pytest.raises(ProviderError, match="its answer has null in 'results'"),
    ):
        reranker.rank("q", ["a"])


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("http://[bad", r"http://\[bad"),
        ("javascript:1", "javascript:1"),
        ("http://h:abc/", "http://h:abc/"),
        ("http://user:SECRET@other/x?key=SECRET#SECRET", "http://other/x"),
        ("//user:SECRET@[bad", r"//\[bad"),
        ("/elsewhere", "/elsewhere"),
    ],
)
@pytest.mark.parametrize("provider", ["cohere", "jina"])
def test_a_redirect_names_any_target_without_secrets(server: Loopback, provider: str, target: str, named: str) -> None:
    server.handler = lambda hit: Response("", 307, {"location": target})
    with (
        Reranker(provider, url=server.url, api_key="key-1234", backoff=0.01) as reranker,
        pytest.raises(ProviderError, match=rf"redirecting to {named}: redirects are not followed") as caught,
    ):
        reranker.rank("q", ["a"])
    assert "SECRET" not in str(caught.value)
    assert len(server.hits) == 1


@pytest.mark.parametrize(
    "url",
    ["http://☃.net", "http://xn--", "http://256.1.1.1", "http://[v1.x]", "http://h/" + "a" * 70_000, "http://a..b"],
    ids=lambda url: url[:20],
)
@pytest.mark.parametrize("provider", ["cohere", "jina", "tei"])
def test_an_address_that_cannot_be_asked_is_refused_at_construction(provider: str, url: str) -> None:
    with pytest.raises(InvalidOptionsError, match=r"url .* cannot be asked|an address must") as caught:
        Reranker(provider, url=url, api_key=None)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("file", ["\0", "~nobody-of-this-name/x"])
@pytest.mark.parametrize("option", ["ca_file", "cache"])
def test_a_path_that_cannot_be_one_is_refused_at_construction(option: str, file: str) -> None:
    with pytest.raises(InvalidOptionsError, match=option):
        Reranker("tei", url="http://h.example", **{option: file})


def test_a_route_that_is_absent_is_named(server: Loopback) -> None:
    server.handler = lambda hit: Response({"message": "no such route"}, 404)
    with (
        Reranker("jina", url=f"{server.url}/v3/rerank", api_key="key-1234", max_retries=0) as reranker,
        pytest.raises(ProviderError, match=rf"404 \(no such route\) at {server.url}/v3/rerank"),
    ):
        reranker.rank("q", ["a"])
    assert [hit.path for hit in server.hits] == ["/v3/rerank"]


@pytest.mark.parametrize(
    ("provider", "model", "most"),
    [
        ("infinity", "m", 2048),
        ("pinecone", "bge-reranker-v2-m3", 100),
        ("pinecone", "cohere-rerank-3.5", 200),
        ("dashscope", "qwen3-rerank", 500),
        ("cohere", "rerank-v3.5", 1000),
        ("voyage", "rerank-2.5", 1000),
        ("bedrock", "cohere.rerank-v3-5:0", 1000),
        ("azure-cohere", "Cohere-rerank-v4.0-pro", 1000),
        ("nvidia", "nvidia/llama-3.2-nv-rerankqa-1b-v2", 512),
        ("vertex", "semantic-ranker-default-004", 200),
    ],
)
def test_documented_limits(provider: str, model: str, most: int) -> None:
    assert find(provider).most_documents(model) == most


@pytest.mark.parametrize(("provider", "most"), [("infinity", 2048), ("pinecone", 100), ("dashscope", 500)])
def test_a_request_beyond_the_limit_is_split(server: Loopback, provider: str, most: int) -> None:
    def answer(hit: Hit) -> Response:
        texts = [own if isinstance(own, str) else own["text"] for own in hit.body["documents"]]
        if len(texts) > most:
            return Response({"error": {"message": f"at most {most} documents"}}, 422)
        scores = [1 / (1 + int(text)) for text in texts]
        name, score = ("data", "score") if provider == "pinecone" else ("results", "relevance_score")
        return Response({name: [{"index": index, score: value} for index, value in enumerate(scores)]})

    server.handler = answer
    documents = [str(number) for number in reversed(range(most + 1))]
    with Reranker(provider, url=server.url, api_key="key-1234") as reranker:
        ranked = reranker.rank("q", documents)
    assert [result.text for result in ranked] == documents[::-1]
    assert len(server.hits) == 2


ARN = "arn:aws:bedrock:eu-central-1::foundation-model/cohere.rerank-v3-5:0"


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.mark.usefixtures("no_aws")
def test_bedrocks_region_is_the_options_then_the_arns_then_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert region(ApiOptions(region="eu-west-1"), ARN) == "eu-west-1"
    assert region(ApiOptions(), ARN) == "eu-central-1"
    assert region(ApiOptions(), "cohere.rerank-v3-5:0") == "us-west-2"
    assert "bedrock-agent-runtime.eu-central-1." in endpoint(find("bedrock"), ARN, ApiOptions())


@pytest.mark.usefixtures("no_aws")
def test_bedrocks_region_may_come_from_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    pytest.importorskip("botocore", reason="needs botocore: pip install 'rerank-api[bedrock]'")
    (tmp_path / "config").write_text("[default]\nregion = ap-south-1\n[profile work]\nregion = sa-east-1\n")
    assert region(ApiOptions(), None) == "ap-south-1"
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert region(ApiOptions(), None) == "sa-east-1"


@pytest.mark.parametrize(
    ("region", "host", "arn"),
    [
        ("us-east-1", "us-east-1.amazonaws.com", "arn:aws:"),
        ("us-gov-west-1", "us-gov-west-1.amazonaws.com", "arn:aws-us-gov:"),
        ("cn-north-1", "cn-north-1.amazonaws.com.cn", "arn:aws-cn:"),
        ("eusc-de-east-1", "eusc-de-east-1.amazonaws.eu", "arn:aws-eusc:"),
    ],
)
def test_a_region_has_its_partitions_host_and_arns(region: str, host: str, arn: str) -> None:
    options = ApiOptions(region=region)
    assert endpoint(find("bedrock"), "m", options) == f"https://bedrock-agent-runtime.{host}/rerank"
    body = request(Question(query="q", texts=["a"], model="m", top_k=None, options=options))
    model = body["rerankingConfiguration"]["bedrockRerankingConfiguration"]["modelConfiguration"]["modelArn"]
    assert model == f"{arn}bedrock:{region}::foundation-model/m"


@pytest.mark.usefixtures("no_aws")
def test_without_a_region_all_three_places_are_named() -> None:
    with pytest.raises(
        InvalidOptionsError, match="pass region=, give the model as an ARN, or set AWS_REGION or a profile"
    ):
        region(ApiOptions(), None)


@pytest.mark.usefixtures("no_aws")
@pytest.mark.parametrize("given", ["x@host/", "host/#", "us-east-1.evil.example", "us east", "US-EAST-1", "eu-1/"])
def test_a_region_that_would_leave_the_host_is_refused(given: str) -> None:
    with pytest.raises(InvalidOptionsError, match="is not an AWS region"):
        endpoint(find("bedrock"), None, ApiOptions(region=given))
    with pytest.raises(InvalidOptionsError, match="is not an AWS region"):
        region(ApiOptions(), f"arn:aws:bedrock:{given}::foundation-model/m")
