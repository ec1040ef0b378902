"""The wire format of every provider: our request, its response and its error, written from its documentation.

Each example ranks `TEXTS` for `QUERY` with ``top_k=2``, and expects `scores` in the documents' order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

QUERY = "what is a panda?"
TEXTS = ["a kind of bread", "a bear of China", "hi 🐼"]
KEY = "key-that-nobody-may-see"
BEARER = {"authorization": f"Bearer {KEY}"}


@dataclass(frozen=True, kw_only=True)
class Example:
    provider: str
    path: str
    request: dict[str, Any]
    response: Any
    scores: list[float | None]
    model: str = "my-model"
    headers: dict[str, str] = field(default_factory=lambda: BEARER)
    options: dict[str, Any] = field(default_factory=dict)
    scale: str = "probability"
    usage: dict[str, float] = field(default_factory=dict)
    error: tuple[int, Any, str] = (400, {"message": "that was wrong"}, "that was wrong")

    @property
    def id(self) -> str:
        return self.provider


def cohere_like(**more: Any) -> dict[str, Any]:
    return {"model": "my-model", "query": QUERY, "documents": TEXTS, "top_n": 2, **more}


RESULTS = [{"index": 1, "relevance_score": 0.91}, {"index": 2, "relevance_score": 0.25}]
BEST = [None, 0.91, 0.25]

EXAMPLES = [
    Example(
        provider="cohere",
        path="/v2/rerank",
        request=cohere_like(max_tokens_per_doc=512),
        options={"max_tokens_per_doc": 512},
        response={
            "id": "07734bd2",
            "results": RESULTS,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        },
        scores=BEST,
        usage={"search_units": 1},
        error=(422, {"id": "e1", "message": "model 'my-model' not found"}, "model 'my-model' not found"),
    ),
    Example(
        provider="azure-cohere",
        path="/providers/cohere/v2/rerank",
        request=cohere_like(),
        response={"id": "x", "results": RESULTS, "meta": {"billed_units": {"search_units": 1}}},
        scores=BEST,
        usage={"search_units": 1},
    ),
    Example(
        provider="jina",
        path="/v1/rerank",
        request=cohere_like(return_documents=False),
        response={"model": "my-model", "usage": {"total_tokens": 15}, "results": RESULTS},
        scores=BEST,
        usage={"total_tokens": 15},
        error=(422, {"detail": [{"loc": ["body"], "msg": "Field required"}]}, "Field required"),
    ),
    Example(
        provider="voyage",
        path="/v1/rerank",
        request={
            "model": "my-model",
            "query": QUERY,
            "documents": TEXTS,
            "top_k": 2,
            "truncation": False,
            "return_documents": False,
        },
        options={"truncate": False},
        response={"object": "list", "data": RESULTS, "model": "my-model", "usage": {"total_tokens": 26}},
        scores=BEST,
        usage={"total_tokens": 26},
        error=(400, {"detail": "The request body is not valid JSON"}, "The request body is not valid JSON"),
    ),
    Example(
        provider="mixedbread",
        path="/v1/reranking",
        request={"model": "my-model", "query": QUERY, "input": TEXTS, "top_k": 2, "return_input": False},
        response={
            "model": "my-model",
            "object": "list",
            "data": [{"index": 1, "score": 0.91, "object": "rank_result"}, {"index": 2, "score": 0.25}],
            "usage": {"prompt_tokens": 20, "total_tokens": 20},
        },
        scores=BEST,
        usage={"prompt_tokens": 20, "total_tokens": 20},
    ),
    Example(
        provider="pinecone",
        path="/rerank",
        headers={"api-key": KEY, "x-pinecone-api-version": "2025-04"},
        request={
            "model": "my-model",
            "query": QUERY,
            "documents": [{"text": text} for text in TEXTS],
            "rank_fields": ["text"],
            "top_n": 2,
            "return_documents": False,
        },
        response={
            "model": "my-model",
            "data": [{"index": 1, "score": 0.91}, {"index": 2, "score": 0.25}],
            "usage": {"rerank_units": 1},
        },
        scores=BEST,
        usage={"rerank_units": 1},
        error=(
            400,
            {"error": {"code": "INVALID_ARGUMENT", "message": "unknown model"}, "status": 400},
            "unknown model",
        ),
    ),
    Example(
        provider="isaacus",
        path="/v1/rerankings",
        request={"model": "my-model", "query": QUERY, "texts": TEXTS, "top_n": 2, "is_iql": True},
        options={"extra_body": {"is_iql": True}},
        response={"results": [{"index": 1, "score": 0.91}, {"index": 2, "score": 0.25}], "usage": {"input_tokens": 19}},
        scores=BEST,
        usage={"input_tokens": 19},
    ),
    Example(
        provider="together",
        path="/v1/rerank",
        request=cohere_like(return_documents=False),
        response={
            "object": "rerank",
            "id": "9dfa1a09",
            "model": "my-model",
            "results": RESULTS,
            "usage": {"total_tokens": 9},
        },
        scores=BEST,
        usage={"total_tokens": 9},
        error=(
            404,
            {"id": "x", "error": {"message": "Unable to access model", "type": "invalid"}},
            "Unable to access model",
        ),
    ),
    Example(
        provider="nvidia",
        path="/v1/ranking",
        request={
            "model": "my-model",
            "query": {"text": QUERY},
            "passages": [{"text": text} for text in TEXTS],
            "truncate": "END",
        },
        options={"truncate": True},
        response={
            "rankings": [{"index": 1, "logit": 4.5}, {"index": 2, "logit": -1.5}, {"index": 0, "logit": -11.25}],
            "usage": {"prompt_tokens": 30, "total_tokens": 30},
        },
        scores=[-11.25, 4.5, -1.5],
        scale="logit",
        usage={"prompt_tokens": 30, "total_tokens": 30},
        error=(422, {"detail": "passages: too many"}, "passages: too many"),
    ),
    Example(
        provider="zeroentropy",
        path="/v1/models/rerank",
        request=cohere_like(),
        response={"results": RESULTS, "total_bytes": 60, "total_tokens": 17, "e2e_latency": 0.1},
        scores=BEST,
        usage={"total_bytes": 60, "total_tokens": 17},
        error=(413, {"detail": "payload too large"}, "batch_size"),
    ),
    Example(
        provider="contextual",
        path="/v1/rerank",
        request=cohere_like(instruction="newest first"),
        options={"instruction": "newest first"},
        response={"results": RESULTS},
        scores=BEST,
    ),
    Example(
        provider="vertex",
        path="/v1/projects/p1/locations/global/rankingConfigs/default_ranking_config:rank",
        options={"project": "p1"},
        request={
            "model": "my-model",
            "query": QUERY,
            "records": [{"id": str(i), "content": text} for i, text in enumerate(TEXTS)],
            "topN": 2,
        },
        response={"records": [{"id": "1", "score": 0.91}, {"id": "2", "score": 0.25}]},
        scores=BEST,
        error=(
            403,
            {"error": {"code": 403, "message": "caller lacks permission", "status": "PERMISSION_DENIED"}},
            "lacks",
        ),
    ),
    Example(
        provider="fireworks",
        path="/inference/v1/rerank",
        request=cohere_like(return_documents=False, task="find animals"),
        options={"instruction": "find animals"},
        response={"object": "list", "model": "my-model", "data": RESULTS, "usage": {"total_tokens": 12}},
        scores=BEST,
        usage={"total_tokens": 12},
    ),
    Example(
        provider="deepinfra",
        path="/v1/inference/my-model",
        request={"queries": [QUERY] * 3, "documents": TEXTS, "instruction": "find animals"},
        options={"instruction": "find animals"},
        response={"scores": [0.01, 0.91, 0.25], "input_tokens": 42, "request_id": "r1"},
        scores=[0.01, 0.91, 0.25],
        usage={"input_tokens": 42},
        error=(404, {"error": "Model is not available"}, "Model is not available"),
    ),
    Example(
        provider="dashscope",
        path="/compatible-api/v1/reranks",
        request=cohere_like(return_documents=False, instruct="find animals"),
        options={"instruction": "find animals"},
        response={"id": "d1", "object": "list", "results": RESULTS, "usage": {"total_tokens": 79}},
        scores=BEST,
        usage={"total_tokens": 79},
        error=(
            400,
            {"code": "InvalidParameter", "message": "documents too long", "request_id": "q"},
            "documents too long",
        ),
    ),
    Example(
        provider="siliconflow",
        path="/v1/rerank",
        request=cohere_like(return_documents=False, max_chunks_per_doc=8, overlap_tokens=10),
        options={"extra_body": {"max_chunks_per_doc": 8, "overlap_tokens": 10}},
        response={"id": "s1", "results": RESULTS, "meta": {"tokens": {"input_tokens": 11, "output_tokens": 0}}},
        scores=BEST,
        usage={"input_tokens": 11, "output_tokens": 0},
        error=(400, {"code": 20012, "message": "Model does not exist", "data": ""}, "Model does not exist"),
    ),
    Example(
        provider="tei",
        path="/rerank",
        request={"query": QUERY, "texts": TEXTS, "truncate": True, "raw_scores": True, "return_text": False},
        options={"truncate": True, "raw_scores": True},
        response=[{"index": 1, "score": 4.5}, {"index": 2, "score": -1.5}, {"index": 0, "score": -11.25}],
        scores=[-11.25, 4.5, -1.5],
        scale="logit",
        error=(422, {"error": "inputs must have less than 512 tokens", "error_type": "Validation"}, "less than 512"),
    ),
    Example(
        provider="vllm",
        path="/v1/rerank",
        request=cohere_like(max_tokens_per_doc=64),
        options={"max_tokens_per_doc": 64},
        response={
            "id": "rerank-1",
            "model": "my-model",
            "usage": {"prompt_tokens": 56, "total_tokens": 56},
            "results": [
                {"index": 1, "document": {"text": TEXTS[1]}, "relevance_score": 0.91},
                {"index": 2, "document": {"text": TEXTS[2]}, "relevance_score": 0.25},
            ],
        },
        scores=BEST,
        usage={"prompt_tokens": 56, "total_tokens": 56},
        error=(
            404,
            {"error": {"message": "The model does not exist.", "type": "NotFoundError", "code": 404}},
            "does not exist",
        ),
    ),
    Example(
        provider="vllm-score",
        path="/v1/score",
        request={"model": "my-model", "text_1": QUERY, "text_2": TEXTS},
        response={
            "id": "score-1",
            "object": "list",
            "created": 1,
            "model": "my-model",
            "data": [{"index": i, "object": "score", "score": s} for i, s in enumerate((0.01, 0.91, 0.25))],
            "usage": {},
        },
        scores=[0.01, 0.91, 0.25],
        error=(400, {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, "too long"),
    ),
    Example(
        provider="sglang",
        path="/v1/rerank",
        request=cohere_like(instruct="find animals", return_documents=False),
        options={"instruction": "find animals"},
        response=[
            {"score": 0.91, "document": None, "index": 1, "meta_info": {"id": "a"}},
            {"score": 0.25, "document": None, "index": 2, "meta_info": {"id": "b"}},
        ],
        scores=BEST,
    ),
    Example(
        provider="infinity",
        path="/rerank",
        request=cohere_like(raw_scores=True, return_documents=False),
        options={"raw_scores": True},
        response={
            "object": "rerank",
            "results": [{"relevance_score": 4.5, "index": 1, "document": None}, {"relevance_score": -1.5, "index": 2}],
            "model": "my-model",
            "usage": {"prompt_tokens": 40, "total_tokens": 40},
            "id": "infinity-1",
            "created": 1,
        },
        scores=[None, 4.5, -1.5],
        scale="logit",
        usage={"prompt_tokens": 40, "total_tokens": 40},
        error=(400, {"error": {"message": "model not found", "type": None, "code": 400}}, "model not found"),
    ),
    Example(
        provider="llama.cpp",
        path="/v1/rerank",
        request=cohere_like(),
        response={
            "model": "my-model",
            "object": "list",
            "usage": {"prompt_tokens": 51, "total_tokens": 51},
            "results": [
                {"index": 0, "relevance_score": -11.25},
                {"index": 1, "relevance_score": 4.5},
                {"index": 2, "relevance_score": -1.5},
            ],
        },
        scores=[-11.25, 4.5, -1.5],
        scale="logit",
        usage={"prompt_tokens": 51, "total_tokens": 51},
        error=(400, {"error": {"code": 400, "message": "input too large", "type": "invalid"}}, "input too large"),
    ),
    Example(
        provider="xinference",
        path="/v1/rerank",
        request=cohere_like(return_documents=False),
        response={
            "id": "x1",
            "results": [{**RESULTS[0], "document": None}, {**RESULTS[1], "document": {"text": TEXTS[2]}}],
            "meta": {"tokens": {"input_tokens": 3, "output_tokens": 4}, "billed_units": None},
        },
        scores=BEST,
        usage={"input_tokens": 3, "output_tokens": 4},
        error=(400, {"detail": "Model not found in the model list"}, "Model not found in the model list"),
    ),
    Example(
        provider="localai",
        path="/v1/rerank",
        request=cohere_like(),
        response={"model": "my-model", "usage": {"total_tokens": 7, "prompt_tokens": 7}, "results": RESULTS},
        scores=BEST,
        scale="similarity",
        usage={"total_tokens": 7, "prompt_tokens": 7},
        error=(500, {"error": {"code": 500, "message": "no backend", "type": ""}}, "no backend"),
    ),
    Example(
        provider="generic",
        path="/api/search/rank",
        options={
            "query_field": "q",
            "documents_field": "passages",
            "text_field": "body",
            "model_field": "",
            "top_k_field": "limit",
            "results_field": "output.ranking",
            "index_field": "pos",
            "score_field": "value.raw",
            "usage_field": "cost",
            "score_scale": "logit",
        },
        request={"q": QUERY, "passages": [{"body": text} for text in TEXTS], "limit": 2},
        response={
            "output": {"ranking": [{"pos": 1, "value": {"raw": 4.5}}, {"pos": 2, "value": {"raw": -1.5}}]},
            "cost": 3,
        },
        scores=[None, 4.5, -1.5],
        scale="logit",
        usage={"cost": 3},
    ),
    Example(
        provider="bedrock",
        path="/rerank",
        model="cohere.rerank-v3-5:0",
        headers={"x-amz-date": "", "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"},
        options={"region": "us-west-2"},
        request={
            "queries": [{"type": "TEXT", "textQuery": {"text": QUERY}}],
            "sources": [
                {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": text}}}
                for text in TEXTS
            ],
            "rerankingConfiguration": {
                "type": "BEDROCK_RERANKING_MODEL",
                "bedrockRerankingConfiguration": {
                    "modelConfiguration": {
                        "modelArn": "arn:aws:bedrock:us-west-2::foundation-model/cohere.rerank-v3-5:0"
                    },
                    "numberOfResults": 2,
                },
            },
        },
        response={"results": [{"index": 1, "relevanceScore": 0.91}, {"index": 2, "relevanceScore": 0.25}]},
        scores=BEST,
        error=(400, {"message": "The provided model identifier is invalid."}, "model identifier is invalid"),
    ),
]
