"""Any other service, described by the names of its fields; the default names are Cohere's.

```python
Reranker(
    "my-model", api_provider="generic", url="https://host/search/rank", documents_field="passages",
    text_field="body", top_k_field="limit", results_field="output.ranking", index_field="pos", score_field="value",
)
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question, RawAnswer


def request(question: Question) -> Mapping[str, Any]:
    """The body of a request with the user's own names."""
    named = question.options
    body: dict[str, Any] = {
        named.query_field: question.query,
        named.documents_field: [{named.text_field: text} for text in question.texts]
        if named.text_field
        else question.texts,
    }
    if named.model_field:
        body[named.model_field] = question.model
    if named.top_k_field:
        body[named.top_k_field] = question.top_k
    return body


def answer(body: Any, question: Question) -> RawAnswer:
    """Read an answer with the user's own names."""
    named = question.options
    read = read_list(named.results_field, index=named.index_field, score=named.score_field, usage=(named.usage_field,))
    return read(body, question)


GENERIC: Final = Provider(
    name="generic",
    summary="any other service, described by the names of its fields",
    keys=("RERANK_API_KEY",),
    key_required=False,
    request=request,
    answer=answer,
    scale="similarity",
    takes=frozenset(
        {
            "query_field",
            "documents_field",
            "text_field",
            "model_field",
            "top_k_field",
            "results_field",
            "index_field",
            "score_field",
            "usage_field",
            "template",
        }
    ),
)
