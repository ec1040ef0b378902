"""Cohere hosted on Azure: ``POST https://RESOURCE.services.ai.azure.com/providers/cohere/v2/rerank``.

Cohere's shape under the user's own address. A serverless deployment answers at ``/v1/rerank``: an address with
that end is used as it is. Limits and errors are not documented; Cohere's advice of 1,000 documents per request is kept.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from rerank_api.answers import read_list
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider
from rerank_api.providers.cohere import request


def path(model: str | None, options: ApiOptions) -> str:
    """The path of a Foundry resource, or of a serverless deployment if the address ends with that."""
    given = urlsplit(options.address or "").path
    return "/v1/rerank" if given.rstrip("/").endswith("/v1/rerank") else "/providers/cohere/v2/rerank"


AZURE_COHERE: Final = Provider(
    name="azure-cohere",
    summary="Cohere Rerank on Azure",
    path=path,
    keys=("AZURE_COHERE_API_KEY", "AZURE_AI_API_KEY"),
    models={"en": "Cohere-rerank-v4.0-fast", "other": "Cohere-rerank-v4.0-fast"},
    request=request,
    answer=read_list(usage=("meta.billed_units",)),
    takes=frozenset({"max_tokens_per_doc"}),
    max_documents=1000,
)
